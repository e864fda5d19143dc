"""A registered network with its rows of blocks made longer, so that a few in each are alike, and
what counts each row: a loop, or the length of a list."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from archfind.classes.equations import ERRORS
from archfind.classes.expression import parse_expression
from archfind.classes.numbered import numbered
from archfind.classes.program import Program
from archfind.learning.family import Preset
from archfind.learning.lines import Line, lines_of
from archfind.probing.config import Leaf, leaves_of_config, merged_moves, moved
from archfind.probing.probe import Shapes, on_meta, shapes_of
from archfind.probing.trace import Refused, Traced, trace
from archfind.state_dicts.canonical import is_derived

_ROUNDS = 4  # blocks in a row, so that two are alike beside a first and a last
_LISTS = 60
_NUMBERS = 120
_COUNT = 16  # a number up to this may count blocks
_LENGTHS = (2, 3, 6)


class Grown:
    """Traces of one class, from a preset whose rows are grown."""

    def __init__(self, cls: type[nn.Module], base: Preset, end: float) -> None:
        self.cls = cls
        self.base = base
        self.end = end
        self.moves: dict[str, Any] = {}
        self.lengths: dict[str, str] = {}
        self.ends: dict[str, str] = {}  # what names a list's last item -> the same of its first
        self.together: list[list[str]] = []  # the lists of one length that a row goes with
        self.counted: dict[str, str] = {}  # a size beyond a row -> the same for any length of it
        self.first: Traced | None = None
        self.values = base.values()

    def traced(self, moves: Mapping[str, Any]) -> Traced | None:
        try:
            return trace(self.cls, moved(self.base.config, merged_moves(self.moves, moves)))
        except Refused:
            return None

    def grown_values(self) -> dict[str, Leaf]:
        """The leaves of the network that is traced."""
        return leaves_of_config(moved(self.base.config, self.moves))

    def grow(self) -> bool:
        """Make rows of blocks longer where that goes; whether the class can be traced at all."""
        first = self.traced({})
        if first is None:
            return False
        values = self.values
        for bound, count in first.bounds.items():
            names = parse_expression(bound).names
            if count >= _ROUNDS or len(names) != 1 or type(values.get(names[0])) is not int:
                continue
            more: Any = values[names[0]]
            move = {names[0]: more + _ROUNDS - count}
            again = self.traced(move)
            if again is not None and again.bounds.get(bound) == _ROUNDS:
                self.moves.update(move)
                first = again
        self._lists(self._counts(first))
        self.first = self.traced({})
        return self.first is not None

    def _counts(self, first: Traced) -> Traced:
        """Numbers that count a row by other means than a loop."""
        looped = {name for bound in first.bounds for name in parse_expression(bound).names}
        for path, value in list(self.values.items())[:_NUMBERS]:
            small = type(value) is int and 0 < value <= _COUNT and not path.endswith(".#")
            if not small or path in looped or time.process_time() > self.end:
                continue
            own: Any = value
            longer = max(_ROUNDS, own + 1)
            more = self.traced({path: longer})
            if more is None or first.shapes.keys() - more.shapes.keys():
                continue
            rows = {_row(key, first.shapes) for key in more.shapes if key not in first.shapes}
            row = rows.pop() if len(rows) == 1 else None
            if row is None or _length(row[0], more.shapes) - row[1] != longer - own:
                continue
            head, count = row
            if _counted(path, (own, longer), (first, more), head) == {}:
                self.lengths[head] = f"{path}{count - own:+d}" if count != own else path
                self.moves[path] = longer
                self.together.append([path])
                first = more
        return first

    def _lists(self, first: Traced) -> None:
        """Lists with an item a block: which keys one more item brings says which row is theirs."""
        lists = [p for p, v in self.values.items() if p.endswith(".#") and v]
        for path in lists[:_LISTS]:
            length: Any = self.values[path]
            longer = max(_ROUNDS, length + 1)
            moves, more = self._longer(path, longer, lists)
            if more is None or time.process_time() > self.end:
                continue
            rows = {_row(key, first.shapes) for key in more.shapes if key not in first.shapes}
            row = rows.pop() if len(rows) == 1 else None
            if row is None or row[1] < length:
                continue
            head, count = row
            last = f"{path[:-1]}{longer - 1}."
            if not self._uniform(path, length, last, more, head):
                continue
            counted = _counted(path, (length, longer), (first, more), head)
            if counted is None:
                continue
            offset = count - length
            self.lengths[head] = f"{path}+{offset}" if offset else path
            self.moves.update(moves)
            self.ends[last] = f"{path[:-1]}0."
            self.counted.update(counted)
            self.together.append([p for p in moves if p.endswith(".#")])
            first = more

    def lists_hold(self, program: Program) -> bool:
        """Whether the program is right for other lengths of the lists, as far as the class takes
        them."""
        for paths in self.together:
            for length in _LENGTHS:
                config = moved(self.base.config, dict.fromkeys(paths, length))
                drawn = leaves_of_config(config)
                try:
                    shapes = shapes_of(on_meta(self.cls, config))
                except Exception:  # a library refuses values in its own ways
                    continue
                if not program_gives(program, drawn, shapes):
                    return False
        return True

    def _longer(
        self, path: str, longer: int, lists: Sequence[str]
    ) -> tuple[dict[str, Any], Traced | None]:
        """A list made longer, with all others of its length where the class refuses it alone."""
        own: Any = self.values
        alike = [p for p in lists if own[p] == own[path] and p not in self.lengths.values()]
        for some in ([path], alike):
            moves = dict.fromkeys(some, longer)
            for one in some:  # new items as the last is, where that was grown
                last = self.moves.get(f"{one[:-1]}{own[one] - 1}")
                new = range(own[one], longer) if last is not None else ()
                moves |= {f"{one[:-1]}{number}": last for number in new}
            more = self.traced(moves)
            if more is not None:
                return moves, more
        return {}, None

    def _uniform(self, path: str, length: int, last: str, more: Traced, head: str) -> bool:
        """Whether all items of a list agree in what others read of its last."""
        values = self.values
        for key, texts in more.sizes.items():
            if numbered(key).startswith(f"{head}."):
                continue
            for name in {n for text in texts if last in text for n in parse_expression(text).names}:
                rest = name.removeprefix(last)
                items = {values.get(f"{path[:-1]}{n}.{rest}") for n in range(length)}
                if name.startswith(last) and len(items) > 1:
                    return False
        return True

    def simplify(self) -> bool:
        """Go back to the preset's lists, then to all of it; False where it is so already."""
        own = {p: v for p, v in self.moves.items() if p in self.values and not p.endswith(".#")}
        for moves in (own, {}):
            if moves != self.moves:
                self.moves, self.lengths, self.ends, self.counted = dict(moves), {}, {}, {}
                self.together = []
                self.first = self.traced({})
                if self.first is not None:
                    return True
        return False

    def lines(self, one: Traced) -> Iterator[Line]:
        for pattern, sizes, dtype, conditions in lines_of(one, self.lengths):
            for last, first in self.ends.items():
                sizes = tuple(size.replace(last, first) for size in sizes)
            if not any(pattern.startswith(f"{head}.") for head in self.lengths):
                sizes = tuple(self.counted.get(size, size) for size in sizes)
            yield pattern, sizes, dtype, conditions


