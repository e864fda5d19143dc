"""Whole pickled networks: `nn.Module` objects and TorchScript modules, read as state dicts."""

from __future__ import annotations

from archfind.errors import LimitExceeded
from archfind.formats import limits
from archfind.formats.pickles.nodes import Group, Packed, PickledCall, Tensor
from archfind.formats.torch_files.quantised_modules import layer_state, packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from archfind.formats.torch_files.flatten import Flat

    State = dict[object, object]

_NOISE = frozenset(("training", "dump_patches", "call_super_init", "T_destination"))
_SCRIPT = "__torch__."


def module_state(value: object) -> State | None:
    """The attributes of a pickled `nn.Module` of any class, else None."""
    if type(value) is not PickledCall:
        return None
    if type(value.state) is tuple and len(value.state) > 2:
        return layer_state(value.name, value.state)  # no other module has such a state
    args = value.args if type(value.args) is tuple else ()
    for state in (value.state, *args[:1]):  # torch.fx hands its attributes over as an argument
        if type(state) is tuple and state:
            state = state[0]
        if type(state) is dict and "_modules" in state and "_parameters" in state:
            return layer_state(value.name, state) or state
        if type(state) is PickledCall and state.items and value.name.endswith("_persistent_obj"):
            # NVlabs' persistence: a dict of class_name, source text and state
            inner = dict(pair for pair in state.items[:20] if type(pair[0]) is str).get("state")
            if type(inner) is dict and "_modules" in inner and "_parameters" in inner:
                return inner
    return None


def _class_name(call: PickledCall) -> str:
    named = _persisted(call, "class_name")
    return named[: limits.NAME_LENGTH] if named else call.name


def _persisted(call: PickledCall, field: str) -> str:
    """A text that NVlabs' persistence keeps beside an object's state."""
    args = call.args if type(call.args) is tuple else ()
    if not args or not call.name.endswith("_persistent_obj"):
        return ""
    meta = args[0]
    pairs = meta.items[:20] if type(meta) is PickledCall and meta.items else ()
    held = meta if type(meta) is dict else {k: v for k, v in pairs if type(k) is str}
    text = held.get(field)
    return text if type(text) is str else ""


def add_module(pointer: str, root: PickledCall, flat: Flat) -> None:
    """Adds a module's tensors, in the order of its own `state_dict()`, classes and attributes."""
    base = pointer + "/" if pointer else ""
    path: list[tuple[str, Iterator[tuple[object, object]], int]] = []
    open_ids: set[int] = set()

    def enter(prefix: str, module: PickledCall, state: State) -> None:
        here = pointer if not prefix else base + prefix[:-1]
        flat.objects[here] = _class_name(module)
        flat.source(flat.objects[here], state.get("_code"))  # torch.fx
        flat.source(flat.objects[here], _persisted(module, "module_src"))
        _add_tensors(base + prefix, state, flat)
        _add_attributes(here, state, flat)
        children = state.get("_modules")
        if len(path) >= limits.WALK_DEPTH:
            raise LimitExceeded(
                f"refused: modules nested deeper than {limits.WALK_DEPTH:,} levels", flat.path
            )
        if type(children) is dict:
            open_ids.add(id(module))
            path.append((prefix, iter(children.items()), id(module)))

    state = module_state(root)
    if state is not None:
        enter("", root, state)
    while path:
        prefix, children, identity = path[-1]
        for key, child in children:
            if type(key) is not str or type(child) is not PickledCall or id(child) in open_ids:
                continue
            flat.count(1, len(base) + len(prefix) + len(key))
            state = module_state(child)
            if state is None:
                flat.objects[base + prefix + _escaped(key)] = child.name
                continue
            depth = len(path)
            enter(prefix + _escaped(key) + ".", child, state)
            if len(path) > depth:
                break
        else:
            path.pop()
            open_ids.discard(identity)


