"""Examples of one constructor's networks -> the program that gives the tensors of all of them.

The keys form a tree. Going down it, every node stands for the places that it has in all examples: a
child that is in some of them gets a condition, numbered children whose count varies become a repeat
and are looked at together, and the shapes at the leaves become expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import time

import numpy as np

from archfind.families.conditions import both, decide, tests
from archfind.families.fit import fit
from archfind.families.probe import Sample

Row = Mapping[str, Any]
Tree = dict[str, Any]  # component -> Tree, or (shape, dtype) at a leaf
_INDICES = "ijklmno"


class Place:
    """A node of the key tree in one example."""

    __slots__ = ("env", "sample", "tree")

    def __init__(self, sample: int, env: Row, tree: Any) -> None:
        self.sample = sample
        self.env = env
        self.tree = tree


class Learner:
    """The search over one family's examples; `lines` is the program, `unfit` what it couldn't say."""

    def __init__(self, samples: Sequence[Sample], visible: Sequence[str], seconds: float = 60) -> None:
        self.samples = samples
        self.visible = list(visible)
        self.base = samples[0].values
        self.lines: list[str] = []
        self.unfit: list[str] = []
        self.pool: list[str] = []
        self.deadline = time.monotonic() + seconds
        self._fits: dict[object, str | None] = {}
        self._pieced: dict[object, list[tuple[str, tuple[str, ...], str]] | None] = {}
        # Pairs of examples that differ in one leaf, or in two that were moved together.
        at = {frozenset(s.moves.items()): n for n, s in enumerate(samples)}
        like: dict[object, list[int]] = {}
        for number, sample in enumerate(samples):
            for path in sample.moves if len(sample.moves) <= 3 else ():
                like.setdefault((path, _without(sample.moves, path)), []).append(number)
        self.partners: list[list[tuple[tuple[str, ...], int]]] = []
        for number, sample in enumerate(samples):
            pairs: list[tuple[tuple[str, ...], int]] = []
            moves = sample.moves
            for path in moves if len(moves) <= 3 else ():
                rest = _without(moves, path)
                if rest in at:
                    pairs.append(((path,), at[rest]))
                alike = [n for n in like[path, rest] if n != number]
                pairs += [((path,), n) for n in alike[:3]]
            if 1 < len(moves) <= 4 and not pairs and frozenset() in at:
                pairs.append((tuple(moves), at[frozenset()]))
            self.partners.append(pairs)
        self._choices = [
            p for p in visible if isinstance(self.base.get(p), bool | str | None)
        ]

    def learn(self) -> list[str]:
        """The program's lines."""
        places = [Place(n, s.values, tree_of(s)) for n, s in enumerate(self.samples)]
        self._node(places, "", "")
        return self.lines

    def _node(self, places: list[Place], pattern: str, condition: str) -> None:
        leaves = [p for p in places if isinstance(p.tree, tuple)]
        if leaves:
            self._leaf(leaves, pattern, condition)
            places = [p for p in places if not isinstance(p.tree, tuple)]
            if not places:
                return
        names: dict[str, None] = {}
        for place in sorted(places, key=lambda p: -len(p.tree)):
            names.update(dict.fromkeys(place.tree))
        numbers = [name for name in names if name.isdigit()]
        held = {frozenset(n for n in place.tree if n.isdigit()) for place in places}
        for name in names:
            if name not in numbers:
                self._child(places, name, pattern, condition)
        if len(held) > 1 and self._repeat(places, numbers, pattern, condition):
            return
        for name in numbers:
            self._child(places, name, pattern, condition)

    def _child(self, places: list[Place], name: str, pattern: str, condition: str) -> None:
        """One named child, under the condition that it's there."""
        there = [name in place.tree for place in places]
        when = self._when(places, there)
        joined = f"{pattern}.{name}" if pattern else name
        inner = [Place(p.sample, p.env, p.tree[name]) for p in places if name in p.tree]
        if when is None:
            self.unfit.append(f"{joined}: when it is there")
            return
        self._node(inner, joined, both(condition, when))

    def _when(self, places: list[Place], there: list[bool]) -> str | None:
        if all(there):
            return ""
        key = "when", tuple(there), self._key(places)
        if key not in self._fits:
            rows = [p.env for p in places]
            truth = np.array(there)
            when = None
            for names in self._names(places, there):
                when = decide(truth, tests(rows, names))
                if when is None:
                    when = decide(truth, tests(rows, [*names, *self._choices]))
                if when is not None:
                    break
            self._fits[key] = when
        return self._fits[key]

    def _repeat(
        self, places: list[Place], numbers: list[str], pattern: str, condition: str
    ) -> bool:
        """Numbered children as a repeat; False where their count can't be said."""
        counts = [
            1 + max((int(n) for n in place.tree if n.isdigit()), default=-1) for place in places
        ]
        bound = self._number(places, counts)
        if bound is None:
            if len(numbers) > 40:
                self.unfit.append(f"{pattern}: how many there are")
                return True
            return False
        depth = sum(1 for key in places[0].env if key.startswith("{") and "#" not in key)
        index = _INDICES[depth]
        inner: list[Place] = []
        holes = False
        for place, count in zip(places, counts, strict=True):
            for number in range(count):
                # A few indices at either end and some between say what all of them would.
                if 3 <= number < count - 3 and number % 7 != 3:
                    continue
                env = {**place.env, f"{{{index}}}": number, f"{{{index}#}}": count}
                tree = place.tree.get(str(number))
                holes = holes or tree is None
                inner.append(Place(place.sample, env, tree))
        joined = f"{pattern}.{{{index}<{bound}}}" if pattern else f"{{{index}<{bound}}}"
        before = len(self.lines), len(self.unfit)
        if holes:
            there = [p.tree is not None for p in inner]
            # What stands at a place without tensors isn't of one kind: let each child say.
            inner = [p if p.tree is not None else Place(p.sample, p.env, {}) for p in inner]
            if not any(there):
                return True
        self._node(inner, joined, condition)
        if len(self.unfit) > before[1] and len(numbers) <= 40:
            kept = self.lines[before[0] :], self.unfit[before[1] :]
            del self.lines[before[0] :], self.unfit[before[1] :]
            for name in numbers:
                self._child(places, name, pattern, condition)
            if len(self.unfit) - before[1] >= len(kept[1]):
                del self.lines[before[0] :], self.unfit[before[1] :]
                self.lines += kept[0]
                self.unfit += kept[1]
        return True

    def _leaf(self, places: list[Place], pattern: str, condition: str) -> None:
        """A tensor: one line, or several under conditions that exclude each other."""
        key = "pieces", tuple(p.tree for p in places), self._key(places)
        if key not in self._pieced:
            self._pieced[key] = self._pieces(places, 3)
        pieces = self._pieced[key]
        if pieces is None:
            self.unfit.append(f"{pattern}: its shape")
            return
        for when, sizes, dtype in pieces:
            words = " ".join(sizes) or "()"
            words += f" {dtype}" * (dtype != "float")
            when = both(condition, when)
            self.lines.append(f"{pattern}  {words}" + (f"  if {when}" if when else ""))

    def _pieces(
        self, places: list[Place], splits: int
    ) -> list[tuple[str, tuple[str, ...], str]] | None:
        whole = self._sizes(places)
        if whole is not None:
            return [("", *whole)]
        if not splits:
            return None
        shapes = [p.tree for p in places]
        known: dict[str, Any] = {}
        for names in self._names(places, shapes):
            known |= tests([p.env for p in places], [*names, *self._choices])
        order = list(known.items())
        best: tuple[int, str, Any, Any, Any] | None = None
        for text, truth in order:
            yes = [p for p, t in zip(places, truth, strict=True) if t]
            no = [p for p, t in zip(places, truth, strict=True) if not t]
            one = self._sizes(yes, quick=True)
            two = self._sizes(no, quick=True) if one is not None or splits > 1 else None
            if one is not None and two is not None:
                return [(text, *one), (_not(text), *two)]
            for found, rest, when in ((one, no, text), (two, yes, _not(text))):
                if found is not None and (best is None or len(rest) < best[0]):
                    best = len(rest), when, found, rest, None
        if best is None or splits < 2:
            return None
        _, when, found, rest, _ = best
        others = self._pieces(rest, splits - 1)
        if others is None:
            return None
        return [(when, *found), *((both(_not(when), w), s, d) for w, s, d in others)]

    def _sizes(self, places: list[Place], quick: bool = False) -> tuple[tuple[str, ...], str] | None:
        """The expressions of a shape that hold in every place."""
        shapes = [p.tree[0] for p in places]
        dtypes = {p.tree[1] for p in places}
        if len(dtypes) > 1 or len({len(shape) for shape in shapes}) > 1:
            return None
        sizes: list[str] = []
        for axis in range(len(shapes[0])):
            text = self._number(places, [shape[axis] for shape in shapes], quick)
            if text is None:
                return None
            sizes.append(text)
        return tuple(sizes), dtypes.pop()

    def _number(self, places: list[Place], targets: list[int], quick: bool = False) -> str | None:
        if all(target == targets[0] for target in targets):
            return str(targets[0])
        quick = quick or time.monotonic() > self.deadline
        key = "number", quick, tuple(targets), self._key(places)
        if key not in self._fits:
            rows = [p.env for p in places]
            text = None
            for names in self._names(places, targets):
                pool = [t for t in self.pool if set(names) & set(_plain(t))][:12]
                text = fit(rows, targets, names, pool, quick)
                if text is not None:
                    break
            self._fits[key] = text
            if text and "(" in text and text not in self.pool and "{" not in text:
                self.pool.append(text)
        return self._fits[key]

    def _key(self, places: list[Place]) -> int:
        return hash(tuple((p.sample, *_index(p.env)) for p in places))

    def _depends(self, places: list[Place], targets: Sequence[object]) -> dict[str, None]:
        """The leaves that a target moves with: of two examples that differ in one leaf, or in a few
        that had to move together, the target differs too."""
        at: dict[tuple[object, ...], object] = {}
        for place, target in zip(places, targets, strict=True):
            at[place.sample, *_index(place.env)] = target
        found: dict[str, None] = {}
        for place, target in zip(places, targets, strict=True):
            index = _index(place.env)
            for paths, partner in self.partners[place.sample]:
                other = at.get((partner, *index), target)
                if other != target:
                    found.update(dict.fromkeys(paths))
        return found

    def _names(self, places: list[Place], targets: Sequence[object]) -> list[list[str]]:
        """Names to explain a target with, one list an attempt: leaves by their own paths with the
        repeats' indices, then list items by the index of the repeat that they stand for."""
        found = list(self._depends(places, targets))
        indices = [key for key in places[0].env if key[0] == "{"]
        attempts = [found]
        if indices:
            attempts.append([*found, *indices])
            general: dict[str, None] = {}
            for place in places:
                for path in found:
                    if path.endswith(".#") or not any(part.isdigit() for part in path.split(".")):
                        general[path] = None
                    else:
                        names = generalised(path, place.env)
                        general.update(dict.fromkeys(names[1:] or names))
            attempts.append([*general, *indices])
        return attempts


