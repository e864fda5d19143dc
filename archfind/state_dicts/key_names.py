"""What names say: which count in step, which are alike in words, and whether they are sorted.

Part of alignment.py, on the cold path of `archfind guess`.
"""

from __future__ import annotations

import re
from itertools import pairwise

_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[a-z]+")
_DIGITS = 18  # of a number that may be a place in a row


def number_in_key(word: str) -> int:
    """The number that a part of a key is; -1 for what is none, and for what has more digits than a
    count of anything: no range is that long, and Python refuses to read thousands of them."""
    return int(word) if len(word) <= _DIGITS and word.isdecimal() else -1


def backwards(told: dict[str, str]) -> bool:
    """Whether two names that differ in a number count one way, and what they stand for the other:
    then numbers aren't what they seem."""
    runs: dict[tuple[str, str], list[tuple[list[int], list[int]]]] = {}
    for name, other in told.items():
        numbers = _numbers(name), _numbers(other)
        if all(numbers):
            runs.setdefault((skeleton(name), skeleton(other)), []).append(numbers)
    return any(one[1] > other[1] for run in runs.values() for one, other in pairwise(sorted(run)))


def by_number(left: list[str], right: list[str]) -> dict[str, str]:
    """Names that differ in their numbers alone, on both sides, where the numbers run in step:
    0 1 2 and 1 2 3, not 0 1 2 and 7 3 5."""
    ours, theirs = series(left), series(right)
    if not ours or list(ours) != list(theirs):
        return {}
    return {ours[number_in_key]: theirs[number_in_key] for number_in_key in ours}


def series(names: list[str]) -> dict[tuple[int, ...], str]:
    """Names by their numbers, in order: those that vary, counted from the least. Empty where the
    names differ in more than numbers."""
    if len(set(map(skeleton, names))) > 1:
        return {}
    rows = list(map(_numbers, names))
    columns = [column for column in zip(*rows, strict=True) if len(set(column)) > 1]
    counted = zip(*([n - min(column) for n in column] for column in columns), strict=True)
    found = dict(sorted(zip(counted, names, strict=False)))
    if len(found) < len(names):
        return {}
    return found


def _numbers(name: str) -> list[int]:
    return list(map(number_in_key, _NUMBER.findall(name)))


def skeleton(name: str) -> str:
    """A name less its numbers."""
    return _NUMBER.sub("#", name)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key to sort names by, their numbers as numbers."""
    parts = re.split(r"(\d+)", name)
    return [
        (1, n, "") if (n := number_in_key(part)) >= 0 else (0, 0, part) for part in parts if part
    ]


def own_order(names: list[str]) -> bool:
    """Whether names stand in an order of their own, not in that of the alphabet."""
    keys = list(map(natural, names))
    rising = all(one <= other for one, other in pairwise(keys))
    return not rising and names != sorted(names)


def by_words(left: list[str], right: list[str]) -> dict[str, str]:
    """Names that share words, or beginnings of words, which no other on their side has: query and
    q_proj. Empty where that isn't so for each of them."""
    theirs = {name: set(_WORD.findall(name.lower())) for name in right}
    common = set.intersection(*theirs.values())
    found: dict[str, str] = {}
    for name in left:
        words = _WORD.findall(name.lower())
        like = [
            other
            for other in right
            if any(
                word.startswith(its) or its.startswith(word)
                for its in theirs[other] - common
                for word in words
            )
        ]
        if len(like) != 1:
            return {}
        found[name] = like[0]
    return found if len(set(found.values())) == len(found) else {}
