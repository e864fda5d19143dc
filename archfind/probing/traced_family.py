"""A registered network -> a family, from traces: one of the network itself, and one for every other
value of a switch. What differs between them says which lines stand under which condition.

The network is grown first, so that every row of blocks has a few that are alike. What the program
is wrong about is left out: the values of a switch that it doesn't hold for with others.
"""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from archfind.families.expression import parse
from archfind.families.program import Program, numbered
from archfind.probing.config import Config, Leaf, leaves, moved
from archfind.probing.family import Learned, Preset
from archfind.probing.lines import Line, lines_of
from archfind.probing.misfit import is_derived
from archfind.probing.probe import Shapes, on_meta, shapes_of
from archfind.probing.proposals import COUNT, alternates, annotated, leaf_name, literals
from archfind.probing.trace import Refused, Traced, trace

_ROUNDS = 4  # blocks in a row, so that two are alike beside a first and a last
_LISTS = 60
_LENGTHS = (2, 3, 6)
_CHOICES = 12
_CHECKS = 8
_TOGETHER = 60  # pairs and triples of switches that are traced, of those that go wrong
_LAST = 0.3  # share of the time that is left to check what comes of them
_SWITCHED = 24  # a number up to this may be one that other keys hang on

Choice = tuple[str, Leaf]
Together = tuple[Choice, ...]  # in the order of the choices
_ERRORS = (KeyError, TypeError, ValueError, ArithmeticError, IndexError)


def traced_family(
    base: Preset,
    cls: type[nn.Module],
    known: Mapping[str, list[Leaf]],
    others: Sequence[Preset],
    seconds: float,
) -> Learned | None:
    """The family around one preset with the others that its program explains; None where the
    class can't be traced, or the program doesn't give the preset itself."""
    end = time.process_time() + seconds
    maker = _Maker(cls, base, known, end)
    if not maker.grown():
        return None
    choices = maker.choices()
    beside: dict[Together, Traced | None] = {}  # None where the class refuses
    draw = random.Random(0)
    while True:
        lines = [_text(line) for line in maker.combined(choices, beside)]
        program = Program(lines)
        if not _gives(program, base.values(), base.shapes) or not maker.lists_hold(program):
            if not choices:
                return None
            choices, beside = maker.choices() if maker.simplified() else {}, {}
            continue
        right, held, wrong, failed = _checked(maker, program, choices, draw)
        fresh = list(_untraced(failed, choices, beside))[: _TOGETHER - len(beside)]
        if fresh and time.process_time() < end - seconds * _LAST:
            beside |= {some: maker.traced(dict(some)) for some in fresh}
            continue
        if not wrong:
            break
        choices = {choice: one for choice, one in choices.items() if choice not in wrong}
        beside = {some: one for some, one in beside.items() if not wrong.intersection(some)}
    options = _options(program, base.values(), choices, known)
    alike = [p for p in others if _gives(program, p.values(), p.shapes)]
    return Learned(base.name, lines, options, [base, *alike], right, held)


