"""Rates of a candidate, and the numbers that sizes are made of together with them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import TypeGuard

from archfind.probing.candidate import ProbedArguments
from archfind.probing.config import leaves_of_config, moved
from archfind.probing.misfit import key_template, misfits
from archfind.probing.slopes import Slopes

_TOGETHER = 16  # numbers that are settled at once
_ROUNDED = 2.0  # a misfit that rounding may end
_UNMIXED = 24  # ways to round the rest


def sloped(at: ProbedArguments) -> bool:
    """Move the numbers that sizes are made of together by their slopes, to rates as simple as their
    sizes let them be. Whether that got nearer."""
    apart = misfits(at.shapes, at.target)
    if any(key not in at.shapes or key not in at.target for key in apart):
        return False  # a switch or a count has to be found first
    wrong = {key_template(key) for key in apart}
    numbers = {
        path: value
        for path, value in leaves_of_config(moved(at.config, at.moves)).items()
        if _is_number(value) and value > 0 and path[-1] != "#" and at.reach.get(path, wrong) & wrong
    }
    if not 1 < len(numbers) <= _TOGETHER:
        return False
    slopes = _slopes(at)
    settled = slopes.settled(numbers)
    kept = _stepped(at, settled)
    for step in slopes.rounded(settled) if slopes.is_near(settled) else ():
        kept |= _stepped(at, step)
        if not at.cost or time.monotonic() > at.end:
            break
    return kept


def unmixed(at: ProbedArguments) -> None:
    """Move no more numbers together with a rate than it takes: each goes back once, and the others
    are settled for that."""
    own = leaves_of_config(at.config)
    numbers = {p: v for p, v in at.moves.items() if _is_number(v) and p[-1] != "#"}
    if len(numbers) < 2 or not any(isinstance(value, float) for value in numbers.values()):
        return
    slopes = _slopes(at)
    for path in numbers:
        value = own.get(path)
        if path not in at.moves or not _is_number(value):
            continue
        rest = {p: v for p, v in at.moves.items() if p in numbers and p != path and _is_number(v)}
        start = slopes.settled(rest, {path: value})
        far = at.tried({**at.moves, **start})
        if far is None or far > _ROUNDED:
            continue
        for step in itertools.islice(slopes.rounded(start, path), _UNMIXED):
            if time.monotonic() > at.end or _stepped(at, step):
                break


def _slopes(at: ProbedArguments) -> Slopes:
    return Slopes(lambda move: at.built({**at.moves, **move}), at.shapes, at.target, end=at.end)


def _stepped(at: ProbedArguments, numbers: Mapping[str, float]) -> bool:
    """Keep these numbers, where that's better or does with fewer moves."""
    own = leaves_of_config(at.config)
    moves = {**at.moves, **numbers}
    moves = {p: v for p, v in moves.items() if p not in numbers or v != own.get(p)}
    if not at.cost and len(moves) < len(at.moves) and at.tried(moves) == 0:
        at.moves = moves
        return True
    return at.kept(moves)


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) in (int, float)
