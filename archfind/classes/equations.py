"""What a family's lines must be for a file's keys and shapes: sizes, counts and the presence of
keys, as equations in its leaves. On the cold path of `archfind guess`."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

from archfind.classes.expression import resolved
from archfind.classes.numbered import numbered
from archfind.state_dicts.canonical import is_derived

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from archfind.classes.expression import Expression
    from archfind.classes.notation import Family
    from archfind.classes.program import FamilyLine
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]
    Values = dict[str, Any]

_BESIDE = 3  # blocks of a row that no item of its list stands for
_PLACES = 8  # of a repeat, for each key of the file: layers without tensors stand between others
_FEW_PLACES = 64  # that a repeat may have however few the keys are
_STATE_DICTS = 8  # whose repeats are kept: every family asks for them
_DIGITS = 9  # of a number in a key that is a place of a repeat
ERRORS = (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError, IndexError)


class Equation:
    """What an expression is in the file: a size, a count, or whether it's true. `under` are the
    conditions of the lines that say so, one of which must hold; empty where nothing must. `answers`
    are what one leaf can be, by the values of the others."""

    __slots__ = ("_said", "answers", "env", "expression", "names", "under", "value", "votes")

    def __init__(
        self, expression: Expression, env: Values, value: object, under: Expression | None
    ) -> None:
        self.expression = expression
        self.env = env
        self.value = value
        self.votes = 1
        self.answers: dict[tuple[Any, ...], list[Any]] = {}
        # each with the leaves that it reads
        self.under = [] if under is None else [(under, self._read(under))]
        self._said = {id(under)}
        found = [resolved(n, env) if n[0] != "{" else n for n in expression.names]
        # Nothing stands before the first of a list: `{j-1}` is for the others.
        self.names = tuple(dict.fromkeys(n for n in found if n[0] != "{" and ".-" not in n))

    def again(self, under: Expression | None) -> None:
        """Another line says the same."""
        self.votes += 1
        if under is None:
            self.under = []
        elif self.under and id(under) not in self._said:
            self._said.add(id(under))
            self.under.append((under, self._read(under)))

    def _read(self, condition: Expression) -> list[str]:
        return [resolved(name, self.env) for name in condition.names if name[0] != "{"]

    def switches(self) -> list[str]:
        """The leaves that its lines hang on."""
        return [name for _, names in self.under for name in names]

    def stands(self, values: Values) -> bool | None:
        """Whether one of its lines is in the network with these values; None where that can't be
        told yet."""
        found: bool | None = not self.under
        for condition, names in self.under:
            if not all(_is_told(name, values) for name in names):
                found = None
                continue
            try:
                if condition.value({**values, **self.env}):
                    return True
            except ERRORS:
                found = None
        return found

    def holds(self, values: Values) -> bool:
        return self._is_met({**values, **self.env})

    def holding(self, path: str, some: Iterable[Any], values: Values) -> list[Any]:
        """Those of some values of a leaf for which it holds."""
        env = {**values, **self.env}
        found: list[Any] = []
        for value in some:
            env[path] = value
            if self._is_met(env):
                found.append(value)
        return found

    def _is_met(self, env: Values) -> bool:
        try:
            found = self.expression.value(env)
        except ERRORS:
            return False
        return bool(found) == self.value if type(self.value) is bool else found == self.value


def _is_told(name: str, values: Values) -> bool:
    return name in values or (name[-1] == "?" and f"{name.rpartition('.')[0]}.#" in values)


def equations_of(index: Index, family: Family, total: int = 0) -> Iterator[Equation]:
    """What the family's lines must be for the file's keys and shapes, each once, with votes. The
    file has `total` keys, where the index lacks those amid some of its rows."""
    keys = {numbered(key): spec.shape for key, spec in index.items()}
    counts = repeats(tuple(keys), max(total, len(keys)))
    lengths = dict(_lengths(family.program.lines, counts))
    unique: dict[tuple[object, ...], Equation] = {}

    def add(
        expression: Expression, env: Values, value: object, under: Expression | None = None
    ) -> None:
        if not expression.names:
            return
        used = tuple(v for k, v in env.items() if k[0] == "{")
        key = expression.text, used if "{" in expression.text else (), value
        if key in unique:
            unique[key].again(under)
        else:
            unique[key] = Equation(expression, env, value, under)

    seen: set[int] = set()
    for key, shape in keys.items():
        parts = key.split(".")
        placed: list[tuple[FamilyLine, Values]] = []
        for line in family.lines_of(key, parts):
            env = _placed(line, parts, counts, lengths)
            if env is not None and len(line.sizes) == len(shape) and not _is_elsewhere(line, env):
                placed.append((line, env))
        for line, env in placed:
            seen.add(id(line))
            if line.condition is not None and len(placed) == 1:  # any of several may give the key
                add(line.condition, env, True)
            for size, found in zip(line.sizes, shape, strict=True):
                add(size, env, found, line.condition)
            place: list[str] = []
            for part, word in zip(line.parts, parts, strict=True):
                if part.bound is not None:
                    add(part.bound, env, counts[".".join(place)], line.condition)
                place.append(word)
    for line in family.program.lines:
        if id(line) in seen or line.condition is None:
            continue
        if not any(part.bound for part in line.parts) or _is_of_rows(line, counts):
            add(line.condition, dict(lengths), False)
    yield from unique.values()


@lru_cache(_STATE_DICTS)
def repeats(keys: tuple[str, ...], total: int) -> Mapping[str, int]:
    """How often what is numbered below a prefix is repeated: the largest number and one. A number
    that is far larger than the file's keys are many is a name, not a place in a row."""
    most = _PLACES * total + _FEW_PLACES
    counts: dict[str, int] = {}
    for key in keys:
        parts = key.split(".")
        for at, part in enumerate(parts):
            if part.isdecimal() and len(part) <= _DIGITS and int(part) < most:
                above = ".".join(parts[:at])
                if counts.get(above, 0) <= int(part):
                    counts[above] = int(part) + 1
    return counts


