"""Two lists of tensors under different names, tensor by tensor: which one is which.

Names are cut into a tree on both sides; nodes correspond where the shapes below them are the same
collection. What has no counterpart is dissolved into its children, so that another nesting doesn't
matter. Among siblings with equal shapes decide, in this order: numbers that run in step, names that
are the same, what the same names stand for elsewhere, and the file's order, where it has kept one.
What none of them decides stays undecided. This module is on the cold path of `archfind guess`.
"""

from __future__ import annotations

import re
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Token = tuple[str, tuple[int, ...]]  # kind of number, shape
    Tree = dict[str, "Tree"]

_NUMBER = re.compile(r"\d+")
_SIBLINGS = 64  # beyond these, what names stand for isn't noted: the cost is their square
_MASK = (1 << 64) - 1
_TENSOR = "\n"  # ends the name of a leaf in a tree


class Alignment:
    """Left key -> right key, of every tensor that is decided. `by_order` of them are told apart by
    the order of the file alone. `likeness` counts the whole views that agree: the order of all
    tensors, and the form of the tree."""

    __slots__ = ("by_order", "likeness", "pairs")

    def __init__(self, pairs: dict[str, str], by_order: int, likeness: int) -> None:
        self.pairs = pairs
        self.by_order = by_order
        self.likeness = likeness


def align(left: Mapping[str, Token], right: Mapping[str, Token], in_order: bool) -> Alignment:
    """Pair two collections of equal tokens. `right` is in the order of its modules; `in_order` says
    that `left` is too."""
    straight: dict[str, str] = {}
    if in_order and list(left.values()) == list(right.values()):
        straight = dict(zip(left, right, strict=True))
    best = Alignment({}, 0, 0)
    for separators in _separators(left):
        pairing = _Pairing(_node(left, separators), _node(right, "."), in_order)
        likeness = bool(straight) + pairing.alike
        pairing.run(False)
        pairs, by_order = dict(pairing.pairs), 0
        if straight:
            pairs, by_order = _in_step(pairing, straight)
        elif in_order and len(pairs) < len(left):
            pairing.run(True)
            pairs, by_order = pairing.sound(), len(pairing.pairs) - len(pairs)
        if len(pairs) > len(best.pairs):
            best = Alignment(pairs, by_order, likeness)
        if len(pairs) == len(left):
            break
    return best


def _separators(keys: Iterable[str]) -> list[str]:
    """The characters at which names may be cut: dots first, and whatever flattens them."""
    every = "".join(keys)
    dots = "." in every
    flat = "/" in every or "_" in every
    return [*(["."] if dots else []), *(["._/"] if flat or not dots else [])]


def _in_step(pairing: _Pairing, straight: dict[str, str]) -> tuple[dict[str, str], int]:
    """What the order of all tensors gives, where nothing in names and shapes speaks against it; a
    name that is the same on both sides is stronger than the order, a number is not."""
    pairs = dict(pairing.pairs)
    against = [key for key, to in pairs.items() if straight[key] != to]
    for key in against:
        if key not in pairing.named:
            del pairs[key]
    taken = set(pairs.values())
    added = {
        key: to for key, to in straight.items() if key not in pairing.pairs and to not in taken
    }
    return {**pairs, **added}, len(added)


class _Node:
    """A module or a tensor. `bag` is the same for equal collections of tensors below, `form` for
    equal trees of them; `first` is the place of its first tensor."""

    __slots__ = ("bag", "children", "first", "form", "path", "size")

    def __init__(
        self, path: str, first: int, children: list[_Node], bag: int, form: int, size: int
    ) -> None:
        self.path = path
        self.first = first
        self.children = children
        self.bag = bag
        self.form = form
        self.size = size


def _node(tokens: Mapping[str, Token], separators: str) -> _Node:
    """The tree of a collection. A module with one child is that child."""
    tree: Tree = {}
    cut = re.compile(f"[{re.escape(separators)}]")
    for key in tokens:
        branch = tree
        for found in cut.finditer(key):
            branch = branch.setdefault(key[: found.start()], {})
        branch[key + _TENSOR] = {}  # a tensor may have the name of a module beside it
    places = {key: place for place, key in enumerate(tokens)}
    hashes = {token: hash(_stable(token)) & _MASK for token in set(tokens.values())}

    def grow(path: str, branch: Tree) -> _Node:
        if not branch:
            path = path[: -len(_TENSOR)]
            token = hashes[tokens[path]]
            return _Node(path, places[path], [], token, token, 1)
        nodes = [grow(name, below) for name, below in branch.items()]
        if len(nodes) == 1:
            return nodes[0]
        bag = sum(node.bag for node in nodes) & _MASK
        form = hash(tuple(sorted(node.form for node in nodes))) & _MASK
        return _Node(path, nodes[0].first, nodes, bag, form, sum(node.size for node in nodes))

    return grow("", tree)