def _counted(
    path: str, lengths: tuple[int, int], pair: tuple[Traced, Traced], head: str
) -> dict[str, str] | None:
    """The sizes beyond a row that its length changes, with what they are for any length: another
    item of a list, a number that goes up or doubles. None where it is something else."""
    found: dict[str, str] = {}
    first, more = pair
    for key, texts in more.sizes.items():
        before = first.sizes.get(key)
        if before is None or numbered(key).startswith(f"{head}."):
            continue
        for old, new in zip(before, texts, strict=False):
            text = new if old == new else _for_any(old, new, path, lengths)
            if text is None:
                return None
            if text != new:
                found[new] = text
    return found


_NUMBER = re.compile(r"(\d+)")


def _for_any(old: str, new: str, path: str, lengths: tuple[int, int]) -> str | None:
    """What a text is for any length of a list, from that at two lengths."""
    one, two = _NUMBER.split(old), _NUMBER.split(new)
    if len(one) != len(two) or one[::2] != two[::2]:
        return None
    length, longer = lengths
    found: list[str] = []
    for before, after in zip(one, two, strict=True):
        if before == after:
            found.append(after)
            continue
        low, high = int(before), int(after)
        if found[-1].endswith("."):  # an item of a list
            if (low, high) != (length - 1, longer - 1):
                return None
            found.append(f"{{{path}-1}}")
        elif high == low << (longer - length):
            power = min(length, (low & -low).bit_length() - 1)
            factor = f"{low >> power}*" if low >> power > 1 else ""
            found.append(f"({factor}2**({path}-{length - power}))")
        elif high - low == longer - length:
            found.append(f"({path}{low - length:+d})" if low != length else path)
        else:
            return None
    return "".join(found)


def _row(key: str, shapes: Shapes) -> tuple[str, int] | None:
    """The row that a new key continues: what stands before its number, numbers apart, and how many
    there were."""
    parts = numbered(key).split(".")
    for at, part in enumerate(parts):
        if part.isdigit():
            head = ".".join(parts[:at])
            there = _length(head, shapes)
            if there and int(part) >= there:
                return head, there
    return None


def _length(head: str, shapes: Shapes) -> int:
    """One more than the last number below a head."""
    at = head.count(".") + 1 if head else 0
    start = f"{head}." if head else ""
    below = [numbered(k).split(".") for k in shapes if numbered(k).startswith(start)]
    return max((int(k[at]) + 1 for k in below if len(k) > at and k[at].isdigit()), default=0)


def program_gives(program: Program, values: Mapping[str, Leaf], shapes: Shapes) -> bool:
    """Whether a program gives a network's tensors, index tables aside."""
    try:
        found = program.expand(values)
    except ERRORS:
        return False
    return found == {k: v for k, v in shapes.items() if k in found or not is_derived(k, v[1])}
