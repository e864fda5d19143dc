"""A state dict against a family: the values of its leaves, solved from keys and shapes.

Every tensor that a line explains votes: the sizes, the counts of repeats and the presence of keys
are equations, and one with a single unknown leaf gives its value. What no equation gives is taken
from the preset that agrees most, and marked so. The result is proven by expanding the program:
every key and shape that it gives against the file's. On the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.canonical import DERIVED, kind
from archfind.families.equations import ERRORS, Equation, equations_of
from archfind.families.text import template, template_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.families.program import Shape
    from archfind.families.text import Family
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]
    Values = dict[str, Any]

_LARGEST = 1 << 20
_FRACTIONS = (2, 4, 8, 3, 10, 16, 20, 100)  # denominators of ratios
_EXPANSIONS = 80
_EXPANDED = 24_000  # keys, by all expansions for one family
_LIKELY = 0.8  # share of tensors that fit
_HOPELESS = 0.2
_RESOLVED = 0.6  # from here on everything is solved again for other switches
_SOLVED_AGAIN = 5_000  # tensors, by all that solving again for one family
_COUNT = 16  # a leaf up to this may be any number up to this: a scale, a count of blocks
_VAGUE = 1e-3  # the vote of an equation that other values fulfil too
_PAIRS = 4  # sizes that two leaves make together, looked at before one is assumed
_OBLONG = 200  # sides tried for a table that no square gives


class Solution:
    """Leaves with their values; `solved` are those that shapes gave, the rest are the preset's.
    `expected` is what the program then gives, key -> shape and dtype."""

    __slots__ = ("expected", "preset", "score", "solved", "values")

    def __init__(self, values: Values, solved: set[str], preset: str) -> None:
        self.values = values
        self.solved = solved
        self.preset = preset
        self.expected: dict[str, tuple[Shape, str]] = {}
        self.score = 0.0


def solve(
    index: Index, family: Family, equations: Sequence[Equation] | None = None
) -> Solution | None:
    """The best values for a family, or None where it has nothing in common with the file.
    `equations` are those of `equations_of`, where they are known already."""
    equations = list(equations_of(index, family)) if equations is None else equations
    return _solved(index, family, equations, {}) if equations else None


def _solved(index: Index, family: Family, equations: Sequence[Equation], given: Values) -> Solution:
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
        path = unknown.pop(0)
        if path in values:
            continue
        value = family.presets[preset].get(path, family.leaves.get(path))
        _pair(path, equations, values, solved)
        if path not in values:
            value = _possible(path, value, equations, values, family)
            values[path] = _agreeing(path, value, equations, values, family)
            if values[path] == value:
                assumed.add(path)
            else:  # the shapes speak against what would be assumed
                solved.add(path)
        _propagate(equations, values, solved, family)
    solution = Solution(values, solved - assumed, preset)
    score(index, family, solution)
    return solution


def _possible(
    path: str, value: Any, equations: Sequence[Equation], values: Values, family: Family
) -> Any:
    """The preset's value, or where the file's keys rule that out, one that they allow."""
    allowed: list[Any] | None = None
    for equation in equations:
        if {name for name in equation.names if name not in values} == {path}:
            found = _chosen(equation, path, values, family)
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
        return all(_inverted(one, other, env) is not None for one, other in some)

    if type(value) is not int or not some or leaves_some(value):
        return value
    tried = [*known_values(path, family), *range(1, _COUNT + 1)]
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
                if len(found) == 1:
                    said = votes if stands else perhaps
                    counted = said.setdefault(unknown[0], {})
                    mark = (type(found[0]).__name__, found[0])
                    weight = 1.0 if _is_sure(equation, unknown[0], found[0], values) else _VAGUE
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
            solved.add(path)
        waiting = left


def values_for(equation: Equation, path: str, values: Values, family: Family) -> list[Any]:
    """What one leaf can be for an equation to hold, as far as it can be told."""
    if equation.expression.text == path or (
        equation.names == (path,) and "{" in equation.expression.text and _bare(equation)
    ):
        return (
            [equation.value]
            if type(equation.value) is not bool
            else _chosen(equation, path, values, family)
        )
    if type(equation.value) is bool:
        return _chosen(equation, path, values, family)
    found = _chosen(equation, path, values, family)
    if found:
        return found[:1]
    number = _inverted(equation, path, values)
    return [] if number is None else [number]


def _is_sure(equation: Equation, path: str, value: Any, values: Values) -> bool:
    """Whether the next numbers up and down wouldn't do as well; a rounded half says little."""
    if type(value) is not int:
        return True
    others = (value - 1, value + 1)
    return not any(equation.holds({**values, path: other}) for other in others)


