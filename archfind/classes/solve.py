"""A state dict against a family: the values of its leaves, solved from keys and shapes.

Every tensor that a line explains votes: the sizes, the counts of repeats and the presence of keys
are equations, and one with a single unknown leaf gives its value. What no equation gives is taken
from the preset that agrees most, and marked so. The result is proven by expanding the program:
every key and shape that it gives against the file's. On the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.classes.allowed import agreeing, possible
from archfind.classes.equations import equations_of
from archfind.classes.expression import is_item
from archfind.classes.inverse import (
    fraction,
    height_and_width,
    is_sure,
    known_values,
    other_side,
    values_for,
)
from archfind.classes.ordinary_arguments import is_ordinary
from archfind.classes.score import Solution, score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.classes.equations import Equation
    from archfind.classes.notation import Family
    from archfind.classes.thinned import Thinned
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]
    Values = dict[str, Any]

_VAGUE = 1e-3  # the vote of an equation that other values fulfil too
_SIZES = 3  # whose divisors a number may be, where the usual one contradicts the file
_DIVISORS = 24  # that are tried
_LARGEST = 1 << 16  # of such a size
_RIVALS = 2  # numbers that may be assumed in another's place


def solve(
    index: Index,
    family: Family,
    equations: Sequence[Equation] | None = None,
    whole: Thinned | None = None,
    exact: bool = False,
) -> Solution | None:
    """The best values for a family, or None where it has nothing in common with the file.
    `equations` are those of `equations_of`, where they are known already; `whole` is all of the
    file, where the index has only some of it. With `exact` None as soon as not all can fit."""
    if equations is None:
        equations = list(equations_of(index, family, len(whole.index) if whole else 0))
    # Some networks have nothing to solve, and are there or not.
    if not equations and any(line.reads for line in family.program.lines):
        return None
    values = _fixed(equations, family)
    solved: set[str] = set()
    _propagate(equations, values, solved, family)
    if exact and any(is_refuted(one, values) for one in equations):
        return None
    return _completed(index, family, equations, values, solved, whole)


def is_refuted(equation: Equation, values: Values) -> bool:
    """Whether an equation doesn't hold, and has to."""
    known = all(name in values for name in equation.names)
    told = known and equation.value is not False  # what is absent may be tied
    return told and equation.stands(values) is True and not equation.holds(values)


def solved_with(
    index: Index,
    family: Family,
    equations: Sequence[Equation],
    given: Values,
    whole: Thinned | None = None,
    preset: str = "",
) -> Solution:
    """The best values with those `given`; what is open is as `preset` has it, or the preset that
    agrees most."""
    values = _fixed(equations, family) | given
    solved: set[str] = set(given)
    _propagate(equations, values, solved, family)
    return _completed(index, family, equations, values, solved, whole, preset)


def _completed(
    index: Index,
    family: Family,
    equations: Sequence[Equation],
    values: Values,
    solved: set[str],
    whole: Thinned | None,
    preset: str = "",
) -> Solution:
    """With what the equations don't give taken from the preset, or the one that agrees most."""
    assumed: set[str] = set()
    preset = preset or _nearest(values, family)
    usual = {**family.leaves, **family.presets[preset]}
    places = _places(equations)
    usual |= {name: is_item(name, usual) for name in places}
    # Switches first: they say which of its numbers a size is made of. What people change last: of
    # 27 patches a side, the picture's size is solved with the stride assumed.
    unknown = sorted(
        (p for p in usual if p not in values),
        key=lambda p: (type(usual[p]) in (int, float), is_ordinary(p)),
    )
    while unknown:
        # One leaf from the preset may be all that several others waited for.
        if unknown[0] in values:
            unknown.pop(0)
            continue
        path = _likeliest(unknown[0], equations, values, usual, family)
        unknown.remove(path)
        value = usual[path]
        height_and_width(path, equations, values, solved)
        if path not in values and path in places:
            _place(path, equations, values, solved, family)
        elif path not in values:
            other = other_side(path)
            if other in solved and usual.get(other) == value:
                value = values[other]  # what is a square stays one
            value = possible(path, value, equations, values, family)
            number = agreeing(path, value, equations, values, family)
            numbers = _consistent(path, number, equations, values, family)
            values[path] = numbers[0]
            if values[path] == value or len(numbers) > 1:
                assumed.add(path)
            else:  # the shapes speak against what would be assumed
                solved.add(path)
        _propagate(equations, values, solved, family)
    _list(places, usual, values, solved, assumed)
    solution = Solution(values, solved - assumed, preset)
    score(index, family, solution, whole)
    return solution