def _stable(token: Token) -> tuple[int, ...]:
    """A token as numbers: hashes of text differ from run to run."""
    kind, shape = token
    return (*kind.encode(), -1, *shape)


class _Group:
    """Siblings with equal tensors below, as many on either side. `level` holds the names of all
    pairs of their two parents, `in_step` says that equal siblings stand in the same order."""

    __slots__ = ("in_step", "left", "level", "named", "right")

    def __init__(
        self,
        left: dict[str, _Node],
        right: dict[str, _Node],
        level: list[tuple[str, str]],
        named: bool,
        in_step: bool,
    ) -> None:
        self.left = left
        self.right = right
        self.level = level
        self.named = named
        self.in_step = in_step

    def by_order(self) -> dict[str, str]:
        """The siblings as they stand in the file and in the network."""
        ours = sorted(self.left, key=lambda name: self.left[name].first)
        theirs = sorted(self.right, key=lambda name: self.right[name].first)
        return dict(zip(ours, theirs, strict=True))


class _Pairing:
    """The work on one pair of trees: `pairs` grows, `groups` are open, `facts` says which two names
    of siblings stood for which two."""

    def __init__(self, left: _Node, right: _Node, in_order: bool) -> None:
        self.in_order = in_order
        self.pairs: dict[str, str] = {}
        self.named: set[str] = set()
        self.groups: list[_Group] = []
        self.facts: dict[tuple[str, str], set[tuple[str, str]]] = {}
        self.ordered: list[tuple[_Group, dict[str, str]]] = []
        self.alike = left.form == right.form
        self._todo: list[tuple[_Node, _Node, bool]] = [(left, right, False)]

    def run(self, in_order: bool) -> None:
        """Pair until nothing more is decided; the order only where all else is at an end."""
        while True:
            while self._todo:
                self._pair(*self._todo.pop())
            before = len(self.groups)
            open_groups, self.groups = self.groups, []
            for group in open_groups:
                self._settle(group, self._from_facts(group))
            if self._todo or len(self.groups) != before:
                continue
            open_groups, self.groups = self.groups, []
            for group in open_groups:
                if in_order and group.in_step:
                    chosen = group.by_order()
                    self.ordered.append((group, chosen))
                    self._settle(group, chosen, note=False)
                else:
                    self.groups.append(group)
            if not self._todo:
                return

    def sound(self) -> dict[str, str]:
        """The pairs, less those that the order gave and that names elsewhere speak against."""
        pairs = dict(self.pairs)
        for group, chosen in self.ordered:
            told = self._from_facts(group)
            if any(chosen[name] != other for name, other in told.items()):
                for name in chosen:
                    for key in _leaves(group.left[name]):
                        pairs.pop(key, None)
        return pairs

    def _pair(self, left: _Node, right: _Node, named: bool) -> None:
        if not left.children:
            self.pairs[left.path] = right.path
            if named:
                self.named.add(left.path)
            return
        ours, theirs = _dissolved(left.children, right.children)
        level: list[tuple[str, str]] = []
        several: list[tuple[list[_Node], list[_Node]]] = []
        for mine, others in _classes(ours, theirs):
            if len(mine) == 1:
                self._todo.append((mine[0], others[0], named))
                self._note(level, [(_name(mine[0], left), _name(others[0], right))])
            else:
                several.append((mine, others))
        steps = _steps(several, 0) == _steps(several, 1)
        for mine, others in several:
            group = _Group(
                {_name(node, left): node for node in mine},
                {_name(node, right): node for node in others},
                level,
                named,
                steps,
            )
            chosen = _by_number(list(group.left), list(group.right))
            if chosen and self.in_order and group.in_step and chosen != group.by_order():
                chosen, group.in_step = {}, False  # numbers of another meaning, or another order
            elif not chosen and set(group.left) == set(group.right):
                chosen, group.named = {name: name for name in group.left}, True
            self._settle(group, chosen)

    def _settle(self, group: _Group, chosen: dict[str, str], note: bool = True) -> None:
        """Pair what is chosen; what is left stays open, or is the last of its kind."""
        left = {name: node for name, node in group.left.items() if name not in chosen}
        gone = set(chosen.values())
        right = {name: node for name, node in group.right.items() if name not in gone}
        if len(left) == 1:
            chosen = {**chosen, next(iter(left)): next(iter(right))}
            left = {}
        for name, other in chosen.items():
            self._todo.append((group.left[name], group.right[other], group.named))
        if note:
            self._note(group.level, list(chosen.items()))
        if left:
            self.groups.append(
                _Group(left, right, group.level, group.named, group.in_step) if chosen else group
            )

    def _note(self, level: list[tuple[str, str]], new: list[tuple[str, str]]) -> None:
        for name, other in new:
            if len(level) < _SIBLINGS:
                for beside, its in level:
                    self.facts.setdefault((name, beside), set()).add((other, its))
                    self.facts.setdefault((beside, name), set()).add((its, other))
                level.append((name, other))

    def _from_facts(self, group: _Group) -> dict[str, str]:
        """What the names of a group stand for where shapes, numbers or names have told."""
        if len(group.left) > _SIBLINGS:
            return {}
        chosen: dict[str, str] = {}
        for name in group.left:
            found: set[str] = set()
            for beside in group.left:
                for other, its in self.facts.get((name, beside), ()):
                    if other in group.right and its in group.right:
                        found.add(other)
            if len(found) == 1:
                chosen[name] = found.pop()
        return chosen if len(set(chosen.values())) == len(chosen) else {}


