"""A state dict against a family: the values of its leaves, solved from keys and shapes.

Every tensor that a line explains votes: the sizes, the counts of repeats and the presence of keys
are equations, and one with a single unknown leaf gives its value. What no equation gives is taken
from the preset that agrees most, and marked so. The result is proven by expanding the program:
every key and shape that it gives against the file's. On the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.families.equations import equations_of
from archfind.families.inverse import (
    COUNT,
    chosen,
    fraction,
    inverted,
    is_sure,
    known_values,
    pair,
    values_for,
)
from archfind.families.score import Solution, score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.families.equations import Equation
    from archfind.families.text import Family
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]
    Values = dict[str, Any]

_VAGUE = 1e-3  # the vote of an equation that other values fulfil too
_PAIRS = 4  # sizes that two leaves make together, looked at before one is assumed
_RIVALS = 2  # numbers that may be assumed in another's place


def solve(
    index: Index,
    family: Family,
    equations: Sequence[Equation] | None = None,
    whole: Index | None = None,
) -> Solution | None:
    """The best values for a family, or None where it has nothing in common with the file.
    `equations` are those of `equations_of`, where they are known already; `whole` is all of the
    file, where the index has only some of it."""
    equations = list(equations_of(index, family)) if equations is None else equations
    # Some networks have nothing to solve, and are there or not.
    if not equations and any(line.reads for line in family.program.lines):
        return None
    return solved_with(index, family, equations, {}, whole)


def solved_with(
    index: Index,
    family: Family,
    equations: Sequence[Equation],
    given: Values,
    whole: Index | None = None,
) -> Solution:
    """The best values with those `given`."""
    values = {p: v for p, v in family.leaves.items() if _is_fixed(p, family)} | given
    solved: set[str] = set(given)
    assumed: set[str] = set()
    _propagate(equations, values, solved, family)
    preset = _nearest(values, family)
    usual = {**family.leaves, **family.presets[preset]}
    # Switches first: they say which of its numbers a size is made of.
    unknown = sorted(
        (p for p in usual if p not in values), key=lambda p: type(usual[p]) in (int, float)
    )
    while unknown:
        # One leaf from the preset may be all that several others waited for.
        if unknown[0] in values:
            unknown.pop(0)
            continue
        path = _likeliest(unknown[0], equations, values, usual, family)
        unknown.remove(path)
        value = family.presets[preset].get(path, family.leaves.get(path))
        pair(path, equations, values, solved)
        if path not in values:
            value = _possible(path, value, equations, values, family)
            values[path] = _agreeing(path, value, equations, values, family)
            if values[path] == value:
                assumed.add(path)
            else:  # the shapes speak against what would be assumed
                solved.add(path)
        _propagate(equations, values, solved, family)
    solution = Solution(values, solved - assumed, preset)
    score(index, family, solution, whole)
    return solution


def _likeliest(
    path: str, equations: Sequence[Equation], values: Values, usual: Values, family: Family
) -> str:
    """Which to assume, of a number and those that one size is made of together with it: that with
    which most of the file can be had."""
    if type(usual[path]) not in (int, float):
        return path
    beside: dict[str, None] = {}
    for equation in equations:
        unknown = {name for name in equation.names if name not in values}
        if len(unknown) == 2 and path in unknown and equation.stands(values) is not False:
            beside.update(dict.fromkeys(unknown - {path}))
    rivals = [p for p in beside if type(usual.get(p)) in (int, float)][:_RIVALS]
    best, most = path, -1.0
    for one in (path, *rivals) if rivals else ():
        tried = {**values, one: usual[one]}
        _propagate(equations, tried, set(), family)
        holding = sum(
            equation.votes
            for equation in equations
            if type(equation.value) is int
            and all(name in tried for name in equation.names)
            and equation.stands(tried) is not False
            and equation.holds(tried)
        )
        if holding > most:
            best, most = one, holding
    return best


def _possible(
    path: str, value: Any, equations: Sequence[Equation], values: Values, family: Family
) -> Any:
    """The preset's value, or where the file's keys rule that out, one that they allow."""
    allowed: list[Any] | None = None
    for equation in equations:
        if {name for name in equation.names if name not in values} == {path}:
            found = chosen(equation, path, values, family)
            both = found if allowed is None else [n for n in allowed if n in found]
            allowed = both or allowed  # an equation that contradicts the others is outvoted
    return value if not allowed or value in allowed else allowed[0]


def _agreeing(
    path: str, value: Any, equations: Sequence[Equation], values: Values, family: Family
) -> Any:
    """The value, or where what it leaves for another leaf of the same size can't be (18 channels
    are no 3 of some number of pixels squared), the first for which that can."""
    beside = {
        equation: next(iter(rest))
        for equation in equations
        if type(equation.value) is int
        and len(rest := {n for n in equation.names if n not in values} - {path}) == 1
        and path in equation.names
    }
    some = list(beside.items())[:_PAIRS]

    def leaves_some(number: Any) -> bool:
        env = {**values, path: number}
        return all(inverted(one, other, env) is not None for one, other in some)

    if type(value) is not int or not some or leaves_some(value):
        return value
    tried = [*known_values(path, family), *range(1, COUNT + 1)]
    return next((n for n in tried if type(n) is int and leaves_some(n)), value)


def _is_fixed(path: str, family: Family) -> bool:
    """Whether no network of the family has another value here."""
    if path in family.options:
        return False
    value = family.leaves[path]
    return all(values.get(path) == value for values in family.presets.values())


def _propagate(
    equations: Sequence[Equation], values: Values, solved: set[str], family: Family
) -> None:
    """Give every leaf the value that most equations with no other unknown give it."""
    waiting = [e for e in equations if any(n not in values for n in e.names)]
    while waiting:
        votes: dict[str, dict[Any, float]] = {}
        perhaps: dict[str, dict[Any, float]] = {}  # of lines that may not be in the network
        left: list[Equation] = []
        for equation in waiting:
            unknown = [name for name in equation.names if name not in values]
            stands = equation.stands(values) if unknown else False
            if len(unknown) > 1 and stands is not False:
                left.append(equation)
            elif unknown and stands is not False:
                found = values_for(equation, unknown[0], values, family)
                if len(found) == 1 or (found and type(equation.value) is not bool):
                    said = votes if stands else perhaps
                    counted = said.setdefault(unknown[0], {})
                    mark = (type(found[0]).__name__, found[0])
                    weight = 1.0 if is_sure(equation, unknown[0], found[0], values) else _VAGUE
                    counted[mark] = counted.get(mark, 0) + equation.votes * weight
                    if not stands:
                        left.append(equation)
                elif found:
                    left.append(equation)
        votes = votes or perhaps
        if not votes:
            return
        for path, counted in votes.items():
            values[path] = max(counted, key=lambda mark: counted[mark])[1]
            if type(family.leaves.get(path)) is float:
                values[path] = fraction(path, counted, waiting, values)
            solved.add(path)
        waiting = left


def _nearest(values: Values, family: Family) -> str:
    """The preset that agrees with most of the values."""

    def agreement(name: str) -> int:
        preset = family.presets[name]
        return sum(path in preset and preset[path] == value for path, value in values.items())

    return max(family.presets, key=agreement)
