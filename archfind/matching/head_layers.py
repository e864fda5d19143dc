"""Tensors -> the layers of a head: Linears, norms, and what must stand between them.

A state dict shows the layers that have tensors, their widths, and in a Sequential the numbers of
those that have none. Widths must run through from the backbone's features to the outputs; a reading
that isn't the only one is no reading. This module is on the cold path of `archfind guess`.
"""

from __future__ import annotations

from itertools import permutations

from archfind.frozen import replace
from archfind.state_dicts.key_names import number_in_key
from archfind.types import HeadLayer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]
    Tree = dict[str, "Tree | HeadLayer"]
    Groups = list[tuple[str, list[HeadLayer]]]

# ReLU and Dropout between two Linears, or pooling and Flatten before the first; where there is room
# for more, nobody knows what fills it.
_SLOTS = 2
_SHUFFLED = 5  # groups whose order is tried in every way, where a file doesn't keep it
_NOWHERE = ".", -1
_NORMS = ("BatchNorm1d", "LayerNorm")


def head_layers(
    index: Index, base: str, width: int, start: int = 0, ordered: bool = True
) -> tuple[HeadLayer, ...]:
    """The layers that `index` holds at or below the path `base`, in the order in which they run, or
    () where it holds anything else or can be read in two ways.

    `width` features come in. `start` is the first number of a Sequential that is replaced from
    there on. `ordered`: the file has its keys in the order of the modules, not of the alphabet.
    """
    tree = _tree(index, base)
    if tree is None:
        return ()
    if isinstance(tree, HeadLayer):
        one = _chain([tree], width, base, 0)
        return one.layers_of_a_head() if one else ()
    while len(tree) == 1:
        name, child = next(iter(tree.items()))
        if isinstance(child, HeadLayer):
            break
        tree, base, start = child, _join(base, name), 0
    groups = _groups(tree)
    if not groups:
        return ()
    found: dict[object, tuple[HeadLayer, ...]] = {}
    shuffled = not ordered and not groups[0][0].isdecimal() and len(groups) <= _SHUFFLED
    for order in permutations(groups) if shuffled else (tuple(groups),):
        for trunk, branches in _splits(list(order)):
            read = _read(trunk, branches, width, base, start)
            if read:
                found[tuple(n for n, _ in trunk), frozenset(n for n, _ in branches)] = read
    return next(iter(found.values())) if len(found) == 1 else ()


def describe_head(layers: tuple[HeadLayer, ...]) -> str:
    """ "Linear(2048, 256), ReLU, Dropout, Linear(256, 10)"."""
    words: list[str] = []
    for layer in layers:
        if layer.kind == "Identity":
            continue
        sizes = [str(size) for size in layer.sizes if layer.kind != "PReLU"]
        sizes += ["bias=False"] * (layer.kind == "Linear" and not layer.bias)
        words.append(f"{layer.kind}({', '.join(sizes)})" if sizes else layer.kind)
    return ", ".join(words)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _tree(index: Index, base: str) -> Tree | HeadLayer | None:
    """Layers by the parts of their paths; None where a tensor is no part of such a layer."""
    held: dict[str, dict[str, TensorSpec]] = {}
    for key, spec in index.items():
        path, _, leaf = key.rpartition(".")
        held.setdefault(path, {})[leaf] = spec
    root: Tree = {}
    for path, tensors in held.items():
        layer = _layer(path, tensors)
        if layer is None or not path:
            return None
        if path == base:
            return layer if len(held) == 1 else None
        parts = path[len(base) + 1 if base else 0 :].split(".")
        node = root
        for part in parts[:-1]:
            below = node.setdefault(part, {})
            if isinstance(below, HeadLayer):
                return None
            node = below
        if parts[-1] in node:
            return None
        node[parts[-1]] = layer
    return root


def _layer(path: str, tensors: dict[str, TensorSpec]) -> HeadLayer | None:
    """The layer that has just these tensors."""
    shapes = {k: s.shape for k, s in tensors.items() if k != "num_batches_tracked"}
    if any("float" not in tensors[leaf].dtype for leaf in shapes):
        return None
    weight, bias = shapes.get("weight", ()), shapes.get("bias")
    names = set(shapes)
    if len(weight) == 2 and names <= {"weight", "bias"} and len(shapes) == len(tensors):
        if 0 in weight or bias not in (None, weight[:1]):
            return None
        return HeadLayer(path, "Linear", (weight[1], weight[0]), bias is not None)
    if len(weight) != 1 or len({*shapes.values()}) != 1:
        return None
    if names == {"weight", "bias", "running_mean", "running_var"}:
        return HeadLayer(path, "BatchNorm1d", weight)
    if len(shapes) < len(tensors):
        return None
    if names == {"weight", "bias"} and weight[0] > 1:
        return HeadLayer(path, "LayerNorm", weight)
    return HeadLayer(path, "PReLU", weight) if names == {"weight"} and weight == (1,) else None