def _bare(equation: Equation) -> bool:
    text = equation.expression.text
    return not any(char in text for char in "+-*/(= ") or text.replace("-1}", "}").isidentifier()


def _chosen(equation: Equation, path: str, values: Values, family: Family) -> list[Any]:
    """Those of the values that the leaf is known to take that make an equation hold."""
    found: list[Any] = []
    for value in known_values(path, family):
        if equation.holds({**values, path: value}):
            found.append(value)
    base = family.leaves.get(path)
    if type(base) is int and base <= _COUNT and (not found or type(equation.value) is bool):
        more = [n for n in range(1, _COUNT + 1) if n not in found]
        found += [n for n in more if equation.holds({**values, path: n})]
    return found


def known_values(path: str, family: Family) -> list[Any]:
    """Values that a leaf has in the family's networks, the base's first."""
    found: list[Any] = []
    for value in (
        family.leaves.get(path, _NONE),
        *(preset.get(path, _NONE) for preset in family.presets.values()),
        *family.options.get(path, ()),
    ):
        if value is not _NONE and not any(
            value == old and type(value) is type(old) for old in found
        ):
            found.append(value)
    return found


_NONE = object()


def _inverted(equation: Equation, path: str, values: Values) -> int | float | None:
    """The whole number at which a rising expression has its value: by a straight line, else by
    halving; a few usual fractions after that."""
    wanted = equation.value
    assert isinstance(wanted, int)
    env = {**values, **equation.env}

    def at(x: float) -> Any:
        env[path] = x
        try:
            return equation.expression.value(env)
        except ERRORS:
            return None

    one, two = at(1), at(2)
    if isinstance(one, int | float) and isinstance(two, int | float) and one != two:
        guess = 1 + (wanted - one) / (two - one)
        if 0 < guess < _LARGEST and guess == int(guess) and at(int(guess)) == wanted:
            return int(guess)
    for denominator, largest in ((1, _LARGEST), *((d, 8 * d) for d in _FRACTIONS)):
        low, high = 1, largest
        while low < high:
            middle = (low + high) // 2
            found = at(middle / denominator if denominator > 1 else middle)
            if not isinstance(found, int | float) or found < wanted:
                low = middle + 1
            else:
                high = middle
        value = low / denominator if denominator > 1 else low
        found = at(value)
        # A fraction, only where it's rounded on the way to the size.
        if found == wanted and (denominator == 1 or type(found) is int):
            return value
    return None


def _pair(path: str, equations: Sequence[Equation], values: Values, solved: set[str]) -> None:
    """Height and width at once, taken as equal where one size shows only both."""
    root, _, last = path.rpartition(".")
    if last not in ("0", "1"):
        return
    other = f"{root}.{1 - int(last)}"
    for equation in equations:
        unknown = {name for name in equation.names if name not in values}
        if unknown == {path, other} and type(equation.value) is int:
            env = dict(values)
            low, high = 1, 1 << 14
            while low < high:
                middle = (low + high) // 2
                found = _at(equation, {**env, path: middle, other: middle})
                if found is None or found < equation.value:
                    low = middle + 1
                else:
                    high = middle
            # Where no square does, the rectangle that is nearest to one.
            for side in range(low, max(low - _OBLONG, 0), -1):
                last = _inverted(equation, other, {**env, path: side})
                if isinstance(last, int) and last >= low:
                    values[path], values[other] = side, last
                    solved |= {path, other}
                    return


def _at(equation: Equation, values: Values) -> Any:
    try:
        return equation.expression.value({**values, **equation.env})
    except ERRORS:
        return None


