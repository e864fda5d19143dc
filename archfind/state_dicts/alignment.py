"""Two lists of tensors under different names, tensor by tensor: which one is which.

Names are cut into a tree on both sides; nodes correspond where the shapes below them are the same
collection. What has no counterpart is dissolved into its children, so that another nesting doesn't
matter. Among siblings with equal shapes decide, in this order: numbers that run in step, names that
are the same, what the same names stand for elsewhere, and the file's order, where it has kept one.
What none of them decides stays undecided. This module is on the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.state_dicts.key_names import backwards, by_number, by_words, series
from archfind.state_dicts.key_trees import (
    dissolved,
    ends,
    equal_groups,
    joined_words,
    name_below,
    steps,
    tree,
    uniform,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.state_dicts.key_trees import ModuleNode, Token

_SIBLINGS = 64  # beyond these, what names stand for isn't noted: the cost is their square

_COMPANY = 2  # siblings that must mean the same before a name means what it means elsewhere


SPELLING = 2  # the likeness of names that are the same but for what joins their words


class Alignment:
    """Left key -> right key, of every tensor that is decided. `by_order` of them are told apart by
    the order of the file alone. `likeness` is SPELLING where all names are the same but for what
    joins their words, and 1 more where the order of all tensors is the same."""

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
        trees = tree(left, separators), tree(right, ".")
        in_order = in_order and (bool(straight) or uniform(trees[0]))
        pairing = _Pairing(*trees, in_order)
        pairing.run(False)
        if pairing.backwards:
            pairing = _Pairing(*trees, in_order, numbers=False)
            pairing.run(False)
        pairs, by_order = dict(pairing.pairs), 0
        # A name that is the same on both sides is stronger than the order; nothing else is.
        agreed = all(straight.get(k) == to for k, to in pairs.items() if k not in pairing.named)
        agreed = agreed and all(map(_Group.may_go_by_order, pairing.groups))
        if straight and agreed:
            taken = set(pairs.values())
            pairs |= {k: to for k, to in straight.items() if k not in pairs and to not in taken}
            by_order = len(pairs) - len(pairing.pairs)
        elif in_order and len(pairs) < len(left):
            pairing.run(True)
            pairs, by_order = pairing.sound(), len(pairing.pairs) - len(pairs)
        if len(pairs) > len(best.pairs):
            same = all(joined_words(key) == joined_words(to) for key, to in pairs.items())
            best = Alignment(pairs, by_order, 2 * same + bool(straight and agreed))
        if len(pairs) == len(left):
            break
    return best


def _separators(keys: Iterable[str]) -> list[str]:
    """The characters at which names may be cut: dots first, then whatever flattens them."""
    every = "".join(keys)
    dots = "." in every
    flat = "/" in every or "_" in every
    return [*(["."] if dots else []), *(["._/"] if flat or not dots else [])]


class _Level:
    """The children of two corresponding nodes: the names of those that are paired, and whether
    they stand in the same order on both sides."""

    __slots__ = ("in_step", "names")

    def __init__(self, in_step: bool) -> None:
        self.in_step = in_step
        self.names: list[tuple[str, str]] = []


class _Group:
    """Siblings with equal tensors below, by name, as many on either side."""

    __slots__ = ("left", "level", "named", "right")

    def __init__(
        self, left: dict[str, ModuleNode], right: dict[str, ModuleNode], level: _Level, named: bool
    ) -> None:
        self.left = left
        self.right = right
        self.level = level
        self.named = named

    def by_order(self) -> dict[str, str]:
        """The siblings as they stand in the file and in the network."""
        ours = sorted(self.left, key=lambda name: self.left[name].first)
        theirs = sorted(self.right, key=lambda name: self.right[name].first)
        return dict(zip(ours, theirs, strict=True))

    def may_go_by_order(self) -> bool:
        """Whether names, as far as they're alike, don't speak against the order."""
        return not self.against_order(by_words([*self.left], [*self.right]))

    def against_order(self, chosen: dict[str, str]) -> bool:
        """Whether what is chosen isn't what the order gives."""
        order = self.by_order()
        return any(order[name] != other for name, other in chosen.items())


