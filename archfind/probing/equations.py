"""A traced network's sizes and counts, held against a file's: the leaves for which they agree.

Every size of every tensor that both have is an equation in the constructor's leaves, and so is how
often a loop ran that made numbered keys. What one leaf alone gives is settled by votes; what only
several give together moves as few of them as it takes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from archfind.classes.expression import Expression, parse_expression
from archfind.probing.config import Leaf
from archfind.probing.probe import Shapes
from archfind.probing.proposals import COUNT
from archfind.probing.trace import Traced
from archfind.state_dicts.canonical import is_derived

Values = dict[str, Any]

_NUMBER = re.compile(r"\d+")
_ERRORS = (KeyError, TypeError, ValueError, ArithmeticError, IndexError)
_LARGEST = 1 << 20
_DENOMINATORS = (1, 2, 4, 8, 3, 5, 6, 10, 16, 20, 32, 100)
_ROUNDS = 60
_FACTOR = 1024
_SMALL = 3  # leaves of an equation that are tried at every small number


class TracedEquation:
    """What an expression must be, and how many tensors say so."""

    __slots__ = ("expression", "names", "votes", "wanted")

    def __init__(self, expression: Expression, wanted: int, votes: int) -> None:
        self.expression = expression
        self.names = expression.names
        self.wanted = wanted
        self.votes = votes

    def at(self, values: Mapping[str, Any]) -> Any:
        try:
            return self.expression.value(values)
        except _ERRORS:
            return None

    def holds(self, values: Mapping[str, Any]) -> bool:
        return self.at(values) == self.wanted


def equations(traced: Traced, target: Shapes) -> list[TracedEquation]:
    """What a file says of a network's leaves, those that the most tensors say first."""
    votes: Counter[tuple[str, int]] = Counter()
    for key, texts in traced.sizes.items():
        other = target.get(key)
        if other is None or len(other[0]) != len(texts):
            continue
        for text, wanted in zip(texts, other[0], strict=True):
            if not text.isdigit():
                votes[text, wanted] += 1
    for text, wanted in _counted(traced, target):
        votes[text, wanted] += 1
    return [
        TracedEquation(parse_expression(text), wanted, n)
        for (text, wanted), n in votes.most_common()
    ]


def _counted(traced: Traced, target: Shapes) -> Iterator[tuple[str, int]]:
    """How often each loop must run for the file's numbered keys."""
    wanted = _ends(target)
    own = _ends(traced.shapes)
    for key, loops in traced.loops.items():
        for at in _NUMBER.finditer(key) if loops else ():
            axis = key[: at.start()], key[at.end() :]
            number = int(at.group())
            if axis not in wanted or number + 1 != own.get(axis):
                continue
            # The last of a row of keys: the loop in whose last round it was made is the row's, and
            # what a row has beside that (a first block of its own) it has in the file, too.
            for bound, turn in loops:
                if turn + 1 == traced.bounds.get(bound) and _steps(traced, axis, number, bound):
                    yield bound, turn + 1 + wanted[axis] - own[axis]
                    break


def _steps(traced: Traced, axis: tuple[str, str], number: int, bound: str) -> bool:
    """Whether the loop goes a round further from each of the row's keys to the next."""
    turns = {
        n: dict(traced.loops.get(f"{axis[0]}{n}{axis[1]}", ())).get(bound)
        for n in (number - 1, number)
    }
    before, last = turns[number - 1], turns[number]
    return last is not None and last == (0 if before is None else before + 1)


def _ends(shapes: Shapes) -> dict[tuple[str, str], int]:
    """The largest number, and one, at each place in the keys."""
    found: dict[tuple[str, str], int] = {}
    for key, (_, kind) in shapes.items():
        if not is_derived(key, kind):
            for at in _NUMBER.finditer(key):
                axis = key[: at.start()], key[at.end() :]
                found[axis] = max(found.get(axis, 0), int(at.group()) + 1)
    return found


