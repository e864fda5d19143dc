"""The lines of a program with values for their leaves: every key, with its shape and dtype. On the
cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.expression import resolved
from archfind.classes.numbered import joined_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from archfind.classes.expression import Expression
    from archfind.classes.program import FamilyLine, PatternPart
    from archfind.classes.thinned import Rows

    Values = Mapping[str, Any]

PLACES = 1 << 22  # of all repeats, that an expansion visits where nobody says less

Shape = tuple[int, ...]
Tensor = tuple[str, Shape, str]  # key, shape, dtype

_ANYWHERE: Mapping[str, int] = {}


class TooManyPlaces(ValueError):
    """An expansion would visit more places of its repeats than it may."""


class Expansion:
    """Values that lines are read with, and how many places of repeats may still be visited: a
    number in a file's key or shape can ask for any number of them, of which conditions may leave
    none to be seen. Tensors amid the rows that are `thin` are left out."""

    __slots__ = ("_held", "_left", "_thin", "_values")

    def __init__(self, values: Values, most: int = PLACES, thin: Rows | None = None) -> None:
        self._values = values
        self._left = most
        self._thin = thin
        self._held: dict[tuple[int, int, int], object] = {}

    def tensors(self, line: FamilyLine) -> Iterator[Tensor]:
        """The tensors of one line; none for items beyond the end of a list. TooManyPlaces where
        the repeats have more places than are left."""
        outer, inner = line.parts[: line.settled], line.parts[line.settled :]
        repeats = [part for part in outer if part.bound is not None]
        only = repeats[0].index if len(repeats) == 1 else ""
        for head, env in self.places(outer, line.pinned):
            try:
                if line.condition is not None and not self._holds(line.condition, env, only):
                    continue
                shape = tuple([int(size.value(env)) for size in line.sizes])
            except TypeError:
                expressions = [*line.sizes, *([line.condition] if line.condition else ())]
                if not any(_is_beyond(one, env) for one in expressions):
                    raise
                continue
            for key, _ in self._places(inner, env, _ANYWHERE, head, told=False):
                yield joined_key(key), shape, line.dtype

    def _holds(self, condition: Expression, env: Values, index: str) -> object:
        """A condition's value, which several lines may ask for at one place of a repeat."""
        if not index:
            return condition.value(env)
        place = id(condition), env[index], env[f"{index[:-1]}#}}"]
        if place not in self._held:
            self._held[place] = condition.value(env)
        return self._held[place]

    def places(
        self, parts: list[PatternPart], pinned: Mapping[str, int] = _ANYWHERE
    ) -> Iterator[tuple[str, Values]]:
        """Every key of a pattern's parts, with the values of its repeats; of a repeat that is
        pinned, only that place."""
        return self._places(parts, self._values, pinned, "", told=True)

    def _places(
        self,
        parts: list[PatternPart],
        values: Values,
        pinned: Mapping[str, int],
        head: str,
        told: bool,
    ) -> Iterator[tuple[str, Values]]:
        """Every key of parts below `head`; with the values of its repeats, if they are `told`."""
        at = 0
        while at < len(parts) and parts[at].bound is None:
            head = f"{head}.{parts[at].text}" if head else parts[at].text
            at += 1
        if at == len(parts):
            yield head, values
            return
        part, rest = parts[at], parts[at + 1 :]
        count = _count(part, values)
        above = f"{head}." if head else ""
        is_last = all(one.bound is None for one in rest)
        tail = "".join(f".{one.text}" for one in rest) if is_last else ""
        only = pinned.get(part.index)
        thin = self._thin
        numbers = thin.ends(joined_key(above), count) if thin is not None else range(count)
        if only is not None:
            numbers = (only,) if only in numbers else ()
        self._left -= len(numbers)
        if self._left < 0:
            raise TooManyPlaces("an expansion of too many places")
        if is_last and not told:  # most keys come from here
            for number in numbers:
                yield f"{above}{number}{tail}", values
            return
        for number in numbers:
            env = {**values, part.index: number, f"{part.index[:-1]}#}}": count}
            if is_last:
                yield f"{above}{number}{tail}", env
            else:
                yield from self._places(rest, env, pinned, f"{above}{number}", told)


def _count(part: PatternPart, values: Values) -> int:
    """How often a part repeats; not at all for an item that a shorter list doesn't have."""
    assert part.bound is not None
    try:
        bound = part.bound.value(values)
    except TypeError:
        if not _is_beyond(part.bound, values):
            raise
        bound = None
    return int(bound) if bound is not None else 0


def _is_beyond(expression: Expression, values: Values) -> bool:
    """Whether an expression reads an item that a list, shorter than another, doesn't have: what
    would be made of it isn't there."""
    names = [resolved(name, values) for name in expression.names if name[0] != "{"]
    return any(name not in values for name in names if name[-1] != "?")