class _Maker:
    """Traces of one class, from a preset whose rows are grown."""

    def __init__(
        self, cls: type[nn.Module], base: Preset, known: Mapping[str, list[Leaf]], end: float
    ) -> None:
        self.cls = cls
        self.base = base
        self.known = known
        self.end = end
        self.moves: dict[str, Any] = {}
        self.lengths: dict[str, str] = {}
        self.ends: dict[str, str] = {}  # what names a list's last item -> the same of its first
        self.together: list[list[str]] = []  # the lists of one length that a row goes with
        self.counted: dict[str, str] = {}  # a size beyond a row -> the same for any length of it
        self.first: Traced | None = None
        self.zero: set[str] = set()  # leaves of which any other number than the preset's 0 is alike
        self.hints = literals(cls)
        for path, more in annotated(cls, base.values()).items():
            self.hints.setdefault(path, []).extend(more)

    def traced(self, moves: Mapping[str, Any]) -> Traced | None:
        try:
            return trace(self.cls, moved(self.base.config, {**self.moves, **moves}))
        except Refused:
            return None

    def grown(self) -> bool:
        """Make rows of blocks longer where that goes; whether the class can be traced at all."""
        first = self.traced({})
        if first is None:
            return False
        values = self.base.values()
        for bound, count in first.bounds.items():
            names = parse(bound).names
            if count >= _ROUNDS or len(names) != 1 or type(values.get(names[0])) is not int:
                continue
            more: Any = values[names[0]]
            move = {names[0]: more + _ROUNDS - count}
            again = self.traced(move)
            if again is not None and again.bounds.get(bound) == _ROUNDS:
                self.moves.update(move)
                first = again
        self._lists(first)
        self.first = self.traced({})
        return self.first is not None

    def _lists(self, first: Traced) -> None:
        """Lists with an item a block: which keys one more item brings says which row is theirs."""
        lists = [p for p, v in self.base.values().items() if p.endswith(".#") and v]
        for path in lists[:_LISTS]:
            length: Any = self.base.values()[path]
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
                drawn = leaves(config)
                try:
                    shapes = shapes_of(on_meta(self.cls, config))
                except Exception:  # a library refuses values in its own ways
                    continue
                if not _gives(program, drawn, shapes):
                    return False
        return True

    def _longer(
        self, path: str, longer: int, lists: Sequence[str]
    ) -> tuple[dict[str, Any], Traced | None]:
        """A list made longer, with all others of its length where the class refuses it alone."""
        own: Any = self.base.values()
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
        values = self.base.values()
        for key, texts in more.sizes.items():
            if numbered(key).startswith(f"{head}."):
                continue
            for name in {n for text in texts if last in text for n in parse(text).names}:
                rest = name.removeprefix(last)
                items = {values.get(f"{path[:-1]}{n}.{rest}") for n in range(length)}
                if name.startswith(last) and len(items) > 1:
                    return False
        return True

    def simplified(self) -> bool:
        """Go back to the preset's lists, then to all of it; False where it is so already."""
        changed = bool(self.moves)
        kept = {p: v for p, v in self.moves.items() if not p.endswith(".#")} if self.lengths else {}
        self.moves, self.lengths, self.ends, self.counted = kept, {}, {}, {}
        self.together = []
        self.first = self.traced({})
        return changed and self.first is not None

    def choices(self) -> dict[Choice, Traced]:
        """Other values of what isn't a size, each with its trace, where they change a tensor."""
        assert self.first is not None
        values = self.base.values()
        found: dict[Choice, Traced] = {}
        self.zero = set()
        own = _marks(self.first)
        counts = {name for bound in self.first.bounds for name in parse(bound).names}
        for path, value in values.items():
            if path in counts or path.endswith(".#") or time.process_time() > self.end:
                continue
            if any(part.isdigit() for part in path.split(".")):
                continue  # of one block among many
            tried: list[Leaf]
            if type(value) is float or (type(value) is int and "." in path):
                continue
            if type(value) is int:
                near = [value + 1, value - 1, value * 2, 2, 3, 4] if value <= _SWITCHED else []
                tried = [0, *(n for n in near if n > 0)]
            else:
                hinted = [*self.known.get(path, ()), *self.hints.get(leaf_name(path), ())]
                tried = alternates(path, value, hinted)[:_CHOICES]
            for item in dict.fromkeys(tried):
                if path in self.zero:
                    break
                if item == value and type(item) is type(value):
                    continue
                one = self.traced({path: item})
                if one is None or any(0 in shape for shape, _ in one.shapes.values()):
                    continue
                # Another number changes sizes, which aren't conditions, if their text stays.
                if _marks(one) != own:
                    alike = (
                        value == 0
                        and type(value) is int
                        and any(
                            at == path and _marks(two) == _marks(one)
                            for (at, _), two in found.items()
                        )
                    )
                    if alike:
                        self.zero.add(path)
                    else:
                        found[path, item] = one
        return found

    def combined(
        self, choices: Mapping[Choice, Traced], beside: Mapping[Together, Traced | None]
    ) -> list[Line]:
        """The lines of all traces, each under the conditions that its absence elsewhere says."""
        assert self.first is not None
        traces = {(): self.first, **{(choice,): one for choice, one in choices.items()}, **beside}
        lines = {
            some: dict.fromkeys(self._lines(one)) for some, one in traces.items() if one is not None
        }
        found: list[Line] = []
        for line in dict.fromkeys(line for some in lines.values() for line in some):
            there = {some: line in own for some, own in lines.items()}
            clauses = [self._when((), there)]
            pattern, sizes, dtype, conditions = line
            if conditions and " or " in clauses[0]:
                clauses = [f"({clauses[0]})"]
            found.append((pattern, sizes, dtype, (*conditions, *filter(None, clauses))))
        return found

    def _when(self, at: Together, there: Mapping[Together, bool]) -> str:
        """When a line is there, given that these switches are turned and it is so or isn't in the
        trace of them: "" for always, or what the nearest traces of more switches say."""
        turned = set(at)
        more = [some for some in there if turned < set(some) and there[some] != there[at]]
        nearest = [some for some in more if not any(set(one) < set(some) for one in more)]
        clauses: list[str] = []
        gone: dict[str, set[Leaf]] = {}
        for some in nearest:
            switches = [choice for choice in some if choice not in turned]
            rest = self._when(some, there)
            if not there[at]:
                every = [*map(self._is, switches), *(([_brackets(rest)]) if rest else [])]
                clauses.append(" and ".join(every))
            elif rest or len(switches) > 1:
                one = [*map(self._isn_t, switches), *([rest] if rest else [])]
                clauses.append(f"({' or '.join(one)})" if len(one) > 1 else one[0])
            else:
                gone.setdefault(switches[0][0], set()).add(switches[0][1])
        every_value: dict[str, set[Leaf]] = {}
        for some in there:
            for path, item in some if len(some) == 1 else ():
                every_value.setdefault(path, set()).add(item)
        for path, items in gone.items():
            if path in self.zero:
                clauses.append(self._isn_t((path, next(iter(items)))))
            else:
                clauses += _isn_t(path, items, every_value[path], self.base.values()[path])
        if not there[at]:
            return " or ".join(dict.fromkeys(clauses))
        return " and ".join(clauses)

    def _is(self, choice: Choice) -> str:
        path, item = choice
        own = self.base.values()[path]
        return f"{path} != {own}" if path in self.zero else _is(path, item, own)

    def _isn_t(self, choice: Choice) -> str:
        path, item = choice
        own = self.base.values()[path]
        if path in self.zero:
            return f"{path} == {own}"
        if own is None and not isinstance(item, str):
            return f"{path} == None"
        if isinstance(item, bool):
            return f"not {path}" if item else path
        return f"{path} != {_constant(item)}"

    def _lines(self, one: Traced) -> Iterator[Line]:
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
    for at, (before, after) in enumerate(zip(one, two, strict=True)):
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
            there = [
                int(numbered(k).split(".")[at])
                for k in shapes
                if numbered(k).startswith(f"{head}.") and numbered(k).split(".")[at].isdigit()
            ]
            if there and int(part) > max(there):
                return head, max(there) + 1
    return None


