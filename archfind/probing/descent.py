"""A class's arguments that make its tensors those of a file, found by building it on the meta
device: for what no family explains.

Coordinate descent. A leaf is moved once to see which dims and repeats move with it, and by how
much; that slope and the file's own size give the value to try (a secant step); switches and choices
are tried one by one. What lowers the misfit stays, until nothing is left of it.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import log
from typing import Any

from torch import nn

from archfind.canonical import DERIVED
from archfind.probing.config import Config, Leaf, leaves, moved
from archfind.probing.probe import Moves, Shapes, on_meta, shapes_of
from archfind.probing.proposals import alternates, annotated, coupled, leaf_name, literals

Axes = dict[tuple[str, str], int]  # what stands before and after a number in keys -> how many

_VOTED = 4  # values tried of those that slopes propose
_CHOICES = 24  # values tried of a leaf that isn't a number
_NUMBER = re.compile(r"\d+")
_FAR = 3.0  # a factor of e**3 in a size is as wrong as a key that isn't there
_COMPANIONS = 40  # leaves that are moved with one that is refused alone


class Descent:
    """The search from one network: `moves` are its leaves at other values, `cost` how far its
    tensors are from the file's, 0 where every one fits."""

    def __init__(
        self,
        cls: Callable[..., nn.Module],
        config: Config,
        target: Shapes,
        known: Mapping[str, Iterable[Leaf]],
        seconds: float,
    ) -> None:
        self._cls = cls
        self._config = config
        self._target = target
        self._axes = axes(target)
        self._end = time.monotonic() + seconds
        self._known = {path: list(values) for path, values in known.items()}
        self._hints = literals(cls) if isinstance(cls, type) else {}
        if isinstance(cls, type):
            for path, values in annotated(cls, leaves(config)).items():
                self._hints.setdefault(path, []).extend(values)
        self._costs: dict[frozenset[tuple[str, str]], float | None] = {}
        self._reach: dict[str, set[str]] = {}  # leaf -> templates of the keys that it moves
        self._refused: list[Moves] = []
        self._tries = 0
        self.moves: Moves = {}
        self.shapes = self._built({}) or {}
        self.cost = misfit(self.shapes, target)

    def run(self) -> bool:
        """Descend; whether every tensor fits in the end."""
        while self.cost and time.monotonic() < self._end:
            self._refused = []
            if not (self._round(numbers=True) or self._round(numbers=False) or self._together()):
                break
        if not self.cost:
            self._prune()
        return not self.cost

    def visible(self) -> set[str]:
        """The leaves that were seen to move a tensor."""
        return {path for path, reached in self._reach.items() if reached} | set(self.moves)

    @property
    def tries(self) -> int:
        """How many networks were built."""
        return self._tries

    def _built(self, moves: Moves) -> Shapes | None:
        self._tries += 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # some constructors print
                return shapes_of(on_meta(self._cls, moved(self._config, moves)))
        except Exception:  # a library refuses values in its own ways
            return None

    def _tried(self, moves: Moves) -> float | None:
        """The cost of a network, None where the class refuses."""
        key = frozenset((path, repr(value)) for path, value in moves.items())
        if key not in self._costs:
            shapes = self._built(moves)
            self._costs[key] = None if shapes is None else misfit(shapes, self._target)
        return self._costs[key]

    def _round(self, numbers: bool) -> bool:
        """Every leaf that reaches what doesn't fit tried at its likeliest values; what lowers the
        cost is kept, the best first. Whether anything did."""
        found: list[tuple[float, Moves]] = []
        values = leaves(moved(self._config, self.moves))
        wrong = {template(key) for key in misfits(self.shapes, self._target)}
        for path, value in values.items():
            if (type(value) in (int, float)) != numbers:
                continue
            if time.monotonic() > self._end:
                break
            if path in self._reach and not self._reach[path] & wrong:
                continue
            tries = self._numbers(path, value, wrong) if numbers else self._choices(path, value)
            best: tuple[float, Moves] | None = None
            for move in tries:
                cost = self._tried({**self.moves, **move})
                if cost is None:
                    self._refused.append(move)
                elif cost < (best[0] if best else self.cost):
                    best = cost, move
                if time.monotonic() > self._end:
                    break
                if not numbers and cost == self.cost:
                    self._reach.setdefault(path, set())
            if best:
                self._reach.pop(path, None) if not numbers else None
                found.append(best)
                if not best[0]:
                    break
        found.sort(key=lambda item: item[0])
        kept = False
        for _, move in found:
            kept |= self._kept({**self.moves, **move})
        return kept

    def _kept(self, moves: Moves) -> bool:
        cost = self._tried(moves)
        if cost is None or cost >= self.cost:
            return False
        shapes = self._built(moves)
        if shapes is None:
            return False
        switched = [p for p, v in moves.items() if type(v) not in (int, float)]
        if any(self.moves.get(path, self) != moves[path] for path in switched):
            self._reach = {}  # leaves may move other tensors now
        self.moves, self.cost, self.shapes = moves, cost, shapes
        return True

    def _numbers(self, path: str, value: Any, wrong: set[str]) -> Iterator[Moves]:
        """Values for a number: where its slopes meet the file's sizes and counts."""
        group = coupled(leaves(moved(self._config, self.moves))).get(path, (path,))
        probe: Shapes | None = None
        other: Any = value
        paths: tuple[str, ...] = (path,)
        for step in alternates(path, value, self._known.get(path, ()))[:6]:
            if not isinstance(step, int | float) or isinstance(step, bool):
                continue
            for some in ((path,), group) if len(group) > 1 else ((path,),):
                shapes = self._built({**self.moves, **dict.fromkeys(some, step)})
                if shapes is not None and shapes != self.shapes:
                    probe, other, paths = shapes, step, some
                    break
                if shapes is not None:
                    self._reach.setdefault(path, set())
            if probe is not None:
                break
        if probe is None:
            return
        reached = {template(k) for k in misfits(self.shapes, probe)}
        self._reach[path] = self._reach.get(path, set()) | reached
        if not reached & wrong:
            return
        votes = self._votes(value, other, probe)
        proposed = [item for item, _ in votes.most_common(_VOTED)]
        if path.endswith(".#") or (isinstance(value, int) and not proposed):
            proposed += [n for n in (value + 1, value - 1, value + 2, value - 2) if n > 0]
        proposed += [v for v in self._known.get(path, ()) if v not in proposed][:_VOTED]
        for item in dict.fromkeys(proposed):
            if item != value:
                yield dict.fromkeys(paths, item)

    def _votes(self, value: float, other: float, probe: Shapes) -> Counter[Any]:
        """Values at which a size, or a count of keys, would be the file's, by how many say so."""
        votes: Counter[Any] = Counter()
        whole = isinstance(value, int)

        def vote(now: int, then: int, wanted: int, weight: int = 1) -> None:
            if now in (then, wanted):
                return
            at = value + (wanted - now) * (other - value) / (then - now)
            if whole and at > 0.5:
                votes[round(at)] += weight
            elif not whole and at > 0:
                votes[float(f"{at:.6g}")] += weight

        for key, (shape, _) in self.shapes.items():
            then, wanted = probe.get(key), self._target.get(key)
            if then and wanted and len(then[0]) == len(shape) == len(wanted[0]):
                for sizes in zip(shape, then[0], wanted[0], strict=True):
                    vote(*sizes)
        now, then = axes(self.shapes), axes(probe)
        for axis in {*now, *then}:
            vote(now.get(axis, 0), then.get(axis, 0), self._axes.get(axis, 0), 2)
        return votes

    def _choices(self, path: str, value: Leaf) -> Iterator[Moves]:
        """Other values of a leaf that isn't a number."""
        hints = [*self._known.get(path, ()), *self._hints.get(leaf_name(path), ())]
        for item in alternates(path, value, hints)[:_CHOICES]:
            yield {path: item}

    def _together(self) -> bool:
        """Values that are refused alone, with another number moved as well: one must divide the
        other, or is as long."""
        values = leaves(moved(self._config, self.moves))
        numbers = [p for p, v in values.items() if type(v) is int and not p.endswith(".#")]
        for move in self._refused:
            (path, value), *_ = move.items()
            before = values.get(path)
            best: tuple[float, Moves] | None = None
            for beside in numbers[:_COMPANIONS]:
                if beside in move or time.monotonic() > self._end:
                    continue
                own: Any = values[beside]
                tries: list[Leaf] = [1, value] if isinstance(value, int) else [1]
                if isinstance(value, int) and isinstance(before, int) and before:
                    tries.insert(0, max(1, round(own * value / before)))
                    tries += [n for n in (2, 3, 4, 8) if not value % n]
                for item in dict.fromkeys(tries):
                    moves = {**self.moves, **move, beside: item}
                    cost = self._tried(moves) if item != own else None
                    if cost is not None and cost < (best[0] if best else self.cost):
                        best = cost, moves
            if best and self._kept(best[1]):
                return True
        return False

    def _prune(self) -> None:
        """Leaves that needn't be moved go back."""
        for path in list(self.moves):
            fewer = {p: v for p, v in self.moves.items() if p != path}
            if self._tried(fewer) == 0:
                self.moves = fewer