def _is_of_rows(line: FamilyLine, counts: Mapping[str, int]) -> bool:
    """Whether a line is for all of a row that the file has, wherever in it: its absence says that
    its condition doesn't hold. Not that of masks, which are left out of files."""
    if is_derived(line.pattern, line.dtype):
        return False
    at = next(n for n, part in enumerate(line.parts) if part.bound is not None)
    alike = line.condition is not None and "{" not in line.condition.text
    return alike and counts.get(".".join(part.text for part in line.parts[:at]), 0) > 0


def _is_elsewhere(line: FamilyLine, env: Values) -> bool:
    """Whether a line is for other places of its repeats than this one: its condition says so,
    whatever the leaves are."""
    if line.condition is None or "{" not in line.condition.text:
        return False
    try:
        return not line.condition.value(_Places(env))
    except ERRORS:
        return False


class _Places(dict[str, Any] if TYPE_CHECKING else dict):
    """The numbers of repeats; asked for a leaf, it doesn't say that there is none."""

    def get(self, key: str, default: object = None) -> Any:
        return self[key]


def _lengths(lines: Sequence[FamilyLine], counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The lengths of lists that a row of keys counts, as places in other lists."""
    for line in lines:
        at = next((n for n, part in enumerate(line.parts) if part.bound is not None), None)
        bound = line.parts[at].bound if at is not None else None
        if at is None or bound is None or len(bound.names) != 1 or bound.names[0][-2:] != ".#":
            continue
        count = counts.get(".".join(part.text for part in line.parts[:at]), 0)
        for length in range(max(count - _BESIDE, 0), count + _BESIDE + 1):
            with suppress(*ERRORS):  # a power of it may be larger than any size
                if bound.value({bound.names[0]: length}) == count:
                    yield f"{{{bound.names[0]}}}", length


def _placed(
    line: FamilyLine, parts: list[str], counts: Mapping[str, int], lengths: Values
) -> Values | None:
    """The values of a line's repeats at a key, or None where the key isn't the line's."""
    if len(parts) != len(line.parts):
        return None
    for part, word in zip(line.parts, parts, strict=True):
        if part.bound is None and part.text != word:
            return None
    env: Values = dict(lengths)
    for at, (part, word) in enumerate(zip(line.parts, parts, strict=True)):
        if part.bound is None:
            continue
        if not word.isdecimal() or len(word) > _DIGITS:
            return None
        place, count = int(word), counts.get(".".join(parts[:at]), 0)
        if place >= count or line.pinned.get(part.index, place) != place:
            return None
        env[part.index] = place
        env[f"{part.index[:-1]}#}}"] = count
    return env