def _marks(one: Traced) -> frozenset[tuple[str, tuple[str, ...], int]]:
    return frozenset(
        (key, tuple(one.sizes.get(key, ())), len(shape))
        for key, (shape, dtype) in one.shapes.items()
        if key in one.sizes or not is_derived(key, dtype)
    )


def _is(path: str, item: Leaf, own: Leaf) -> str:
    if isinstance(item, bool):
        return path if item else f"not {path}"
    if own is None and not isinstance(item, str):
        return f"{path} != None"  # any number
    return f"{path} == {_constant(item)}"


def _isn_t(path: str, items: set[Leaf], every: set[Leaf], own: Leaf) -> Iterator[str]:
    """The condition for a line of the preset's own that these values of a leaf take away."""
    if isinstance(own, bool) and len(items) == 1:
        yield path if own else f"not {path}"
    elif own is None and not any(isinstance(item, str) for item in items):
        yield f"{path} == None"
    elif items == every and len(items) > 2:
        yield f"{path} == {_constant(own)}"
    else:
        for item in items:
            yield f"{path} != {_constant(item)}"


def _brackets(text: str) -> str:
    return f"({text})" if " or " in text and text[0] != "(" else text


def _untraced(
    failed: Sequence[Together], choices: Mapping[Choice, Any], beside: Mapping[Together, Any]
) -> Iterator[Together]:
    """The pairs of switches that went wrong together, and the triples of which all pairs are
    traced."""
    order = list(choices)
    found: dict[Together, None] = {}
    for some in failed:
        some = tuple(sorted(some, key=order.index))
        pairs = [p for p in itertools.combinations(some, 2) if p[0][0] != p[1][0]]
        new = [pair for pair in pairs if pair not in beside]
        found |= dict.fromkeys(new or [some] if len(pairs) == 3 else new)
    return (some for some in found if some not in beside)


