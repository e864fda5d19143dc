"""A traced network as lines of a program: sizes as the trace has them, and rows of numbered
children that a loop or a list makes as one repeat."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archfind.classes.numbered import numbered
from archfind.classes.program import split
from archfind.probing.trace import Traced
from archfind.state_dicts.canonical import is_table

Line = tuple[str, tuple[str, ...], str, tuple[str, ...]]  # pattern, sizes, dtype, conditions
Tree = dict[str, Any]  # component -> Tree, or a key at a leaf

_INDICES = "ijklmno"
_DIGITS = re.compile(r"(\d+)")
_TAIL = 6  # rounds at the end of a row that are like no others
_TURNS = 4  # rounds after which a mask comes again
_ALIKE = 2  # rounds that must be alike for a row to be a repeat


def lines_of(traced: Traced, lengths: Mapping[str, str]) -> list[Line]:
    """The lines of a network; `lengths` has the leaf that counts a row of keys where no loop does,
    by what stands before the numbers."""
    root: Tree = {}
    for key in traced.shapes:
        *path, last = numbered(key).split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[last] = key
    return _Unroller(traced, lengths).lines(root, "", 0)


class _Unroller:
    def __init__(self, traced: Traced, lengths: Mapping[str, str]) -> None:
        self._traced = traced
        self._lengths = lengths

    def lines(self, node: Tree, head: str, depth: int) -> list[Line]:
        """The lines below a node; `depth` repeats are around it."""
        found: list[Line] = []
        row = [name for name in node if name.isdigit()]
        bound = self._bound(node, row, head) if len(row) > 1 else None
        repeat = self._repeat(node, head, bound, depth) if bound is not None else None
        for name, child in node.items():
            if repeat is None or not name.isdigit():
                found += self._child(name, child, head, depth)
        return [*found, *(repeat or ())]

    def _child(self, name: str, child: Any, head: str, depth: int) -> list[Line]:
        pattern = f"{head}.{name}" if head else name
        if isinstance(child, dict):
            return self.lines(child, pattern, depth)
        shape, dtype = self._traced.shapes[child]
        sizes = self._traced.sizes.get(child)
        if sizes is None:
            if is_table(child, dtype) and shape:
                return []  # computed by the library
            sizes = [str(n) for n in shape]
        return [(pattern, tuple(sizes), dtype, ())]

    def _bound(self, node: Tree, row: Sequence[str], head: str) -> str | None:
        """How many there are in a row of numbered children, as an expression."""
        last = max(map(int, row))
        if head in self._lengths:
            return self._lengths[head]
        numbers = sorted(row, key=int)
        # The last few may be of their own, made after the loop.
        for beyond in range(min(_TAIL, len(row) - 2) + 1):
            before, after = numbers[-2 - beyond], numbers[-1 - beyond]
            turns = self._turns(node[before])
            for bound, turn in self._turns(node[after]).items():
                ends = turn + 1 == self._traced.bounds[bound]
                if ends and turns.get(bound) == turn - 1:
                    more = last - turn
                    return f"{bound}+{more}" if more > 0 else f"{bound}-{-more}" if more else bound
        return None

    def _turns(self, child: Any) -> dict[str, int]:
        """The rounds that all tensors below a child were made in."""
        found: dict[str, int] | None = None
        for key in _keys(child):
            if key in self._traced.loops and not is_table(key, self._traced.shapes[key][1]):
                own = dict(self._traced.loops[key])
                found = own if found is None else found
                found = {b: t for b, t in found.items() if own.get(b) == t}
        return found or {}

    def _repeat(self, node: Tree, head: str, bound: str, depth: int) -> list[Line] | None:
        """Numbered children as one repeat: the first few as they are, the rest alike but for their
        number, the last few perhaps others. None where they aren't."""
        count = 1 + max(int(name) for name in node if name.isdigit())
        index = _INDICES[depth]
        inside: list[list[Line]] = []
        for number in range(count):
            child = node.get(str(number), {})
            inside.append(
                self.lines(child, "", depth + 1)
                if isinstance(child, dict)
                else self._child("", child, "", depth + 1)
            )
        inside, tables = _without_tables(inside, index)
        for apart in range(count - _ALIKE + 1):
            for tail in range(min(apart, _TAIL) + 1):
                start, end = apart - tail, count - tail
                alike = _generalised(inside[start:end], start, index)
                if alike is None:
                    continue
                first = [f"{{{index}}} == {number}" for number in range(start)]
                last = [f"{{{index}}} == {{{index}#}}-{count - n}" for n in range(end, count)]
                own = (f"{{{index}}} > {start - 1}",) * (start > 0)
                own += (f"{{{index}}} < {{{index}#}}-{tail}",) * (tail > 0)
                pattern = f"{head}.{{{index}<{bound}}}"
                return [
                    *_apart(inside[:start], first, pattern),
                    *_under(alike, pattern, own),
                    *_apart(inside[end:], last, pattern),
                    *_under(tables, pattern, ()),
                ]
        turns = _in_turns(inside, index)
        if turns is not None:
            pattern = f"{head}.{{{index}<{bound}}}"
            return [*_under(turns, pattern, ()), *_under(tables, pattern, ())]
        return None