def _nearest(values: Values, family: Family) -> str:
    """The preset that agrees with most of the values."""

    def agreement(name: str) -> int:
        preset = family.presets[name]
        return sum(path in preset and preset[path] == value for path, value in values.items())

    return max(family.presets, key=agreement)


def polished(index: Index, family: Family, solution: Solution) -> Solution:
    """Other values for the leaves behind what doesn't fit, kept where more fits. Most files are of
    no family, so the work is bounded by how much fits already."""
    tries = 0
    better = solution.score > _HOPELESS
    while better and solution.score < 1:
        better = False
        for path in _implicated(index, family, solution):
            for value in known_values(path, family):
                most = _EXPANDED if solution.score > _LIKELY else _EXPANDED // 5
                if tries * (len(index) + len(solution.expected)) > most or tries >= _EXPANSIONS:
                    return solution
                if value == solution.values.get(path):
                    continue
                tries += 1
                other = Solution({**solution.values, path: value}, solution.solved, solution.preset)
                score(index, family, other)
                if other.score > solution.score:
                    other.solved = solution.solved | {path}
                    solution, better = other, True
            if solution.score == 1:
                break
    if _RESOLVED < solution.score < 1:
        return _switched(index, family, solution)
    return solution


def _switched(index: Index, family: Family, solution: Solution) -> Solution:
    """Switches turned one after another, everything else solved anew for each: a switch may change
    which numbers a size is made of."""
    equations = list(equations_of(index, family))
    given: Values = {}
    tries = 0
    better = True
    while better and solution.score < 1:
        better = False
        for path in _implicated(index, family, solution):
            for value in known_values(path, family):
                number = type(value) in (int, float) and not (
                    type(value) is int and value <= _COUNT
                )
                if number or value == solution.values.get(path):
                    continue
                if tries * len(index) > _SOLVED_AGAIN:
                    return solution
                tries += 1
                other = _solved(index, family, equations, {**given, path: value})
                if other.score > solution.score:
                    solution, better, given = other, True, {**given, path: value}
                    break
            if solution.score == 1:
                break
    return solution


def score(index: Index, family: Family, solution: Solution) -> None:
    """Expand the solution's values, and set the share of tensors, on both sides, that fit."""
    try:
        solution.expected = family.program.expand(solution.values)
    except ERRORS:
        solution.expected = {}
    fits = union = 0
    for key, (shape, dtype) in solution.expected.items():
        spec = index.get(key)
        fits += spec is not None and spec.shape == shape and _is_kind(spec, dtype)
        union += spec is not None or not is_derived(key, dtype)
    union += sum(k not in solution.expected and not is_table(k, s) for k, s in index.items())
    solution.score = fits / max(union, 1)


def _is_kind(spec: TensorSpec, dtype: str) -> bool:
    """Whether a tensor has the kind of number that is expected; counters may be of any."""
    return dtype != "float" or kind(spec) == "float"


def is_derived(key: str, dtype: str) -> bool:
    """Counters, index tables and the like, which the library makes by itself."""
    return dtype != "float" or key.rpartition(".")[2] in DERIVED


def is_table(key: str, spec: TensorSpec) -> bool:
    """What a program needn't give: tables of indices and masks, and names that are derived always.
    Weights packed as integers are no such thing."""
    name = key.rpartition(".")[2]
    return name in DERIVED or (spec.dtype in ("int64", "bool") and name not in ("weight", "bias"))


def _implicated(index: Index, family: Family, solution: Solution) -> list[str]:
    """Leaves that the lines behind a misfit read."""
    wrong: set[str] = set()
    for key, (shape, dtype) in solution.expected.items():
        spec = index.get(key)
        if spec is None or spec.shape != shape or not _is_kind(spec, dtype):
            wrong.add(template(key))
    wrong |= {template(key) for key in index if key not in solution.expected}
    found: dict[str, None] = {}
    for line in family.program.lines:
        if template_of(line) not in wrong:
            continue
        for expression in (*line.sizes, line.condition, *(p.bound for p in line.parts)):
            for name in expression.names if expression is not None else ():
                start = name.partition("{")[0]
                if start:
                    found.update(dict.fromkeys(p for p in family.options if p.startswith(start)))
    return list(found)