def _add_tensors(prefix: str, state: State, flat: Flat) -> None:
    passing = state.get("_non_persistent_buffers_set")
    skipped = {
        name for name in (passing.members if type(passing) is Group else ()) if type(name) is str
    }
    for kind in ("_parameters", "_buffers"):
        held = state.get(kind)
        if type(held) is not dict:
            continue
        for key, value in held.items():
            if type(key) is str and type(value) in (Tensor, Packed):
                if kind == "_buffers" and key in skipped:
                    continue
                flat.count(1, len(prefix) + len(key))
                add = flat.packed if type(value) is Packed else flat.tensor
                add(prefix + _escaped(key), value)  # pyright: ignore
    for key, value in state.items():
        if type(key) is str and packed(value) is not None:
            flat.in_a_row(prefix + _escaped(key), value)


def _add_attributes(here: str, state: State, flat: Flat) -> None:
    for key, value in state.items():
        if type(key) is not str or key.startswith("_") or key in _NOISE:
            continue
        name = f"{here}@{_escaped(key)}"
        if type(value) is dict:  # yolov5 keeps its layer table in `model.yaml`
            for inner, one in value.items():
                if type(inner) is str or type(inner) is int:
                    _attribute(f"{name}/{_escaped(str(inner))}", one, flat)
        else:
            _attribute(name, value, flat)


def _attribute(pointer: str, value: object, flat: Flat) -> None:
    flat.count(1, len(pointer))
    if flat.attributes < limits.MODULE_ATTRIBUTES and flat.plain(pointer, value):
        flat.attributes += 1


def add_script(root: object, flat: Flat) -> None:
    """Adds a TorchScript module's tensors; its pickle does not tell parameters from buffers."""
    if not _is_script(root):
        return
    path: list[tuple[str, Iterator[tuple[object, object]], int]] = []
    open_ids: set[int] = set()

    def enter(prefix: str, module: PickledCall) -> None:
        flat.objects[prefix[:-1]] = _script_class(module.name)
        if len(path) >= limits.WALK_DEPTH:
            raise LimitExceeded(
                f"refused: modules nested deeper than {limits.WALK_DEPTH:,} levels", flat.path
            )
        if type(module.state) is dict:
            open_ids.add(id(module))
            path.append((prefix, iter(module.state.items()), id(module)))

    enter("", root)  # pyright: ignore
    while path:
        prefix, attributes, identity = path[-1]
        for key, value in attributes:
            if type(key) is not str:
                continue
            name = _escaped(key)
            flat.count(1, len(prefix) + len(name))
            if type(value) is Tensor:
                flat.tensor(prefix + name, value)
            elif _is_script(value):
                if id(value) not in open_ids:
                    depth = len(path)
                    enter(f"{prefix}{name}.", value)  # pyright: ignore
                    if len(path) > depth:
                        break
            elif type(value) in (list, tuple) and _holds_tensor(value):  # pyright: ignore
                for i, one in enumerate(value):  # pyright: ignore
                    if type(one) is Tensor:
                        flat.count(1, len(prefix) + len(name))
                        flat.tensor(f"{prefix}{name}.{i}", one)
            elif not key.startswith("_") and key not in _NOISE:
                _attribute(f"{prefix[:-1]}@{name}", value, flat)
        else:
            path.pop()
            open_ids.discard(identity)


def _is_script(value: object) -> bool:
    return type(value) is PickledCall and value.name.startswith(_SCRIPT)


def _script_class(name: str) -> str:
    """A class name without what TorchScript adds: `__torch__.` and `___torch_mangle_1`."""
    parts = name[len(_SCRIPT) :].split(".")
    return ".".join(part for part in parts if not part.startswith("___torch_mangle_"))


def _holds_tensor(values: list[object] | tuple[object, ...]) -> bool:
    return bool(values) and type(values[0]) is Tensor


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1") if "/" in name or "~" in name else name