def _name(node: _Node, parent: _Node) -> str:
    """A node's name below its parent, whatever its words are joined with."""
    start = len(parent.path) + 1 if parent.path else 0
    return node.path[start:].replace("_", ".").replace("/", ".")


def _leaves(node: _Node) -> list[str]:
    if not node.children:
        return [node.path]
    return [key for child in node.children for key in _leaves(child)]


def _counts(nodes: list[_Node], by: str) -> dict[int, int]:
    counts: dict[int, int] = {}
    for node in nodes:
        value: int = getattr(node, by)
        counts[value] = counts.get(value, 0) + 1
    return counts


def _dissolved(left: list[_Node], right: list[_Node]) -> tuple[list[_Node], list[_Node]]:
    """Children on both sides, the largest without a counterpart replaced by their own children,
    until every one has a counterpart."""
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


def _classes(left: list[_Node], right: list[_Node]) -> list[tuple[list[_Node], list[_Node]]]:
    """Nodes with equal tensors below, and, where both sides have the same trees of them, with equal
    trees."""
    bags: dict[int, tuple[list[_Node], list[_Node]]] = {}
    for side, nodes in enumerate((left, right)):
        for node in nodes:
            bags.setdefault(node.bag, ([], []))[side].append(node)
    found: list[tuple[list[_Node], list[_Node]]] = []
    for ours, theirs in bags.values():
        forms = _counts(ours, "form")
        if len(forms) == 1 or forms != _counts(theirs, "form"):
            found.append((ours, theirs))
            continue
        for form in forms:
            alike = [n for n in ours if n.form == form], [n for n in theirs if n.form == form]
            found.append(alike)
    return found


def _steps(several: list[tuple[list[_Node], list[_Node]]], side: int) -> list[int]:
    """The order in which nodes of several classes stand, as numbers of the classes."""
    placed = [(node.first, number) for number, c in enumerate(several) for node in c[side]]
    return [number for _, number in sorted(placed)]


def _by_number(left: list[str], right: list[str]) -> dict[str, str]:
    """Names that differ in their numbers alone, on both sides, where the numbers run in step:
    0 1 2 and 1 2 3, not 0 1 2 and 7 3 5."""
    ours, theirs = _series(left), _series(right)
    if not ours or list(ours) != list(theirs):
        return {}
    return {ours[number]: theirs[number] for number in ours}


def _series(names: list[str]) -> dict[tuple[int, ...], str]:
    """Names by their numbers, in order: those that vary, counted from the least. Empty where the
    names differ in more than numbers."""
    if len(set(map(skeleton, names))) > 1:
        return {}
    rows = [tuple(map(int, _NUMBER.findall(name))) for name in names]
    columns = [column for column in zip(*rows, strict=True) if len(set(column)) > 1]
    counted = zip(*([n - min(column) for n in column] for column in columns), strict=True)
    found = dict(sorted(zip(counted, names, strict=False)))
    if len(found) < len(names):
        return {}
    return found


def skeleton(name: str) -> str:
    """A name less its numbers."""
    return _NUMBER.sub("#", name)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key to sort names by, their numbers as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part]


def in_order(names: list[str]) -> bool:
    """Whether names stand in an order of their own, not in that of the alphabet."""
    keys = list(map(natural, names))
    rising = all(one <= other for one, other in pairwise(keys))
    return not rising and names != sorted(names)
