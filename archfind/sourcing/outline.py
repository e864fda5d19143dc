"""The layers of a state dict by the modules that hold them, for people."""

from __future__ import annotations

from itertools import groupby

from archfind.sourcing.explained import unprefixed
from archfind.sourcing.expressions import module_expression
from archfind.sourcing.nodes import Printer
from archfind.sourcing.parts import ModulePart
from archfind.sourcing.stacks import torch_stacks
from archfind.sourcing.tree import is_writable, module_tree
from archfind.sourcing.unseen import Asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import TensorSpec

MOST = 5_000  # tensors of a network that is outlined


def outline(index: Mapping[str, TensorSpec]) -> dict[str, list[str]]:
    """The layers below each module at the top of a network, in their order, as the expressions that
    make them without what no tensor shows: {"enc1": ["Conv2d(3, 8, 3)", "BatchNorm2d(8)"]}. Empty
    where the names are no tree of modules. Raises nothing."""
    plain, _ = unprefixed(index)
    if not is_writable(plain) or len(plain) > MOST:
        return {}
    top = module_tree(plain, {})
    torch_stacks(top, Asked({}))
    return {name: list(_layers(child)) for name, child in top.children.items()}


def _layers(part: ModulePart) -> list[str]:
    if not part.is_block and part.kind not in ("Sequential", "ModuleList"):
        part.arguments.pop("batch_first", None)  # which no tensor shows
        return [Printer({}).flat(module_expression(part, {})).replace("nn.", "")]
    tensors = [f"{name} {list(spec.shape)}" for name, spec in part.tensors.items()]
    children = [_layers(child) for child in part.children.values()]
    if not all(name.isdecimal() for name in part.children):
        return tensors + [word for child in children for word in child]
    held: list[str] = []
    for words, same in groupby(children):
        count = len(list(same))
        alike = count > 1 and len(words) > 1
        held += [f"({counted_layers(words)}) x {count}"] if alike else words * count
    return tensors + held


def counted_layers(layers: list[str]) -> str:
    """Layers in a row, equal ones beside one another once with their number."""
    rows = ((word, len(list(same))) for word, same in groupby(layers))
    return ", ".join(f"{word} x {count}" if count > 1 else word for word, count in rows)
