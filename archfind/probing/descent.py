"""A class's arguments that make its tensors those of a file, found by building it on the meta
device: for what no family explains.

The numbers come first, all at once: the network is traced, and its sizes and counts are equations
whose right sides the file has. Then what no arithmetic says, one leaf after another: switches and
choices, the lengths of lists, numbers that the library took out of Python's hands. What lowers the
misfit stays, until nothing is left of it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from archfind.families.expression import Expression, parse
from archfind.probing.config import Config, Leaf, leaves, merged, moved
from archfind.probing.equations import equations, solved
from archfind.probing.misfit import axes, misfit, misfits, template
from archfind.probing.probe import Moves, Shapes, on_meta, shapes_of
from archfind.probing.proposals import COUNT, alternates, annotated, coupled, leaf_name, literals
from archfind.probing.slopes import Slopes
from archfind.probing.trace import Refused, Traced, trace

_VOTED = 4  # values tried of those that slopes propose
_CHOICES = 24  # values tried of a leaf that isn't a number
_GIVEN_WAY = 12  # leaves that may be moved so that a class takes the others
_SHORT = 1.0  # seconds that any network may take to be built ...
_LONGER = 6  # ... or as many times as long as the first
_REFUSED = 12  # choices that are tried with another
_BESIDE = 6  # values of that other
_INSTEAD = 3  # ... or of one that is moved in another's place
_ROUNDED = 2.0  # a misfit that rounding may end
_UNMIXED = 24  # ways to round the rest
_EIGHTHS = 21  # tried of a rate that counts
_FACTORS = 512
_LARGEST = 1 << 20
_TOGETHER = 16  # numbers that are settled at once


class Descent:
    """The search from one network: `moves` are its leaves at other values, `cost` how far its
    tensors are from the file's, 0 where every one fits."""

    def __init__(
        self,
        cls: Callable[..., nn.Module],
        config: Config,
        target: Shapes,
        known: Mapping[str, Iterable[Leaf]],
    ) -> None:
        self._cls = cls
        self._config = config
        self._target = target
        self._axes = axes(target)
        self._end = 0.0
        self._known = {path: list(values) for path, values in known.items()}
        self._hints = literals(cls) if isinstance(cls, type) else {}
        if isinstance(cls, type):
            for path, values in annotated(cls, leaves(config)).items():
                self._hints.setdefault(path, []).extend(values)
        self._costs: dict[frozenset[tuple[str, str]], tuple[float | None, int]] = {}
        self._reach: dict[str, set[str]] = {}  # leaf -> templates of the keys that it moves
        self._refused: list[Moves] = []
        self._unmet: Moves = {}  # a solution that the class doesn't take
        self._shown: set[str] = set()  # leaves that sizes and counts were seen to be made of
        self._tries = 0
        self._limit = math.inf  # seconds for one network
        self.moves: Moves = {}
        start = time.monotonic()
        self.shapes = self._first = self._built({}) or {}
        self._limit = max(_SHORT, _LONGER * (time.monotonic() - start))
        self.cost = misfit(self.shapes, target)

    def start_from(self, moves: Moves) -> None:
        """Take these moves first, where they help."""
        self._kept(dict(moves))

    def run(self, seconds: float, deep: bool = True) -> bool:
        """Descend; whether every tensor fits in the end. What seldom helps, and takes most of the
        time, is tried where it's to go `deep`."""
        self._end = time.monotonic() + seconds
        while self.cost and time.monotonic() < self._end:
            self._refused, self._unmet = [], {}
            if not (
                self._solved()
                or self._round(self._lengths)
                or self._round(self._choices)
                or self._round(self._numbers)
                or self._round(self._counts)
                or self._sloped()
                or (deep and (self._together() or self._switched() or self._undone()))
            ):
                break
        if not self.cost:
            self._prune()
            self._unmixed()
        return not self.cost

    def look_until(self, end: float) -> None:
        """How long questions about what was found may take."""
        self._end = end

    def visible(self) -> set[str]:
        """The leaves that were seen to move a tensor."""
        reached = {path for path, reached in self._reach.items() if reached}
        return reached | self._shown | set(self.moves)

    def is_free(self, path: str) -> bool:
        """Whether another value gives the same tensors: a rate that is rounded off, a head count
        that is made up for by the heads' size, one of two activations without weights."""
        value = leaves(moved(self._config, self.moves)).get(path)
        if time.monotonic() > self._end:
            return False
        if isinstance(value, str):
            hints = [*self._known.get(path, ()), *self._hints.get(leaf_name(path), ())]
            some = alternates(path, value, hints)[:_CHOICES]
            return any(self._tried({**self.moves, path: item}) == self.cost for item in some)
        if type(value) is not int:
            return False
        others = (2 * value, value // 2, value + 1, value - 1, 4 * value // 3)
        beside = [{**self.moves, path: n} for n in others if n > 0 and n != value]
        if any(self._tried(moves) == self.cost for moves in beside):
            return True
        for moves in beside[:2]:
            made_up = self._solution(moves, held=path)
            if made_up and self._tried({**moves, **made_up}) == self.cost:
                return True
        return False

    @property
    def tries(self) -> int:
        """How many networks were built."""
        return self._tries

    def _built(self, moves: Moves) -> Shapes | None:
        self._tries += 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # some constructors print
                made = on_meta(self._cls, moved(self._config, moves), self._limit)
            return shapes_of(made)
        except Exception:  # a library refuses values in its own ways
            return None

    def _tried(self, moves: Moves) -> float | None:
        """The cost of a network, None where the class refuses."""
        return self._measured(moves)[0]

    def _measured(self, moves: Moves) -> tuple[float | None, int]:
        """The cost, and a mark of the tensors that it's the cost of."""
        key = frozenset((path, repr(value)) for path, value in moves.items())
        if key not in self._costs:
            shapes = self._built(moves)
            self._costs[key] = (
                (None, 0)
                if shapes is None
                else (misfit(shapes, self._target), hash(frozenset(shapes.items())))
            )
        return self._costs[key]

    def _solved(self) -> bool:
        """The numbers for which the traced network's sizes and counts are the file's."""
        move = self._solution(self.moves)
        if not move:
            return False
        if self._taken({**self.moves, **move}):
            return True
        for more in self._beside(move):
            if self._taken({**self.moves, **more, **move}):
                return True
        if self._traced({**self.moves, **move}) is None:
            self._unmet = move
        kept = False
        for path, value in move.items() if len(move) > 1 else ():
            kept |= self._taken({**self.moves, path: value})
        return kept

    def _sloped(self) -> bool:
        """Numbers that sizes are made of together, settled by their slopes, rates as simple as
        their sizes let them be."""
        apart = misfits(self.shapes, self._target)
        if any(key not in self.shapes or key not in self._target for key in apart):
            return False  # a switch or a count has to be found first
        wrong = {template(key) for key in apart}
        values = leaves(moved(self._config, self.moves))
        numbers: dict[str, float] = {
            path: value
            for path, value in values.items()
            if type(value) in (int, float)
            and value > 0  # pyright: ignore
            and path[-1] != "#"
            and self._reach.get(path, wrong) & wrong
        }
        if not 1 < len(numbers) <= _TOGETHER:
            return False
        kept = False
        slopes = Slopes(lambda move: self._built({**self.moves, **move}), self.shapes, self._target)
        for step in slopes.rounded(slopes.settled(numbers)):
            kept |= self._stepped(step)
            if not self.cost or time.monotonic() > self._end:
                break
        return kept

    def _stepped(self, numbers: Mapping[str, float]) -> bool:
        """Keep these numbers, where that's better or does with fewer moves."""
        own = leaves(self._config)
        moves = {**self.moves, **numbers}
        moves = {p: v for p, v in moves.items() if p not in numbers or v != own.get(p)}
        if not self.cost and len(moves) < len(self.moves) and self._tried(moves) == 0:
            self.moves = moves
            return True
        return self._kept(moves)

    def _unmixed(self) -> None:
        """Numbers that were moved together with a rate, where fewer do: each goes back, and the
        others are settled for that."""
        own = leaves(self._config)
        numbers = {p: v for p, v in self.moves.items() if _is_number(v) and p[-1] != "#"}
        if len(numbers) < 2 or not any(isinstance(value, float) for value in numbers.values()):
            return
        slopes = self._slopes()
        for path in numbers:
            value = own.get(path)
            if path not in self.moves or not _is_number(value):
                continue
            rest = {p: self.moves[p] for p in numbers if p in self.moves and p != path}
            start = slopes.settled(rest, {path: value})  # pyright: ignore
            far = self._tried({**self.moves, **start})
            if far is None or far > _ROUNDED:
                continue
            for step in itertools.islice(slopes.rounded(start, path), _UNMIXED):
                if time.monotonic() > self._end or self._stepped(step):
                    break

    def _slopes(self) -> Slopes:
        return Slopes(lambda move: self._built({**self.moves, **move}), self.shapes, self._target)

    def _beside(self, move: Moves) -> Iterator[Moves]:
        """What may have to move with numbers: those of their own name and value in other configs,
        then those that are named alike (`num_hidden_layers`, `num_kv_shared_layers`)."""
        values = leaves(moved(self._config, self.moves))
        joint = coupled(values)
        yield {p: value for path, value in move.items() for p in joint.get(path, ())}
        more: Moves = {}
        for path, value in move.items():
            if type(value) is int and not path.endswith("#"):
                word = path.rpartition("_")[2]
                alike = (p for p, v in values.items() if v == values[path] and type(v) is int)
                more |= {p: value for p in alike if p.rpartition("_")[2] == word}
        yield more

    def _solution(self, moves: Moves, held: str = "") -> Moves:
        """Moves of numbers, from a network with `moves`, for which its equations hold; of all but
        the one that is `held`."""
        now = self._traced(moves)
        if now is None:
            return {}
        moves, traced = now
        rows = equations(traced, self._target)
        for row in rows:
            row.names = tuple(name for name in row.names if name != held)
        self._shown |= {name for row in rows for name in row.names}
        return solved(rows, leaves(moved(self._config, moves)), self._known)

    def _switched(self) -> bool:
        """Choices made one by one, all numbers solved anew for each: from the first network, where
        what numbers have made up for so far doesn't stand in the way. A small number may be a
        choice, too, by which other keys come to be."""
        start = self._solution({})
        reached = self._tried(start)
        for path, value in leaves(self._config).items():
            hints = [*self._known.get(path, ()), *self._hints.get(leaf_name(path), ())]
            options: Iterable[Leaf] = alternates(path, value, hints)[:_BESIDE]
            if type(value) in (int, float):
                small = type(value) is int and value <= COUNT and not path.endswith(".#")
                options = [n for n in range(1, COUNT + 1) if n != value] if small else ()
            for item in options:
                if time.monotonic() > self._end:
                    return False
                move = {path: item}
                cost = self._tried({**start, **move})
                if type(value) is int and (cost is None or reached is None or cost >= reached):
                    continue
                if self._kept({**move, **self._solution(move)}):
                    return True
        return False

    def _taken(self, moves: Moves) -> bool:
        """Keep these moves, and others that the class needs to take them, where that's better."""
        now = self._traced(moves)
        return now is not None and self._kept(now[0])

    def _traced(self, moves: Moves) -> tuple[Moves, Traced] | None:
        """A network traced, with what had to give way for the class to take it."""
        fixed = set(moves)
        for _ in range(_GIVEN_WAY):
            try:
                self._tries += 1
                whole = moved(self._config, moves)
                return moves, trace(self._cls, whole, self._limit)  # pyright: ignore
            except Refused as refused:
                way = self._way(refused, leaves(whole), fixed)  # pyright: ignore
                if way is None:
                    return None
                moves = {**moves, **way}
        return None

    def _way(self, refused: Refused, values: Mapping[str, Leaf], fixed: set[str]) -> Moves | None:
        """The nearest value of a leaf for which what the class asked last has another answer, and
        if there is one, with which all that it divided so far can still be."""
        for text, answer in reversed(refused.asked):
            expression = parse(text)
            # What divides shows in no tensor, mostly: it comes first.
            for path in reversed(expression.names) if "%" in text else expression.names:
                own = values.get(path)
                if path in fixed or type(own) is not int or own < 1:
                    continue
                others = sorted(range(1, _FACTORS), key=lambda n: abs(math.log(n / own)))  # pyright: ignore
                found = [n for n in others if _says(expression, {**values, path: n}, not answer)]
                kept = [
                    (parse(other), held)
                    for other, held in refused.divided.items()
                    if other != text and path in parse(other).names
                ]
                for other in found:
                    if all(_says(e, {**values, path: other}, held) for e, held in kept):
                        return {path: other}
                if found:
                    return {path: found[0]}
        return None

    def _round(self, proposals: Callable[[str, Any, set[str]], Iterable[Moves]]) -> bool:
        """Every leaf that reaches what doesn't fit tried at its likeliest values; what lowers the
        cost is kept, the best first. Whether anything did."""
        found: list[tuple[float, Moves]] = []
        values = leaves(moved(self._config, self.moves))
        wrong = {template(key) for key in misfits(self.shapes, self._target)}
        for path, value in values.items():
            if time.monotonic() > self._end:
                break
            if path in self._reach and not self._reach[path] & wrong:
                continue
            best: tuple[float, Moves] | None = None
            for move in proposals(path, value, wrong):
                cost = self._tried(merged(self.moves, move))
                if cost is None:
                    self._refused.append(move)
                elif cost < (best[0] if best else self.cost):
                    best = cost, move
                if time.monotonic() > self._end:
                    break
            if best:
                found.append(best)
                if not best[0]:
                    break
        found.sort(key=lambda item: item[0])
        kept = False
        for _, move in found:
            kept |= self._kept(merged(self.moves, move))
        return kept

    def _kept(self, moves: Moves) -> bool:
        cost = self._tried(moves)
        if cost is None or cost >= self.cost:
            return False
        shapes = self._built(moves)
        if shapes is None:
            return False
        switched = [p for p, v in moves.items() if type(v) not in (int, float)]
        if any(self.moves.get(path, self) != moves[path] for path in switched) or (
            {*map(template, shapes)} != {*map(template, self.shapes)}
        ):
            self._reach = {}  # leaves may move other tensors now
        self.moves, self.cost, self.shapes = moves, cost, shapes
        return True

    def _lengths(self, path: str, value: Any, wrong: set[str]) -> Iterator[Moves]:
        """Other lengths of a list, by as much as rows of keys are longer in the file; alone, and
        with the lists that are as long."""
        if not path.endswith(".#"):
            return
        own = axes(self.shapes)
        apart = Counter(self._axes.get(axis, 0) - own.get(axis, 0) for axis in {*self._axes, *own})
        del apart[0]
        group = coupled(leaves(moved(self._config, self.moves))).get(path, (path,))
        for more, _ in apart.most_common(_VOTED):
            if value + more > 0:
                yield {path: value + more}
                if len(group) > 1:
                    yield dict.fromkeys(group, value + more)

    def _numbers(self, path: str, value: Any, wrong: set[str]) -> Iterator[Moves]:
        """Values for a number: where its slopes meet the file's sizes and counts."""
        if type(value) not in (int, float) or path.endswith(".#"):
            return
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
            if path not in self._reach and isinstance(value, int):
                yield from self._with_way(path, value)
            return
        reached = {template(k) for k in misfits(self.shapes, probe)}
        self._reach[path] = self._reach.get(path, set()) | reached
        if not reached & wrong:
            return
        votes = self._votes(value, other, probe)
        proposed = [item for item, _ in votes.most_common(_VOTED)]
        if isinstance(value, int) and not proposed:
            proposed += [n for n in (value + 1, value - 1, value + 2, value - 2) if n > 0]
        if isinstance(value, float) and len(probe) != len(self.shapes):  # rounded counts
            proposed += [n / 8 for n in range(1, _EIGHTHS)]
        known = [v for v in self._known.get(path, ()) if type(v) in (int, float)]
        proposed += [v for v in known if v not in proposed][:_VOTED]
        # A count's effect may grow faster than any line: DLA's levels double the blocks.
        most = 2 * value + 4 if len(probe) != len(self.shapes) else 4 * value + 16
        for item in dict.fromkeys(min(item, most) for item in proposed):
            if item != value:
                yield dict.fromkeys(paths, item)

    def _with_way(self, path: str, value: int) -> Iterator[Moves]:
        """A number that the class never takes alone at the sizes of what doesn't fit, with what has
        to give way for it: sixteen heads of 48 instead of twelve of 64."""
        sizes: Counter[int] = Counter()
        for key in misfits(self.shapes, self._target):
            own, wanted = self.shapes.get(key, ((), ""))[0], self._target.get(key, ((), ""))[0]
            if len(own) == len(wanted):
                sizes.update(b for a, b in zip(own, wanted, strict=True) if a != b)
        for size, _ in sizes.most_common(_VOTED):
            now = self._traced({**self.moves, path: size}) if size != value else None
            if now is not None:
                yield {p: v for p, v in now[0].items() if self.moves.get(p, self) != v}

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
            if whole and min(now, then, wanted, value, other) > 1:  # an area, say
                power = math.log(then / now) / math.log(other / value)
                side = value * (wanted / now) ** (1 / power)
                if 1.5 < power < 4.5 and side < _LARGEST:
                    votes[round(side)] += weight

        for key, (shape, _) in self.shapes.items():
            then, wanted = probe.get(key), self._target.get(key)
            if then and wanted and len(then[0]) == len(shape) == len(wanted[0]):
                for sizes in zip(shape, then[0], wanted[0], strict=True):
                    vote(*sizes)
        now, then = axes(self.shapes), axes(probe)
        for axis in {*now, *then}:
            vote(now.get(axis, 0), then.get(axis, 0), self._axes.get(axis, 0), 2)
        return votes

    def _counts(self, path: str, value: Any, wrong: set[str]) -> Iterator[Moves]:
        """Every other value of a small number: what it does may be no line."""
        if type(value) is int and value <= COUNT and self._reach.get(path, set()) & wrong:
            for number in range(1, COUNT + 1):
                if number != value:
                    yield {path: number}

    def _choices(self, path: str, value: Leaf, wrong: set[str]) -> Iterator[Moves]:
        """Other values of a leaf that isn't a number, or isn't always one."""
        if type(value) in (int, float):
            others = (v for v in self._known.get(path, ()) if type(v) not in (int, float))
            yield from ({path: item} for item in others)
            return
        hints = [*self._known.get(path, ()), *self._hints.get(leaf_name(path), ())]
        reached, now = False, self._measured(self.moves)
        for item in alternates(path, value, hints)[:_CHOICES]:
            yield {path: item}
            reached |= self._measured({**self.moves, path: item}) != now
        if not reached:
            self._reach[path] = set()

    def _together(self) -> bool:
        """What is refused alone, numbers or a choice, with another choice made as well."""
        values = leaves(moved(self._config, self.moves))
        others = [p for p, v in values.items() if type(v) not in (int, float)]
        choices = [m for m in self._refused if {*m} <= {*others}][:_REFUSED]
        for move in [self._unmet, *choices] if self._unmet else choices:
            best: tuple[float, Moves] | None = None
            for beside in others:
                if beside in move or time.monotonic() > self._end:
                    continue
                hints = [*self._known.get(beside, ()), *self._hints.get(leaf_name(beside), ())]
                for item in alternates(beside, values[beside], hints)[:_BESIDE]:
                    moves = {**self.moves, **move, beside: item}
                    cost = self._tried(moves)
                    if cost is not None and cost < (best[0] if best else self.cost):
                        best = cost, moves
            if best and self._kept(best[1]):
                return True
        return False

    def _undone(self) -> bool:
        """One of the moves taken back, and another made in its place: what helped first may have
        stood in for what is so."""
        best: tuple[float, Moves] | None = None
        for path in self.moves:
            items = path[:-1] if path.endswith(".#") else f"{path}."  # go with their list
            rest = {p: v for p, v in self.moves.items() if p != path}
            fewer = {p: v for p, v in rest.items() if not p.startswith(items)}
            for other, value in leaves(moved(self._config, fewer)).items():
                hints = [*self._known.get(other, ()), *self._hints.get(leaf_name(other), ())]
                for item in alternates(other, value, hints)[:_INSTEAD] if other != path else ():
                    if time.monotonic() > self._end:
                        return False
                    moves = merged(fewer, {other: item})
                    cost = self._tried(moves)
                    if cost is not None and cost < (best[0] if best else self.cost):
                        best = cost, moves
        return best is not None and self._kept(best[1])

    def _prune(self) -> None:
        """Leaves that needn't be moved go back, and rates are given no digit that does nothing."""
        for path, value in list(self.moves.items()):
            fewer = {p: v for p, v in self.moves.items() if p != path}
            if self._tried(fewer) == 0:
                self.moves = fewer
                continue
            shorter = (
                [float(f"{value:.{n}g}") for n in range(1, 6)] if isinstance(value, float) else ()
            )
            for other in shorter:
                if other != value and self._tried({**self.moves, path: other}) == 0:
                    self.moves = {**self.moves, path: other}
                    break


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _says(expression: Expression, values: Mapping[str, Leaf], answer: bool) -> bool:
    """Whether a comparison has this answer."""
    try:
        return bool(expression.value(values)) == answer
    except (ArithmeticError, TypeError, ValueError):
        return False
