"""Keys as a tree, and what in one tree corresponds to what in another by its tensors alone.

Part of alignment.py, on the cold path of `archfind guess`.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Token = tuple[str, tuple[int, ...]]  # kind of number, shape
    Tree = dict[str, "Tree"]
    Classes = list[tuple[list["ModuleNode"], list["ModuleNode"]]]

_MASK = (1 << 64) - 1
_TENSOR = "\n"  # ends the name of a leaf in a tree


class ModuleNode:
    """A module or a tensor. `bag` is the same for equal collections of tensors below, `form` for
    equal trees of them; `first` is the place of its first tensor."""

    __slots__ = ("bag", "children", "depth", "first", "form", "path", "size")

    def __init__(
        self, path: str, first: int, children: list[ModuleNode], bag: int, form: int, size: int
    ) -> None:
        self.path = path
        self.first = first
        self.children = children
        self.depth = 1 + max((child.depth for child in children), default=-1)
        self.bag = bag
        self.form = form
        self.size = size


def tree(tokens: Mapping[str, Token], separators: str) -> ModuleNode:
    """The tree of a collection. A module with one child is that child."""
    root: Tree = {}
    cut = re.compile(f"[{re.escape(separators)}]")
    for key in tokens:
        branch = root
        for found in cut.finditer(key):
            branch = branch.setdefault(key[: found.start()], {})
        branch[key + _TENSOR] = {}  # a tensor may have the name of a module beside it
    places = {key: place for place, key in enumerate(tokens)}
    hashes = {token: hash(_stable(token)) & _MASK for token in set(tokens.values())}

    def grow(path: str, branch: Tree) -> ModuleNode:
        if not branch:
            path = path[: -len(_TENSOR)]
            token = hashes[tokens[path]]
            return ModuleNode(path, places[path], [], token, token, 1)
        nodes = [grow(name, below) for name, below in branch.items()]
        if len(nodes) == 1:
            return nodes[0]
        bag = sum(node.bag for node in nodes) & _MASK
        form = hash(tuple(sorted(node.form for node in nodes))) & _MASK
        return ModuleNode(path, nodes[0].first, nodes, bag, form, sum(node.size for node in nodes))

    return grow("", root)


def _stable(token: Token) -> tuple[int, ...]:
    """A token as numbers: hashes of text differ from run to run."""
    kind, shape = token
    return (*kind.encode(), -1, *shape)


def name_below(node: ModuleNode, parent: ModuleNode) -> str:
    """A node's name below its parent, whatever its words are joined with."""
    start = len(parent.path) + 1 if parent.path else 0
    return joined_words(node.path[start:])


def joined_words(name: str) -> str:
    """A name, whatever its words are joined with."""
    return name.replace("_", ".").replace("/", ".")


def ends(node: ModuleNode) -> list[ModuleNode]:
    """The tensors at or below a node."""
    if not node.children:
        return [node]
    return [end for child in node.children for end in ends(child)]


def uniform(root: ModuleNode) -> bool:
    """Whether modules whose children have the same names have them in the same order, as those of
    one class do."""
    orders: dict[frozenset[str], list[str]] = {}
    todo = [root]
    while todo:
        node = todo.pop()
        todo += node.children
        names = [name_below(child, node) for child in node.children]
        if orders.setdefault(frozenset(names), names) != names:
            return False
    return True


def _counts(nodes: list[ModuleNode], by: str) -> dict[int, int]:
    counts: dict[int, int] = {}
    for node in nodes:
        value: int = getattr(node, by)
        counts[value] = counts.get(value, 0) + 1
    return counts


def dissolved(
    left: list[ModuleNode], right: list[ModuleNode]
) -> tuple[list[ModuleNode], list[ModuleNode]]:
    """Children on both sides, the largest without a counterpart replaced by their own children,
    until every one has a counterpart."""
    if not any(node.children for node in left):
        right = [end for node in right for end in ends(node)]
    while True:
        ours, theirs = _counts(left, "bag"), _counts(right, "bag")
        if ours == theirs:
            return left, right
        apart = [n for n in (*left, *right) if ours.get(n.bag, 0) != theirs.get(n.bag, 0)]
        largest = max(apart, key=lambda node: node.size)
        if not largest.children:  # the collections differ: nothing here can be paired
            return [], []
        left = [n for node in left for n in (node.children if node.bag == largest.bag else [node])]
        right = [
            n for node in right for n in (node.children if node.bag == largest.bag else [node])
        ]


def equal_groups(
    left: list[ModuleNode], right: list[ModuleNode]
) -> list[tuple[list[ModuleNode], list[ModuleNode]]]:
    """Nodes with equal tensors below, and, where both sides have the same trees of them, with equal
    trees."""
    bags: dict[int, tuple[list[ModuleNode], list[ModuleNode]]] = {}
    for side, nodes in enumerate((left, right)):
        for node in nodes:
            bags.setdefault(node.bag, ([], []))[side].append(node)
    found: list[tuple[list[ModuleNode], list[ModuleNode]]] = []
    for ours, theirs in bags.values():
        forms = _counts(ours, "form")
        if len(forms) == 1 or forms != _counts(theirs, "form"):
            found.append((ours, theirs))
            continue
        for form in forms:
            alike = [n for n in ours if n.form == form], [n for n in theirs if n.form == form]
            found.append(alike)
    return found


def steps(classes: list[tuple[list[ModuleNode], list[ModuleNode]]], side: int) -> list[int]:
    """The order in which siblings stand, as numbers of their classes. A branch that is whole in one
    module, and the only one of its shapes, may stand anywhere."""
    placed = [
        (node.first, number)
        for number, both in enumerate(classes)
        for node in both[side]
        if len(both[0]) > 1 or both[0][0].depth < 2 or both[1][0].depth < 2
    ]
    return [number for _, number in sorted(placed)]