def _groups(tree: Tree) -> Groups:
    """The children with the layers of each, in the order in which they run; empty where names and
    numbers are mixed, so that nothing says which comes first."""
    names = list(tree)
    numbers = [name for name in names if name.isdecimal()]
    if numbers:
        if len(numbers) < len(names):
            return []
        names.sort(key=number_in_key)
    found: Groups = []
    for name in names:
        child = tree[name]
        layers = [child] if isinstance(child, HeadLayer) else _flat(_groups(child))
        if not layers:
            return []
        found.append((name, layers))
    return found


def _flat(groups: Groups) -> list[HeadLayer]:
    return [layer for _, layers in groups for layer in layers]


def _splits(groups: Groups) -> Iterator[tuple[Groups, Groups]]:
    """Every way to see the groups as a trunk and two or more branches, or as a trunk alone."""
    yield groups, []
    numbers = [name for name, _ in groups if name.isdecimal()]
    if numbers:  # a Sequential, or a ModuleList of branches, which has no gaps
        if len(groups) > 1 and numbers == [str(n) for n in range(len(groups))]:
            yield [], groups
        return
    for at in range(len(groups) - 1):
        yield groups[:at], groups[at:]


def _read(
    trunk: Groups, branches: Groups, width: int, base: str, start: int
) -> tuple[HeadLayer, ...]:
    common = _chain(_flat(trunk), width, base, start)
    if common is None:
        return ()
    if not branches:
        return common.finished()
    if common.linear and not common.active:
        common.activate()
    found = list(common.layers)
    for name, layers in branches:
        path = _join(base, name)
        branch = _chain(layers, common.width, path, 0)
        own = branch.finished() if branch else ()
        if not own:
            return ()
        found += [replace(layer, branch=name) for layer in own]
    return tuple(found)


class _Chain:
    """Layers in a row; `width` values come out of the last, which is number `last[1]` of the
    Sequential `last[0]`."""

    __slots__ = ("active", "last", "layers", "linear", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.layers: list[HeadLayer] = []
        self.linear = False  # whether a Linear has come
        self.active = False  # whether an activation has come since
        self.last: tuple[str, int] = _NOWHERE

    def put(self, kind: str, name: str = "") -> None:
        """Add a function that has no tensors."""
        self.layers.append(HeadLayer(name, kind, assumed=True))
        self.active = self.active or kind == "ReLU"

    def activate(self, name: str = "") -> None:
        self.put("ReLU", name)

    def layers_of_a_head(self) -> tuple[HeadLayer, ...]:
        """The layers, where they can be a head."""
        last = self.layers[-1].kind if self.layers else ""
        return tuple(self.layers) if self.linear and last in ("Linear", *_NORMS) else ()

    def finished(self) -> tuple[HeadLayer, ...]:
        """The same with a place for what may come last, and leaves no trace."""
        layers = self.layers_of_a_head()
        parent, place = self.last
        name = "" if self.last == _NOWHERE else _join(parent, str(place + 1))
        return (*layers, HeadLayer(name, "Identity", assumed=True)) if layers else ()


def _chain(layers: list[HeadLayer], width: int, base: str, start: int) -> _Chain | None:
    """The layers one after another, with what has no tensors put between; None where the widths
    don't run through, or a gap isn't understood."""
    chain = _Chain(width)
    for layer in layers:
        last = chain.last
        parent, _, name = layer.name.rpartition(".")
        place = number_in_key(name) if layer.name != base else -1
        slots: range = range(0)
        if place >= 0:
            after = last[1] + 1 if last[0] == parent else (start if parent == base else 0)
            slots = range(after, place)
        if len(slots) > _SLOTS:
            return None
        for slot in slots:
            empty = _join(parent, str(slot))
            if chain.linear and not chain.active:
                chain.activate(empty)
            else:
                chain.put("Dropout", empty)
        if layer.kind == "Linear":
            if chain.linear and not chain.active:
                # Neighbours in a Sequential have nothing between them: one Linear would do, so
                # perhaps it is a list, with functions between. Nothing tells.
                if place >= 0 and last[0] == parent:
                    return None
                chain.activate()
            if layer.sizes[0] != chain.width:
                return None
            chain.width, chain.linear, chain.active = int(layer.sizes[1]), True, False
        elif layer.kind == "PReLU":
            chain.active = True
        elif layer.sizes[0] != chain.width:
            return None
        elif chain.linear and not chain.active and not (place >= 0 and last[0] == parent):
            chain.put("Identity")  # an activation may come before the norm, or after it
        chain.layers.append(layer)
        chain.last = (parent, place) if place >= 0 else _NOWHERE
    return chain
