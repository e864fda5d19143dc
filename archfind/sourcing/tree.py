"""The tree of modules that a state dict's keys and tensors stand for."""

from __future__ import annotations

from archfind.evidence.layers import layers
from archfind.sourcing.leaves import recognise
from archfind.sourcing.parts import BLOCK, WITHOUT_TENSORS, ModulePart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.types import TensorSpec

    Listing = Mapping[str, tuple[str, Mapping[str, object]]]

DEEPEST = 40  # levels of modules; torch itself recurses through them
MOST = 20_000  # tensors that get layers; a larger state dict is held by one class
_PARAMETRISED = "parametrizations"


def is_writable(index: Mapping[str, TensorSpec]) -> bool:
    """Whether a state dict gets a tree of modules: its names aren't deeper, its tensors not more,
    than those of any network that a person made."""
    return len(index) <= MOST and all(
        key.count(".") < DEEPEST and all(key.split(".")) for key in index
    )


def module_tree(index: Mapping[str, TensorSpec], listing: Listing) -> ModulePart:
    """The modules of a state dict, in the order in which the file has them. `listing` has the
    class and the attributes of each module by its path, where the file is a whole pickle."""
    top = ModulePart("", "")
    for path in listing:  # first: it has those without tensors, in the order of registration
        _at(top, path)
    for key, spec in index.items():
        path, _, name = key.rpartition(".")
        _at(top, path).tensors[name] = spec
    if not listing and len(index) > 2 and list(index) == sorted(index):
        _reorder(top)
    known = {layer.path: layer for layer in layers(index)}
    for part in reversed(list(top.walk())):
        part.stated, part.said = listing.get(part.path, ("", {}))
        _settle(part, known)
    return top


def _at(top: ModulePart, path: str) -> ModulePart:
    part = top
    if not path:
        return part
    so_far: list[str] = []
    for name in path.split("."):
        so_far.append(name)
        if name not in part.children:
            part.children[name] = ModulePart(name, ".".join(so_far))
        part = part.children[name]
    return part


def _reorder(top: ModulePart) -> None:
    """Children by number, and where their names say that they stand: the file sorted its keys."""
    from archfind.evidence.layers import place_of_module
    from archfind.state_dicts.key_names import natural

    for part in top.walk():
        names = sorted(part.children, key=lambda name: (place_of_module(name), natural(name)))
        part.children = {name: part.children[name] for name in names}


def _settle(part: ModulePart, known: Mapping[str, Any]) -> None:
    if part.tensors and recognise(part, known.get(part.path), bool(part.children)):
        part.tensors = {}
        return
    stated = part.stated.rpartition(".")[2] if part.stated.startswith("torch.nn.") else ""
    numbered = bool(part.children) and all(name.isdecimal() for name in part.children)
    if stated in WITHOUT_TENSORS and not part.children and not part.tensors:
        part.kind = stated  # a layer without tensors
    elif stated in ("Sequential", "ModuleList") and not part.tensors:
        part.kind = stated
    elif numbered and not part.tensors and not stated and not part.stated:
        part.kind = "Sequential" if _plain_numbers(part) else BLOCK


def _plain_numbers(part: ModulePart) -> bool:
    """Whether the children's names are numbers as torch writes them, in order and few beyond."""
    numbers = [int(name) for name in part.children if len(name) < 5]
    names = [str(number) for number in numbers]
    return (
        names == list(part.children)
        and numbers == sorted(numbers)
        and numbers[-1] <= 8 * len(numbers) + 8
    )