def _in_turns(rows: list[list[Line]], index: str) -> list[Line] | None:
    """The lines of a row in which every so many rounds are alike, as where two kinds of block take
    turns; None where they aren't."""
    for every in range(2, min(_TURNS, len(rows) // _ALIKE) + 1):
        found: list[Line] = []
        for first in range(every):
            alike = _generalised(rows[first::every], first, index)
            if alike is None:
                break
            turn = f"{{{index}}}%{every} == {first}"
            found += [(name, sizes, kind, (turn, *when)) for name, sizes, kind, when in alike]
        else:
            return found
    return None


def _without_tables(rows: list[list[Line]], index: str) -> tuple[list[list[Line]], list[Line]]:
    """Rounds without the masks that only some of them have, so that they are alike; and those masks
    where every so many rounds have the same. A program needn't give the others."""
    held = [{_template(line): line for line in row if _is_mask(line)} for row in rows]
    few = {name for own in held for name in own if any(name not in other for other in held)}
    turns: list[Line] = []
    for name in sorted(few):
        at = [number for number, own in enumerate(held) if name in own]
        line = held[at[0]][name]
        for every in range(2, _TURNS + 1):
            again = at == list(range(at[0] % every, len(rows), every)) and len(at) > 1
            if again and all(held[number][name] == line for number in at):
                pattern, sizes, dtype, conditions = line
                place = f"{{{index}}}%{every} == {at[0]}"
                turns.append((pattern, sizes, dtype, (place, *conditions)))
                break
    left = [[n for n in row if not (_is_mask(n) and _template(n) in few)] for row in rows]
    return left, turns


def _is_mask(line: Line) -> bool:
    return line[2] == "float" and is_table(line[0], line[2])


def _template(line: Line) -> str:
    return _DIGITS.sub("#", line[0])


def _apart(rows: Sequence[Sequence[Line]], places: Sequence[str], head: str) -> Iterator[Line]:
    """Children of a repeat that stand by themselves, each at its place."""
    for lines, place in zip(rows, places, strict=True):
        yield from _under(lines, head, (place,))


def _under(lines: Sequence[Line], head: str, conditions: tuple[str, ...]) -> list[Line]:
    head = head.lstrip(".")
    return [
        (f"{head}.{pattern}" if pattern else head, sizes, dtype, (*conditions, *inner))
        for pattern, sizes, dtype, inner in lines
    ]


def _keys(child: Any) -> Iterator[str]:
    if isinstance(child, dict):
        for inner in child.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _keys(inner)
    else:
        yield child


def _generalised(rows: list[list[Line]], start: int, index: str) -> list[Line] | None:
    """Lines that are those of every row, with the row's number in leaves' paths; None where there
    are none."""
    if any(len(row) != len(rows[0]) for row in rows):
        return None
    found: list[Line] = []
    for same in zip(*rows, strict=True):
        _, first, dtype, _ = same[0]
        if any(line[2] != dtype or len(line[1]) != len(first) for line in same):
            return None
        pattern = _same_pattern([line[0] for line in same], start, index)
        sizes = _all_unified([line[1] for line in same], start, index)
        conditions = _all_unified([line[3] for line in same], start, index)
        if pattern is None or sizes is None or conditions is None:
            return None
        found.append((pattern, sizes, dtype, conditions))
    return found


def _same_pattern(patterns: Sequence[str], start: int, index: str) -> str | None:
    """One pattern for all: names are the same, bounds may have the row's number."""
    found: list[str] = []
    parts = [split(pattern) for pattern in patterns]
    if any(len(one) != len(parts[0]) for one in parts):
        return None
    for same in zip(*parts, strict=True):
        bound = same[0][0] == "{"
        text = _unified(same, start, index) if bound else same[0]
        if text is None or (not bound and any(part != text for part in same)):
            return None
        found.append(text)
    return ".".join(found)


def _all_unified(rows: Sequence[tuple[str, ...]], start: int, index: str) -> tuple[str, ...] | None:
    if any(len(row) != len(rows[0]) for row in rows):
        return None
    texts = [_unified(texts, start, index) for texts in zip(*rows, strict=True)]
    return None if None in texts else tuple(text for text in texts if text is not None)


def _unified(texts: Sequence[str], start: int, index: str) -> str | None:
    """One text for all: numbers in leaves' paths that go up with the row become its index."""
    if all(text == texts[0] for text in texts):
        return texts[0]
    parts = [_DIGITS.split(text) for text in texts]
    if any(len(part) != len(parts[0]) for part in parts):
        return None
    found: list[str] = []
    for at, pieces in enumerate(zip(*parts, strict=True)):
        if all(piece == pieces[0] for piece in pieces):
            found.append(pieces[0])
            continue
        if at % 2 == 0:
            return None
        numbers = [int(piece) for piece in pieces]
        within = found[-1].endswith(".")  # a leaf's path
        text = (
            _behind(numbers, start, index, (0, 1))
            if within
            else _rising(numbers, start, index) or _doubling(numbers, start, index)
        )
        if text is None:
            return None
        found.append(text)
    return "".join(found)


def _behind(numbers: Sequence[int], start: int, index: str, allowed: Sequence[int]) -> str | None:
    back = {start + n - number for n, number in enumerate(numbers)}
    (less,) = back if len(back) == 1 else (None,)
    if less is None or less not in allowed:
        return None
    return f"{{{index}-{less}}}" if less else f"{{{index}}}"


def _rising(numbers: Sequence[int], start: int, index: str) -> str | None:
    back = {start + n - number for n, number in enumerate(numbers)}
    (less,) = back if len(back) == 1 else (None,)
    if not less:
        return f"{{{index}}}" if less == 0 else None
    return f"({{{index}}}-{less})" if less > 0 else f"({{{index}}}+{-less})"


def _doubling(numbers: Sequence[int], start: int, index: str) -> str | None:
    """Numbers of which each is twice the one before, as stages have them."""
    if any(two != 2 * one for one, two in itertools.pairwise(numbers)) or numbers[0] < 1:
        return None
    factor, power = numbers[0], start
    while factor % 2 == 0 and power:
        factor, power = factor // 2, power - 1
    place = f"{{{index}}}" if not power else f"({{{index}}}-{power})"
    return f"({factor}*2**{place})" if factor > 1 else f"(2**{place})"
