"""Which of a solution's values the tensors show, and which only follow from others that were
assumed: of 32 heads of 128 a file shows the 4096."""

from __future__ import annotations

from archfind.classes.equations import ERRORS, equations_of
from archfind.classes.expansion import Expansion
from archfind.classes.solve import solved_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from archfind.classes.expression import Expression
    from archfind.classes.notation import Family
    from archfind.classes.score import Solution
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]
    Values = Mapping[str, Any]

_PLACES = 48  # of a line, looked at
_VISITED = 1 << 16  # of all lines, in search of those
_MANY = 3_000  # tensors: solving again would take long


def leaves_by_source(index: Index, family: Family, solution: Solution) -> set[str]:
    """The leaves of which no other value would do. What isn't a whole number, or is in no size, is
    shown where it was solved."""
    sizes: dict[str, list[tuple[Expression, Values]]] = {}
    for expression, env in _expressions(family, solution.values):
        for name in expression.names:
            if name in solution.solved and type(solution.values.get(name)) is int:
                sizes.setdefault(name, []).append((expression, env))
    found = solution.solved - sizes.keys()
    waiting = dict(sizes)
    grown = True
    while grown:
        grown = False
        for path, some in list(waiting.items()):
            if any(_tells(path, e, env, found, family) for e, env in some):
                found.add(path)
                del waiting[path]
                grown = True
    # Pixels that are divided by a patch's are shown up to the rest.
    every = set(solution.values)
    several = {
        path: some
        for path, some in waiting.items()
        if any(_tells(path, e, env, every, family) for e, env in some)
    }
    return found | _firm(index, family, solution, several)


def _firm(
    index: Index,
    family: Family,
    solution: Solution,
    several: Mapping[str, list[tuple[Expression, Values]]],
) -> set[str]:
    """Those of leaves that only several sizes show together which stay what they are when one of
    them, or any other number that they hang on, is taken to be another."""
    beside = {
        name
        for some in several.values()
        for expression, _ in some
        for name in expression.names
        if name in family.options and type(solution.values.get(name)) is int
    } - (solution.solved - several.keys())
    if not several or len(index) > _MANY:
        return set()
    equations = list(equations_of(index, family))
    found = set(several)
    for path in beside:
        own = solution.values[path]
        for value in (2 * own, own // 2, own + 1):
            if value and found:
                other = solved_with(index, family, equations, {path: value})
                if other.score >= solution.score:
                    found = {p for p in found if other.values.get(p) == solution.values[p]}
    return found


def _expressions(family: Family, values: Values) -> Iterator[tuple[Expression, Values]]:
    """The sizes and counts of the lines that are in the network, at one of their places; those that
    follow one rule or another, by the place, at some."""
    seen: set[str] = set()
    expansion = Expansion(values, _VISITED)
    for line in family.program.lines:
        own = [*line.sizes, *(part.bound for part in line.parts if part.bound is not None)]
        fresh = [e for e in own if e.names and ("{" in e.text or e.text not in seen)]
        if not fresh:
            continue
        several = any("{" in e.text and "case(" in e.text for e in fresh)
        try:
            left = _PLACES if several else 1
            for _, env in expansion.places(line.parts, line.pinned):
                if line.condition is None or line.condition.value(env):
                    seen.update(e.text for e in fresh)
                    yield from ((e, env) for e in fresh)
                    left -= 1
                    if not left:
                        break
        except ERRORS:
            continue


def _tells(path: str, expression: Expression, env: Values, known: set[str], family: Family) -> bool:
    """Whether a size says what one leaf is: all else in it is known, and its neighbours are of
    another size."""
    for name in expression.names:
        if name not in (path, *known) and "{" not in name and name in family.options:
            return False
    try:
        own = expression.value(env)
        value: int = env[path]
        others = (value + 1, value - 1, 2 * value, value // 2)
        return all(expression.value({**env, path: other}) != own for other in others if other)
    except ERRORS:
        return True