def solved_leaves(
    rows: list[TracedEquation], values: Mapping[str, Leaf], known: Mapping[str, list[Leaf]]
) -> Values:
    """Leaves at values for which more of the equations hold, where there are any: those that one
    leaf gives alone by votes, then one after another the move that most equations gain by."""
    now: Values = dict(values)
    settled = _propagated(rows, now, known)
    factors = _factors(rows)
    for _ in range(_ROUNDS):
        open_ = [row for row in rows if not row.holds(now)]
        best: tuple[int, float, Values] | None = None
        tried: set[tuple[tuple[str, Any], ...]] = set()
        for row in open_:
            for move in _moves(row, now, settled, known, factors):
                mark = tuple(move.items())
                if mark in tried:
                    continue
                tried.add(mark)
                gain = _gain(rows, now, move)
                rank = gain, -_distance(now, move)
                if gain > 0 and (best is None or rank > best[:2]):
                    best = *rank, move
        if best is None:
            break
        now.update(best[2])
    return {path: value for path, value in now.items() if values.get(path) != value}


def _propagated(
    rows: list[TracedEquation], now: Values, known: Mapping[str, list[Leaf]]
) -> set[str]:
    """Settle what single leaves give, and what follows from those. The settled leaves."""
    settled: set[str] = set()
    waiting = [row for row in rows if row.names]
    while True:
        alone: dict[str, list[TracedEquation]] = {}
        for row in waiting:
            free = [name for name in row.names if name not in settled]
            if len(free) == 1:
                alone.setdefault(free[0], []).append(row)
        found = {path: _voted(path, some, now, known) for path, some in alone.items()}
        found = {path: value for path, value in found.items() if value is not None}
        if not found:
            return settled
        now.update(found)
        settled |= found.keys()
        waiting = [row for row in waiting if any(name not in settled for name in row.names)]


def _voted(
    path: str, rows: list[TracedEquation], now: Values, known: Mapping[str, list[Leaf]]
) -> Any:
    """The value of a leaf with which most of its equations hold, those foremost that leave it no
    other; of several, its own, then one that is a size as it stands. None where no value does."""
    sure: Counter[Any] = Counter()
    options: dict[Any, int] = {}
    for row in rows:
        value, is_sure = _inverted(row, path, now, known)
        if value is not None:
            sure[value] += row.votes * is_sure
            options.setdefault(value, 0)
            if type(value) is int:
                options[row.wanted] = 1

    def rank(value: Any) -> tuple[Any, ...]:
        env = {**now, path: value}
        holding = sum(row.votes for row in rows if row.holds(env))
        return sure[value], holding, value == now[path], options[value]

    return max(options, key=rank) if options else None


def _moves(
    row: TracedEquation,
    now: Values,
    settled: set[str],
    known: Mapping[str, list[Leaf]],
    factors: Mapping[str, list[int]],
) -> Iterator[Values]:
    """Moves of one leaf, or of a pair that goes together, that make an equation hold."""
    free = [name for name in row.names if name not in settled]
    for path in free:
        value, _ = _inverted(row, path, now, known)
        if value is not None and value != now[path]:
            yield {path: value}
    for path in free:
        if path.endswith(".0") and f"{path[:-2]}.1" in free:
            pair = path, f"{path[:-2]}.1"
            value = _bisected(_both(row, now, pair), row)
            if value is not None and type(now[path]) is int:
                yield dict.fromkeys(pair, value)
    small = [path for path in free if type(now[path]) is int and now[path] <= COUNT]
    for path in small[:_SMALL] if len(free) > 1 else ():
        for number in [*range(1, COUNT + 1), *factors.get(path, ())]:
            beside = {**now, path: number}
            for other in free if number != now[path] else ():
                value = _inverted(row, other, beside, known)[0] if other != path else None
                if value is not None and value != now[other]:
                    yield {path: number, other: value}


def _both(row: TracedEquation, now: Values, pair: tuple[str, str]) -> Callable[[float], Any]:
    return lambda number: row.at({**now, **dict.fromkeys(pair, number)})


