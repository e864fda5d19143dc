"""Examples of one constructor's networks -> the program that gives the tensors of all of them.

The keys form a tree. Going down it, every node stands for the places that it has in all examples: a
child that is in some of them gets a condition, numbered children whose count varies become a repeat
and are looked at together, and the shapes at the leaves become expressions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from archfind.classes.expression import parse_expression
from archfind.classes.numbered import numbered
from archfind.learning.conditions import both, decide, negated, tests
from archfind.learning.fit import Failed, fit
from archfind.probing.probe import Sample

Row = Mapping[str, Any]
Tree = dict[str, Any]  # component -> Tree, or (shape, dtype) at a leaf
_INDICES = "ijklmno"


class Blame(Exception):
    """Leaves without which the search goes on: what they do to a size couldn't be said."""

    def __init__(self, paths: set[str], why: str) -> None:
        super().__init__(why)
        self.paths = paths


class Place:
    """A node of the key tree in one example."""

    __slots__ = ("at", "env", "sample", "tree")

    def __init__(self, sample: int, env: Row, tree: Any, at: tuple[int, ...] = ()) -> None:
        self.sample = sample
        self.at = at  # the indices of the repeats around it
        self.env = env
        self.tree = tree


class Learner:
    """The search over one family's examples; `lines` is the program, `unfit` what has no rule."""

    def __init__(
        self,
        samples: Sequence[Sample],
        visible: Sequence[str],
        seconds: float = 60,
        failed: Failed | None = None,
    ) -> None:
        self.samples = samples
        self.visible = list(visible)
        self.base = samples[0].values
        self.lines: list[str] = []
        self.unfit: list[str] = []
        self.pool: list[str] = []
        self.around: list[str] = []  # what the tensor looked at moves with, in all examples
        self.stage = 0  # of what is allowed to explain a size
        self.deadline = time.process_time() + seconds
        self._patience = self.deadline
        self._failed = failed or Failed()
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
            if len(moves) > 1 and len(set(moves.values())) == 1 and not pairs and frozenset() in at:
                pairs.append((tuple(moves), at[frozenset()]))
            self.partners.append(pairs)
        self._choices = [p for p in visible if isinstance(self.base.get(p), bool | str | None)]

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
        held = {frozenset(n for n in place.tree if n.isdigit()) for place in places} - {frozenset()}
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
        inner = [Place(p.sample, p.env, p.tree[name], p.at) for p in places if name in p.tree]
        if when is None:
            self.unfit.append(f"{joined}: when it is there")
            if not all(t for t, place in zip(there, places, strict=True) if not place.sample):
                return
            when = ""  # as it mostly is; the leaf that this is wrong for is found and left alone
        self._node(inner, joined, both(condition, when))

    def _when(self, places: list[Place], there: list[bool]) -> str | None:
        if all(there):
            return ""
        if time.process_time() > self.deadline:
            return None
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
                if count > 14 and 3 <= number < count - 3 and number % 7 != 3:
                    continue
                env = {**place.env, f"{{{index}}}": number, f"{{{index}#}}": count}
                tree = place.tree.get(str(number))
                holes = holes or tree is None
                inner.append(Place(place.sample, env, tree, (*place.at, number)))
        joined = f"{pattern}.{{{index}<{bound}}}" if pattern else f"{{{index}<{bound}}}"
        before = len(self.lines), len(self.unfit)
        if holes:
            there = [p.tree is not None for p in inner]
            # What stands at a place without tensors isn't of one kind: let each child say.
            inner = [p if p.tree is not None else Place(p.sample, p.env, {}, p.at) for p in inner]
            if not any(there):
                return True
        try:
            self._node(inner, joined, condition)
        except Blame:
            if len(numbers) > 12:
                raise
            del self.lines[before[0] :], self.unfit[before[1] :]
            return False
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
        self.around = list(self._depends(places, [p.tree for p in places]))
        key = "pieces", tuple(p.tree for p in places), self._key(places)
        if key not in self._pieced:
            self._pieced[key] = self._pieces(places)
        pieces = self._pieced[key]
        if pieces is None:
            self.unfit.append(f"{pattern}: its shape")
            base = [place.tree for place in places if not place.sample]
            usual = base[0] if base else Counter(p.tree for p in places).most_common(1)[0][0]
            pieces = [("", tuple(map(str, usual[0])), usual[1])]
        for when, sizes, dtype in pieces:
            words = " ".join(sizes) or "()"
            words += f" {dtype}" * (dtype != "float")
            when = both(condition, when)
            self.lines.append(f"{pattern}  {words}" + (f"  if {when}" if when else ""))

    def _pieces(self, places: list[Place]) -> list[tuple[str, tuple[str, ...], str]] | None:
        """(condition, sizes, dtype) for each number of dimensions and dtype that the tensor has."""
        own = [(len(place.tree[0]), place.tree[1]) for place in places]
        kinds = {kind: [kind == one for one in own] for kind in dict.fromkeys(own)}
        found: list[tuple[str, tuple[str, ...], str]] = []
        for (_, dtype), there in kinds.items():
            when = self._when(places, there)
            held = [p for p, t in zip(places, there, strict=True) if t]
            sizes = self._sizes(held) if when is not None else None
            if when is None or sizes is None:
                return None
            found.append((when, sizes, dtype))
        return found

    def _sizes(self, places: list[Place]) -> tuple[str, ...] | None:
        """The expressions of a shape that hold in every place."""
        sizes: list[str] = []
        for axis in range(len(places[0].tree[0])):
            targets = [place.tree[0][axis] for place in places]
            text = self._number(places, targets)
            if text is None:
                self._patience = min(self.deadline, time.process_time() + 2.5)
                text = self._cases(places, targets, 5)
            if text is None:
                self._blame(places, targets)
                return None
            sizes.append(text)
        return tuple(sizes)

    def _blame(self, places: list[Place], targets: list[int]) -> None:
        """Raise Blame with the leaf that a size can be said without, if there is one. Switches go
        before sizes, which people change more."""
        names = list(self._depends(places, targets))
        names.sort(key=lambda p: (type(self.base.get(p)) in (int, float), p.endswith(".#"), p))
        for path in names if len(names) > 1 else ():
            some = [n for n, p in enumerate(places) if path not in self.samples[p.sample].moves]
            there = [places[n] for n in some]
            if some and self._number(there, [targets[n] for n in some]) is not None:
                raise Blame({path}, f"{targets[:3]}")
        if names:
            raise Blame(set(names), f"{targets[:3]}")

    def _cases(self, places: list[Place], targets: list[int], splits: int) -> str | None:
        """A size that follows one rule or another: `case(deep_stem,32,64)`."""
        key = "cases", self.stage, tuple(targets), self._key(places)
        if key not in self._fits:
            self._fits[key] = self._split(places, targets, splits)
        return self._fits[key]

    def _split(self, places: list[Place], targets: list[int], splits: int) -> str | None:
        known: dict[str, Any] = {}
        for names in self._names(places, targets):
            known |= tests([p.env for p in places], [*names, *self._choices])
        best: tuple[tuple[bool, int], str, str, list[int]] | None = None
        # Where a tensor stands, and switches, say more than sizes do.
        if _is_alike(places, targets):
            known = {text: truth for text, truth in known.items() if "{" not in text}
        order = sorted(known, key=lambda t: (t[0] != "{", t.partition(" ")[0] not in self._choices))
        for text, truth in ((text, known[text]) for text in order):
            if time.process_time() > self._patience:
                return None
            yes = [n for n, t in enumerate(truth) if t]
            no = [n for n, t in enumerate(truth) if not t]
            one = self._part(places, targets, yes)
            two = self._part(places, targets, no)
            if one is not None and two is not None:
                return f"case({text},{one},{two})"
            is_number = text[0] != "{" and text.partition(" ")[0] not in self._choices
            for found, rest, when in ((one, no, text), (two, yes, negated(text))):
                if found is not None and (best is None or (is_number, len(rest)) < best[0]):
                    best = (is_number, len(rest)), when, found, rest
        if best is None or splits < 2:
            return None
        _, when, found, rest = best
        others = self._cases([places[n] for n in rest], [targets[n] for n in rest], splits - 1)
        return None if others is None else f"case({when},{found},{others})"

    def _part(self, places: list[Place], targets: list[int], some: list[int]) -> str | None:
        return self._number([places[n] for n in some], [targets[n] for n in some], quick=True)

    def _number(self, places: list[Place], targets: list[int], quick: bool = False) -> str | None:
        if all(target == targets[0] for target in targets):
            return str(targets[0])
        if time.process_time() > self.deadline:
            return None
        key = "number", quick, tuple(targets), self._key(places)
        if key not in self._fits:
            rows = [p.env for p in places]
            text = None
            for names in self._names(places, targets):
                pool = [t for t in self.pool if set(names) >= set(_plain(t))][:8]
                text = fit(rows, targets, names, pool, quick, self._failed)
                if text is not None:
                    break
            self._fits[key] = text
            composite = text and not text.isdigit() and text not in self.base and "{" not in text
            if text and composite and text not in self.pool and "case" not in text:
                self.pool.insert(0, f"({text})")  # a later width is often made from the one before
        return self._fits[key]

    def _key(self, places: list[Place]) -> int:
        return hash(tuple((p.sample, *p.at) for p in places))

    def _depends(self, places: list[Place], targets: Sequence[object]) -> dict[str, None]:
        """The leaves that a target moves with: of two examples that differ in one leaf, or in a few
        that had to move together, the target differs too."""
        at: dict[tuple[object, ...], object] = {}
        for place, target in zip(places, targets, strict=True):
            at[place.sample, *place.at] = target
        found: dict[str, None] = {}
        for place, target in zip(places, targets, strict=True):
            index = place.at
            for paths, partner in self.partners[place.sample]:
                other = at.get((partner, *index), target)
                if other != target:
                    found.update(dict.fromkeys(paths))
        return found

    def _names(self, places: list[Place], targets: Sequence[object]) -> list[list[str]]:
        """Names to explain a target with, one list an attempt: leaves by their own paths with the
        repeats' indices, then list items by the index of the repeat that they stand for."""
        found = list(self._depends(places, targets)) or self.around
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


def _is_alike(places: Sequence[Place], targets: Sequence[int]) -> bool:
    """Whether a size is the same in all of a network's places: no matter which layer it is in."""
    own: dict[int, int] = {}
    return all(own.setdefault(p.sample, t) == t for p, t in zip(places, targets, strict=True))


def _without(moves: Mapping[str, Any], path: str) -> frozenset[tuple[str, Any]]:
    return frozenset((p, v) for p, v in moves.items() if p != path)


def _plain(text: str) -> tuple[str, ...]:
    return parse_expression(text).names


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
        *path, last = numbered(key).split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[last] = spec
    return root