def _without(moves: Mapping[str, Any], path: str) -> frozenset[tuple[str, Any]]:
    return frozenset((p, v) for p, v in moves.items() if p != path)


def _not(text: str) -> str:
    from archfind.families.conditions import negated

    return f"not ({text})" if " and " in text or " or " in text else negated(text)


def _plain(text: str) -> tuple[str, ...]:
    from archfind.families.expression import parse

    return parse(text).names


def _index(env: Row) -> tuple[int, ...]:
    return tuple(value for key, value in env.items() if key[0] == "{" and "#" not in key)


def generalised(path: str, env: Row) -> list[str]:
    """A leaf's path, and the same with each number that is a repeat's index, or the one before,
    named as that."""
    indices = {key: value for key, value in env.items() if key[0] == "{" and "#" not in key}
    found = [""]
    for part in path.split("."):
        options = [part]
        if part.isdigit():
            for key, value in indices.items():
                if value == int(part):
                    options.append(key)
                elif value == int(part) + 1:
                    options.append(f"{key[:-1]}-1}}")
        found = [f"{head}.{option}" if head else option for head in found for option in options]
    return found


def tree_of(sample: Sample) -> Tree:
    """Keys as a tree of their components."""
    root: Tree = {}
    for key, spec in sample.shapes.items():
        *path, last = key.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[last] = spec
    return root