def _distance(now: Values, move: Values) -> float:
    """How much a move changes; height and width, alike before and after, are one leaf."""
    far = [1 + _far(now[path], value) for path, value in move.items()]
    alike = len(move) > 1 and len(set(move.values())) == 1 and len({now[p] for p in move}) == 1
    return max(far) if alike else sum(far)


def _far(one: float, two: float) -> float:
    return abs(math.log(two / one)) if one > 0 and two > 0 else 1.0


def _factors(rows: list[TracedEquation]) -> dict[str, list[int]]:
    """For each leaf, divisors of the smaller sizes that it's in: what it may be a factor of."""
    sizes: dict[str, set[int]] = {}
    for row in rows:
        for path in row.names if COUNT < row.wanted <= _FACTOR else ():
            sizes.setdefault(path, set()).add(row.wanted)
    return {
        path: [n for n in range(COUNT + 1, _FACTOR + 1) if any(not s % n for s in sorted(all_)[:4])]
        for path, all_ in sizes.items()
    }


def _gain(rows: list[TracedEquation], now: Values, move: Values) -> int:
    """How many more tensors' equations hold after a move."""
    after = {**now, **move}
    found = 0
    for row in rows:
        if any(path in move for path in row.names):
            found += row.votes * (row.holds(after) - row.holds(now))
    return found


def _inverted(
    row: TracedEquation, path: str, now: Values, known: Mapping[str, list[Leaf]]
) -> tuple[Any, bool]:
    """The value of a leaf for an equation to hold, and whether its neighbours wouldn't do."""
    value = now[path]
    env = dict(now)

    def at(x: float) -> Any:
        env[path] = x
        return row.at(env)

    def sure(x: Any) -> bool:
        return type(x) is int and at(x + 1) != row.wanted and (x <= 1 or at(x - 1) != row.wanted)

    if at(value) == row.wanted:
        return value, sure(value)
    whole = type(value) is int
    found = _bisected(at, row)
    if found is not None and (whole or type(value) is float):
        return (found if whole else float(found)), sure(found)
    for other in known.get(path, ()):
        if type(other) is type(value) and at(other) == row.wanted:  # pyright: ignore
            return other, False
    fraction = _fraction(at, row)
    # Some ratios are whole by default, and rounded on the way to a size.
    if whole and (fraction is None or type(at(fraction)) is not int):
        return None, False
    return fraction, False


def _bisected(at: Callable[[float], Any], row: TracedEquation) -> int | None:
    """The whole number at which something that rises, or falls, is what's wanted."""
    one, two = at(1), at(2)
    if isinstance(one, int | float) and isinstance(two, int | float) and one != two:
        straight = 1 + (row.wanted - one) / (two - one)
        near = int(straight)
        if 0 < straight < _LARGEST and straight == near and at(near) == row.wanted:
            return near
    low, high = 1, _LARGEST
    far = at(high)
    first = one if isinstance(one, int | float) else None
    falls = isinstance(far, int | float) and first is not None and far < first
    while low < high:
        middle = (low + high) // 2
        found = at(middle)
        before = not isinstance(found, int | float) or (
            found > row.wanted if falls else found < row.wanted
        )
        low, high = (middle + 1, high) if before else (low, middle)
    return low if at(low) == row.wanted else None


def _shared(at: Callable[[float], Any], denominator: int) -> Callable[[float], Any]:
    return lambda number: at(number / denominator)


def _fraction(at: Callable[[float], Any], row: TracedEquation) -> float | None:
    """The simplest fraction that gives what's wanted."""
    for denominator in _DENOMINATORS:
        found = _bisected(_shared(at, denominator), row)
        if found is not None:
            return found / denominator
    low, high = at(1.0), at(2.0)
    if isinstance(low, int | float) and isinstance(high, int | float) and low != high:
        for wanted in (row.wanted, row.wanted + 0.5, row.wanted - 0.5):
            found = 1.0 + (wanted - low) / (high - low)
            for digits in (3, 6, 12):
                if found > 0 and at(round(found, digits)) == row.wanted:
                    return round(found, digits)
    return None
