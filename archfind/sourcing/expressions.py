"""A module of the tree as the expression that constructs it."""

from __future__ import annotations

import re

from archfind.sourcing.names import is_plain
from archfind.sourcing.nodes import Hole, ProgramCall, ProgramList, Repeat, Symbol, quoted_name
from archfind.sourcing.parts import ModulePart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import TensorSpec

_BY_PLACE = (
    "in_channels", "out_channels", "kernel_size", "in_features", "out_features", "num_features",
    "num_groups", "num_channels", "normalized_shape", "num_embeddings", "embedding_dim",
    "input_size",
    "hidden_size", "embed_dim", "num_heads", "num_parameters", "d_model", "nhead",
    "p", "upscale_factor",
)  # fmt: skip
_FLOATS = re.compile(r"float(16|32|64)|bfloat16|complex(64|128)|float8_e[45]m[23]fn(uz)?\Z")
_INTEGERS = re.compile(r"u?int(8|16|32|64)\Z|bool\Z")
SETTINGS = ("activation", "final")  # layers that a constructor's argument makes
_FEWEST = 3  # equal modules in a row that are written as one expression


def module_expression(part: ModulePart, classes: Mapping[str, object]) -> object:
    """The expression that makes `part`; `classes` has those of blocks, by their paths."""
    if part.is_block:
        return classes[part.path]
    if part.kind in ("Sequential", "ModuleList"):
        return _container(part, classes)
    if part.kind in ("TransformerEncoder", "TransformerDecoder"):
        return _stack(part, classes)
    if part.kind in SETTINGS:
        return Symbol(part.kind, True)
    made = ProgramCall(f"nn.{part.kind}", _arguments(part.arguments))
    return ProgramCall(part.wrapped, (("", made),)) if part.wrapped else made


def _arguments(arguments: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    held: list[tuple[str, object]] = []
    for name, value in arguments.items():
        if isinstance(value, tuple):
            value = _shortened(name, value)
        node = value if isinstance(value, Symbol | str) else Hole(value, name)
        by_place = name in _BY_PLACE and all(key == "" for key, _ in held)
        held.append(("" if by_place else name, node))
    return tuple(held)


def _shortened(name: str, sizes: tuple[object, ...]) -> object:
    """Equal sizes as one number, as torch takes them; a norm's are its dimensions."""
    alike = len(set(sizes)) == 1 and (name != "normalized_shape" or len(sizes) == 1)
    return sizes[0] if alike else sizes


def _container(part: ModulePart, classes: Mapping[str, object]) -> object:
    items = [(name, module_expression(child, classes)) for name, child in _filled(part)]
    names = [name for name, _ in items]
    if names != [str(number) for number in range(len(names))]:
        pairs = [ProgramList("(", ")", (quoted_name(name), node)) for name, node in items]
        held = ProgramCall("OrderedDict", (("", ProgramList("[", "]", tuple(pairs))),))
        return ProgramCall("nn.Sequential", (("", held),))
    nodes = _repeated([node for _, node in items])
    if part.kind == "ModuleList":
        if len(nodes) == 1 and isinstance(nodes[0], Repeat):
            return ProgramCall("nn.ModuleList", (("", _generator(nodes[0])),))
        return ProgramCall("nn.ModuleList", (("", ProgramList("[", "]", tuple(nodes))),))
    return ProgramCall("nn.Sequential", tuple(("", node) for node in nodes))


def _generator(repeat: Repeat) -> object:
    return ProgramList("[", "]", (repeat,))


def _filled(part: ModulePart) -> list[tuple[str, ModulePart]]:
    """A container's children, with layers without tensors in the gaps between their numbers."""
    if not all(name.isdecimal() for name in part.children):
        return list(part.children.items())
    by_number = {int(name): child for name, child in part.children.items()}
    for name, (kind, arguments) in part.extras.items():
        extra = ModulePart(name, f"{part.path}.{name}")
        extra.kind, extra.arguments = kind, dict(arguments)
        by_number.setdefault(int(name), extra)
    held: list[tuple[str, ModulePart]] = []
    for number in range(max(by_number) + 1):
        child = by_number.get(number)
        if child is None:
            child = ModulePart(str(number), f"{part.path}.{number}")
            child.kind = "Identity"
        held.append((str(number), child))
    return held


def _repeated(nodes: list[object]) -> list[object]:
    """Runs of equal expressions as one each."""
    held: list[object] = []
    start = 0
    while start < len(nodes):
        end = start + 1
        while end < len(nodes) and nodes[end] == nodes[start]:
            end += 1
        if end - start >= _FEWEST:
            held.append(Repeat(nodes[start], Hole(end - start, "depth")))
        else:
            held += nodes[start:end]
        start = end
    return held


def _stack(part: ModulePart, classes: Mapping[str, object]) -> object:
    first = next(iter(part.children["layers"].children.values()))
    held: list[tuple[str, object]] = [("", module_expression(first, classes))]
    held.append(("", Hole(len(part.children["layers"].children), "num_layers")))
    norm = part.children.get("norm")
    if norm is not None:
        held.append(("norm", module_expression(norm, classes)))
    if part.kind == "TransformerEncoder":
        held.append(("enable_nested_tensor", Hole(False, "enable_nested_tensor")))
    return ProgramCall(f"nn.{part.kind}", tuple(held))


def tensor_statement(name: str, spec: TensorSpec, is_free: bool) -> tuple[str, object, str]:
    """The statement that registers a tensor of a block's own: what stands before its expression,
    the expression, and what stands after it. `is_free`: nothing else has its name."""
    dtype = spec.dtype if _FLOATS.match(spec.dtype) or _INTEGERS.match(spec.dtype) else "float32"
    shape = Hole(tuple(spec.shape), "shape")
    arguments: tuple[tuple[str, object], ...] = (("", shape),)
    if len(spec.shape):
        arguments = tuple(("", Hole(size, "size")) for size in spec.shape)
    if dtype != "float32":
        arguments = (*arguments, ("dtype", f"torch.{dtype}"))
    zeros = ProgramCall("torch.zeros", arguments)
    plain = is_free and is_plain(name)
    if _FLOATS.match(dtype):
        made = ProgramCall("nn.Parameter", (("", zeros),))
        start = f"self.{name}" if plain else f"self._parameters[{quoted_name(name)}]"
        return f"{start} = ", made, ""
    if plain:
        return f'self.register_buffer("{name}", ', zeros, ")"
    return f"self._buffers[{quoted_name(name)}] = ", zeros, ""