def _place(
    path: str, equations: Sequence[Equation], values: Values, solved: set[str], family: Family
) -> None:
    """Whether a list has a place: as most of the file can be had, with another place that has
    another size taken for the opposite."""
    root = path.rpartition(".")[0]
    own = {e.expression.text: e.value for e in equations if path in e.names}
    others = (
        name
        for e in equations
        if own.get(e.expression.text, e.value) != e.value
        for name in e.names
        if name[-1] == "?" and name not in values and name.rpartition(".")[0] == root
    )
    other = next(others, None)
    held: list[tuple[int, bool]] = []
    for value in known_values(path, family):
        tried = {**values, path: value} | ({other: not value} if other else {})
        held.append((_holding(tried, equations, family), value))
    best = max(held, key=lambda item: item[0])
    values[path] = best[1]
    if len({count for count, _ in held}) > 1:
        solved.add(path)
        if other is not None:
            values[other] = not best[1]
            solved.add(other)


def _holding(tried: Values, equations: Sequence[Equation], family: Family) -> int:
    """The votes that hold once these values say what they can of the others."""
    _propagate(equations, tried, set(), family)
    return sum(
        equation.votes
        for equation in equations
        if type(equation.value) is int
        and all(name in tried for name in equation.names)
        and equation.stands(tried) is not False
        and equation.holds(tried)
    )


def _places(equations: Sequence[Equation]) -> dict[str, None]:
    """The places of which equations ask whether a list has them: `global_layers.3?`."""
    names = (n for e in equations for n in (*e.names, *e.switches()))
    return dict.fromkeys(name for name in names if name[-1] == "?")


def _list(
    places: Mapping[str, None], usual: Values, values: Values, solved: set[str], assumed: set[str]
) -> None:
    """Lists of places written as the places that are said to be in them; the usual list where that
    says the same of all that the file has."""
    for root in {name.rpartition(".")[0] for name in places}:
        own = {name: values.pop(name) for name in places if name.rpartition(".")[0] == root}
        items = sorted(int(name[len(root) + 1 : -1]) for name, there in own.items() if there)
        is_usual = all(usual[name] == there for name, there in own.items())
        for path in [p for p in values if p.rpartition(".")[0] == root]:
            del values[path]
        if is_usual:
            written = {p: v for p, v in usual.items() if p.rpartition(".")[0] == root}
            written = {p: v for p, v in written.items() if p not in own}
        else:
            written = {f"{root}.{n}": item for n, item in enumerate(items)}
            written[f"{root}.#"] = len(items)
        if own.keys() <= solved:
            solved.update(written)
            assumed.difference_update(written)
        solved.difference_update(own)
        values |= written


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
        holding = _holding({**values, one: usual[one]}, equations, family)
        if holding > most:
            best, most = one, holding
    return best


def _consistent(
    path: str, value: Any, equations: Sequence[Equation], values: Values, family: Family
) -> list[Any]:
    """The value, or where sizes can't all be had with it (16 rows are no heads of 32, the size that
    32 rows of one head leave), the divisors of a size that most of the file can be had with."""
    if type(value) is not int:
        return [value]
    own = [e for e in equations if type(e.value) is int and path in e.names]
    own = [e for e in own if any(n not in values and n != path for n in e.names)]
    if not own or not _contradicts({**values, path: value}, equations, family):
        return [value]
    sizes = [n for n in dict.fromkeys(e.value for e in own) if isinstance(n, int)]
    tried = {value: _holding({**values, path: value}, equations, family)}
    for size in [n for n in sizes if 1 < n <= _LARGEST][:_SIZES]:
        for number in range(1, size + 1):
            if size % number == 0 and number not in tried and len(tried) < _DIVISORS:
                tried[number] = _holding({**values, path: number}, equations, family)
    return [number for number, votes in tried.items() if votes == max(tried.values())]


def _contradicts(tried: Values, equations: Sequence[Equation], family: Family) -> bool:
    """Whether a size can't be had, once these values say what they can of the others."""
    known = {e for e in equations if all(n in tried for n in e.names)}
    _propagate(equations, tried, set(), family)
    for one in equations:
        unknown = [name for name in one.names if name not in tried]
        if type(one.value) is not int or one in known or len(unknown) > 1:
            continue
        if one.stands(tried) is not True:
            continue
        if not (values_for(one, unknown[0], tried, family) if unknown else one.holds(tried)):
            return True
    return False


def _fixed(equations: Sequence[Equation], family: Family) -> Values:
    """The leaves that are the same in all of the family's networks; not those of lists of which
    equations ask what is in them."""
    lists = {name.rpartition(".")[0] for name in _places(equations)}
    return {
        path: value
        for path, value in family.leaves.items()
        if path.rpartition(".")[0] not in lists and _is_fixed(path, family)
    }


def _is_fixed(path: str, family: Family) -> bool:
    """Whether no network of the family has another value here, nor for the other side of it."""
    if path in family.options or other_side(path) in family.options:
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
