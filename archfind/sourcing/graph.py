"""The graph of a torch.export program -> Program."""

from __future__ import annotations

from archfind.sourcing.program import FileProgram, Op, ProgramWeight, Ref, Unfollowed, Word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST = 20_000  # operations
_PREFIX = "torch.ops.aten."
_CHECK = "torch.ops.aten._assert_tensor_metadata."  # of what tracing saw: it gives nothing
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 12: "bool", 13: "bfloat16",
}  # fmt: skip
# Arguments that say where numbers lie, and nothing of what they are.
_PLACES = ("device", "pin_memory", "layout", "memory_format", "non_blocking", "copy")


def graph_program(document: Any) -> FileProgram:
    """The operations of a program's JSON. Unfollowed where it holds something that isn't known."""
    try:
        return _program(document["graph_module"])
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise Unfollowed("its graph has another form") from error


def _program(module: Any) -> FileProgram:
    graph, signature = module["graph"], module["signature"]
    names: dict[str, object] = {}
    inputs: list[str] = []
    for spec in signature["input_specs"]:
        (kind, held), *_ = spec.items()
        if kind == "user_input":
            inputs.append(held["arg"]["as_tensor"]["name"])
            continue
        key = held.get("parameter_name") or held.get("buffer_name")
        if kind not in ("parameter", "buffer") or not isinstance(key, str):
            raise Unfollowed(f"an input of kind {kind}")
        names[held["arg"]["name"]] = ProgramWeight(key)
    if len(graph["nodes"]) > _MOST:
        raise Unfollowed("too many operations")
    classes: dict[str, str] = {}
    calls: dict[str, int] = {}
    nodes = [node for node in graph["nodes"] if not node["target"].startswith(_CHECK)]
    ops = [_op(node, names, classes, calls) for node in nodes]
    outs = signature["output_specs"]
    if not all("user_output" in spec for spec in outs):
        raise Unfollowed("it changes tensors of its own")
    given = [Ref(spec["user_output"]["arg"]["as_tensor"]["name"]) for spec in outs]
    if any(ref.name in names for ref in given):
        raise Unfollowed("it gives its own tensors")
    outputs: object = given[0] if len(given) == 1 else tuple(given)
    return FileProgram(tuple(inputs), tuple(ops), outputs, classes)


def _op(node: Any, names: dict[str, object], classes: dict[str, str], calls: dict[str, int]) -> Op:
    target = node["target"]
    if not target.startswith(_PREFIX):
        raise Unfollowed(f"an operation {target[:40]}")
    args: list[object] = []
    kwargs: list[tuple[str, object]] = []
    for item in node["inputs"]:
        if item["name"] in _PLACES:
            continue
        value = _value(item["arg"], names)
        if item.get("kind", 1) == 2:
            kwargs.append((item["name"], value))
        else:
            args.append(value)
    stack: list[tuple[str, int]] = []
    for entry in filter(None, node["metadata"].get("nn_module_stack", "").split(";")):
        key, path, cls = entry.split(",")[:3]
        stack.append((path, calls.setdefault(key, len(calls))))
        classes.setdefault(path, cls)
    outs = node["outputs"]
    if len(outs) == 1 and "as_tensors" in outs[0]:
        given, multiple = [one["name"] for one in outs[0]["as_tensors"]], True
    else:
        given, multiple = [one["as_tensor"]["name"] for one in outs], len(outs) > 1
    stack = stack or [("", 0)]
    name = target.removeprefix(_PREFIX).partition(".")[0]
    return Op(name, tuple(args), tuple(kwargs), tuple(given), tuple(stack), multiple)


def _value(arg: Any, names: dict[str, object]) -> object:
    (kind, held), *_ = arg.items()
    if kind == "as_tensor":
        return names.get(held["name"], Ref(held["name"]))
    if kind == "as_tensors":
        return [names.get(one["name"], Ref(one["name"])) for one in held]
    if kind == "as_none":
        return None
    if kind in ("as_int", "as_float", "as_bool", "as_ints", "as_floats", "as_bools", "as_string"):
        return held
    if kind == "as_scalar_type":
        return Word(f"torch.{_DTYPES[held]}")
    if kind == "as_sym_int" and "as_int" in held:
        return held["as_int"]
    if kind == "as_sym_ints":
        return [one["as_int"] for one in held]
    if kind == "as_optional_tensors":
        return [Ref(one["as_tensor"]["name"]) if "as_tensor" in one else None for one in held]
    raise Unfollowed(f"an argument {kind}")