def misfits(shapes: Shapes, target: Shapes) -> list[str]:
    """Keys of either side whose tensors the other doesn't have, derived ones aside."""
    return [*_apart(shapes, target)]


def misfit(shapes: Shapes, target: Shapes) -> float:
    """How far two sets of tensors are apart: up to 1 for a size, 1 for a key of one side only."""
    return sum(_apart(shapes, target).values())


def _apart(shapes: Shapes, target: Shapes) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, (shape, kind) in target.items():
        own = shapes.get(key)
        if own is None:
            if not is_derived(key, kind):
                found[key] = 1.0
        elif own != (shape, kind):
            found[key] = _distance(own[0], shape) if own[1] == kind else 1.0
    for key, (_, kind) in shapes.items():
        if key not in target and not is_derived(key, kind):
            found[key] = 1.0
    return found


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    if len(one) != len(other) or 0 in one or 0 in other:
        return 1.0
    far = max((abs(log(a / b)) for a, b in zip(one, other, strict=True)), default=0.0)
    return 0.1 + 0.9 * min(1.0, far / _FAR)


def is_derived(key: str, kind: str) -> bool:
    """Counters, index tables and the like, which the library makes by itself."""
    return kind != "float" or key.rpartition(".")[2] in DERIVED


def template(key: str) -> str:
    """A key with its numbers as #."""
    return _NUMBER.sub("#", key)


def axes(shapes: Shapes) -> Axes:
    """How many numbers stand at each place in the keys, what is around them being the same."""
    found: Axes = {}
    for key in shapes:
        for at in _NUMBER.finditer(key):
            axis = key[: at.start()], key[at.end() :]
            found[axis] = found.get(axis, 0) + 1
    return found