class _Pairing:
    """The work on one pair of trees: `pairs` grows, `groups` are open, `facts` says which two names
    of siblings stood for which two. `numbers` says that names may be matched by theirs; `backwards`
    is found where shapes alone show two that count the other way."""

    def __init__(
        self, left: ModuleNode, right: ModuleNode, in_order: bool, numbers: bool = True
    ) -> None:
        self.in_order = in_order
        self.numbers = numbers
        self.backwards = False
        self.pairs: dict[str, str] = {}
        self.named: set[str] = set()
        self.groups: list[_Group] = []
        self.facts: dict[tuple[str, str], set[tuple[str, str]]] = {}
        self.ordered: list[tuple[_Group, dict[str, str]]] = []
        self._todo: list[tuple[ModuleNode, ModuleNode, bool]] = [(left, right, False)]

    def run(self, by_order: bool) -> None:
        """Pair until nothing more is decided; by the order only where all else is at an end."""
        while True:
            while self._todo:
                self._pair(*self._todo.pop())
            before = len(self.groups)
            open_groups, self.groups = self.groups, []
            for group in open_groups:
                told = self._from_facts(group)
                if group.against_order(told):
                    group.level.in_step = False
                self._settle(group, told)
            if self._todo or len(self.groups) != before:
                continue
            open_groups, self.groups = self.groups, []
            for group in open_groups:
                if by_order and group.level.in_step and group.may_go_by_order():
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
        for group, _ in self.ordered:
            if group.against_order(self._from_facts(group)):
                group.level.in_step = False
        for group, chosen in self.ordered:
            if not group.level.in_step:
                for name in chosen:
                    for end in ends(group.left[name]):
                        pairs.pop(end.path, None)
        return pairs

    def _pair(self, left: ModuleNode, right: ModuleNode, named: bool) -> None:
        if not left.children:
            self.pairs[left.path] = right.path
            if named:
                self.named.add(left.path)
            return
        alike = equal_groups(*dissolved(left.children, right.children))
        level = _Level(steps(alike, 0) == steps(alike, 1))
        alone = {name_below(a[0], left): (a[0], b[0]) for a, b in alike if len(a) == 1}
        told = {name: name_below(other, right) for name, (_, other) in alone.items()}
        self.backwards = self.backwards or backwards(told)
        self._todo += [(*both, named) for both in alone.values()]
        self._note(level, list(told.items()))
        for mine, others in alike:
            if len(mine) == 1:
                continue
            ours = {name_below(node, left): node for node in mine}
            group = _Group(ours, {name_below(node, right): node for node in others}, level, named)
            chosen = by_number(list(group.left), list(group.right)) if self.numbers else {}
            if chosen and self.in_order and level.in_step and group.against_order(chosen):
                chosen = {}  # numbers of another meaning, or another order: neither is sure
                level.in_step = False
            elif not chosen and set(group.left) == set(group.right) and not series([*ours]):
                chosen, group.named = {name: name for name in group.left}, True
                level.in_step = level.in_step and not group.against_order(chosen)
            elif not chosen and not mine[0].children and not others[0].children:
                chosen = {
                    name: name for name in group.left if name.isalpha() and name in group.right
                }
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
            self.groups.append(_Group(left, right, group.level, group.named) if chosen else group)

    def _note(self, level: _Level, new: list[tuple[str, str]]) -> None:
        for name, other in new:
            if len(level.names) < _SIBLINGS:
                for beside, its in level.names:
                    self.facts.setdefault((name, beside), set()).add((other, its))
                    self.facts.setdefault((beside, name), set()).add((its, other))
                level.names.append((name, other))

    def _from_facts(self, group: _Group) -> dict[str, str]:
        """What the names of a group stand for where shapes, numbers or names have told."""
        if len(group.left) > _SIBLINGS:
            return {}
        chosen: dict[str, str] = {}
        for name in group.left:
            found = {
                other
                for beside in group.left
                for other, its in self.facts.get((name, beside), ())
                if other in group.right and its in group.right
            } or self._in_company(name, group)
            if len(found) == 1:
                chosen[name] = found.pop()
        return chosen if len(set(chosen.values())) == len(chosen) else {}

    def _in_company(self, name: str, group: _Group) -> set[str]:
        """What a name stands for elsewhere, beside two more names that mean there what they mean
        here: in a module of the same kind, that is."""
        seen: dict[str, int] = {}
        for beside, its in group.level.names:
            for other, meaning in self.facts.get((name, beside), ()):
                if meaning == its and other in group.right:
                    seen[other] = seen.get(other, 0) + 1
        return set(seen) if all(count >= _COMPANY for count in seen.values()) else set()