def _constant(item: Leaf) -> str:
    return f"'{item}'" if isinstance(item, str) else repr(item)


def _text(line: Line) -> str:
    pattern, sizes, dtype, conditions = line
    kind = "" if dtype == "float" else f" {dtype}"
    when = f"  if {' and '.join(conditions)}" if conditions else ""
    return f"{pattern}  {' '.join(sizes) or '()'}{kind}{when}"


def _gives(program: Program, values: Mapping[str, Leaf], shapes: Shapes) -> bool:
    """Whether a program gives a network's tensors, index tables aside."""
    try:
        found = program.expand(values)
    except _ERRORS:
        return False
    return found == {k: v for k, v in shapes.items() if k in found or not is_derived(k, v[1])}


def _checked(
    maker: _Maker, program: Program, choices: Mapping[Choice, Any], draw: random.Random
) -> tuple[int, int, set[Choice], list[Together]]:
    """How many drawn networks the program gives, of how many; the choices that it's wrong about,
    and those that were turned together where it was wrong."""
    values = maker.base.values()
    numbers = sorted(
        name
        for name in _names(program)
        if type(values.get(name)) in (int, float) and not name.endswith(".#")
    )
    right = held = 0
    blamed: dict[Choice, list[bool]] = {}
    failed: list[Together] = []
    for number in range(_CHECKS + 2 * len(choices)):
        if time.process_time() > maker.end and number >= _CHECKS:
            break
        some = draw.sample(list(choices), min(len(choices), 1 + number % 3)) if choices else []
        moves: dict[str, Any] = dict(some)
        for path in draw.sample(numbers, min(len(numbers), 2)):
            own: Any = values[path]
            moves.setdefault(path, own + 1 if own <= COUNT else own * draw.choice((2, 3)))
        try:
            config: Config = moved(maker.base.config, moves)
            drawn = leaves(config)  # before the class edits what it's given
            shapes = shapes_of(on_meta(maker.cls, config))
        except Exception:  # a library refuses values in its own ways
            continue
        if any(0 in shape for shape, _ in shapes.values()):
            continue
        good = _gives(program, drawn, shapes)
        held += 1
        right += good
        for choice in some:
            blamed.setdefault(choice, []).append(good)
        if not good:
            failed.append(tuple(some))
    wrong = {choice for choice, marks in blamed.items() if not any(marks) and len(marks) > 1}
    if not wrong and blamed and right < held // 2:
        worst = min(blamed, key=lambda choice: sum(blamed[choice]) / len(blamed[choice]))
        wrong = {worst}
    return right, held, wrong, failed


_LEAF = re.compile(r"\{[^}]*\}")


def _names(program: Program) -> set[str]:
    """The leaves that a program reads; those of a repeat's items only by their list."""
    found: set[str] = set()
    for line in program.lines:
        bounds = [part.bound for part in line.parts if part.bound is not None]
        for expression in (*line.sizes, line.condition, *bounds):
            found |= set(expression.names if expression is not None else ())
    return {name for name in found if name[0] != "{"}


def _options(
    program: Program,
    values: Mapping[str, Leaf],
    choices: Mapping[Choice, Any],
    known: Mapping[str, list[Leaf]],
) -> dict[str, list[Leaf]]:
    """For every leaf that the program reads, values beside the preset's."""
    found: dict[str, list[Leaf]] = {}
    named = _names(program)
    patterns = [
        re.compile(_LEAF.sub(r"\\d+", re.escape(n).replace(r"\{", "{").replace(r"\}", "}")))
        for n in named
        if "{" in n
    ]
    for path, value in values.items():
        if path not in named and not any(p.fullmatch(path) for p in patterns):
            continue
        own = [item for at, item in choices if at == path]
        more: Any = value
        if type(value) in (int, float) and (not own or type(value) is float):
            own = [*own, more + 1 if more <= COUNT else more * 2]
        elif type(value) is int:
            own = [*own, more + 1 if path.endswith(".#") else more * 2 or 1]
        own += [v for v in known.get(path, ()) if v not in own and v != value and own]
        if own:
            found[path] = own[:_CHOICES]
    return found
