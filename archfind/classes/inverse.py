"""One equation with one unknown leaf, or two that are a pair: what the leaf can be. On the cold
path of `archfind guess`."""

from __future__ import annotations

import math
import re

from archfind.classes.equations import ERRORS
from archfind.classes.expression import is_item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.classes.equations import Equation
    from archfind.classes.notation import Family

    Values = dict[str, Any]

_ROUNDING = re.compile("round|divisible")
_LARGEST = 1 << 20
_FRACTIONS = (2, 4, 8, 3, 10, 16, 20, 100)  # denominators of ratios
COUNT = 16  # a leaf up to this may be any number up to this: a scale, a count of blocks
_WIDEST = 3  # sizes whose ranges are looked at
_SHORT = 12  # numbers with two decimals tried in a range
_HALVINGS = 26
_ROUNDER = 4  # a number may be larger by this part of it, to be rounder
_OBLONG = 200  # sides tried for a table that no square gives


def values_for(equation: Equation, path: str, values: Values, family: Family) -> list[Any]:
    """What one leaf can be for an equation to hold, as far as it can be told; found out once for
    the same values of the others in it."""
    key = path, *[values.get(name) for name in equation.names if name != path]
    found = equation.answers.get(key)
    if found is None:
        found = equation.answers[key] = _values_for(equation, path, values, family)
    return found


def _values_for(equation: Equation, path: str, values: Values, family: Family) -> list[Any]:
    if equation.expression.text == path or (
        equation.names == (path,) and "{" in equation.expression.text and _bare(equation)
    ):
        return (
            [equation.value]
            if type(equation.value) is not bool
            else values_that_hold(equation, path, values, family)
        )
    if type(equation.value) is bool:
        return values_that_hold(equation, path, values, family)
    found = values_that_hold(equation, path, values, family)
    if found:
        return found
    number = inverted(equation, path, values)
    return [] if number is None else [number]


def inverted(equation: Equation, path: str, values: Values) -> int | float | None:
    """The whole number at which an expression that rises, or falls, has its value: by a straight
    line, else by halving; a few usual fractions after that."""
    wanted = equation.value
    assert isinstance(wanted, int)
    env = {**values, **equation.env}

    def at(x: float) -> Any:
        env[path] = x
        try:
            return equation.expression.value(env)
        except ERRORS:
            return None

    if _ROUNDING.search(equation.expression.text) and at(wanted) == wanted:
        return wanted  # what is rounded most likely was round already
    one, two = at(1), at(2)
    falls = isinstance(one, int | float) and isinstance(two, int | float) and one > two
    if isinstance(one, int | float) and isinstance(two, int | float) and one != two:
        try:
            guess = 1 + (wanted - one) / (two - one)
        except OverflowError:  # a size of hundreds of digits
            return None
        if 0 < guess < _LARGEST and guess == int(guess) and at(int(guess)) == wanted:
            return int(guess)
    if one == two == at(_LARGEST):  # the leaf has no part in it here, or can't be any of these
        return None
    for denominator, largest in ((1, _LARGEST), *((d, 8 * d) for d in _FRACTIONS)):
        low, high = 1, largest
        while low < high:
            middle = (low + high) // 2
            found = at(middle / denominator if denominator > 1 else middle)
            number = isinstance(found, int | float)
            if not number or (found > wanted if falls else found < wanted):
                low = middle + 1
            else:
                high = middle
        value = low / denominator if denominator > 1 else low
        found = at(value)
        # A fraction, only where it's rounded on the way to the size.
        if found == wanted and (denominator == 1 or type(found) is int):
            return value
    return None


def values_that_hold(equation: Equation, path: str, values: Values, family: Family) -> list[Any]:
    """Those of the values that the leaf is known to take that make an equation hold."""
    found = equation.holding(path, known_values(path, family), values)
    base = family.leaves.get(path)
    if type(base) is int and base <= COUNT and (not found or type(equation.value) is bool):
        more = [n for n in range(1, COUNT + 1) if n not in found]
        found += equation.holding(path, more, values)
    return found


_NONE = object()


def known_values(path: str, family: Family) -> list[Any]:
    """Values that a leaf has in the family's networks, the base's first."""
    if path in family.known:
        return family.known[path]
    if path[-1] == "?":
        usual = is_item(path, family.leaves)
        return family.known.setdefault(path, [usual, not usual])
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
    return family.known.setdefault(path, found)  # whole: other threads read it


def is_sure(equation: Equation, path: str, value: Any, values: Values) -> bool:
    """Whether the next numbers up and down wouldn't do as well; a rounded half says little."""
    if type(value) is not int:
        return True
    return not equation.holding(path, (value - 1, value + 1), values)


def _bare(equation: Equation) -> bool:
    text = equation.expression.text
    return not any(char in text for char in "+-*/(= ") or text.replace("-1}", "}").isidentifier()


def height_and_width(
    path: str, equations: Sequence[Equation], values: Values, solved: set[str]
) -> None:
    """Height and width at once, taken as equal where one size shows only both."""
    other = other_side(path)
    for equation in equations if other else ():
        unknown = {name for name in equation.names if name not in values}
        if unknown == {path, other} and type(equation.value) is int:
            low = side(equation, path, values)
            # Where no square does, the rectangle that is nearest to one.
            step = _step(equation, path, values)
            for first in range(low // step * step, max(low - _OBLONG, 0), -step):
                last = inverted(equation, other, {**values, path: first})
                if isinstance(last, int) and last >= low:
                    values[path], values[other] = first, last
                    solved |= {path, other}
                    return


def other_side(path: str) -> str:
    """The width that goes with a height, or the height; "" for anything else."""
    root, _, last = path.rpartition(".")
    return f"{root}.{1 - int(last)}" if last in ("0", "1") else ""


def side(equation: Equation, path: str, values: Values) -> int:
    """The height and width, one number, that a size needs to be what it is, or to be more: of
    multiples of what the size is also made of (patches, say) the roundest."""

    def least(size: Any) -> int:
        low, high = 1, 1 << 14
        while low < high:
            middle = (low + high) // 2
            found = _at(equation, {**values, path: middle, other_side(path): middle})
            if found is None or found < size:
                low = middle + 1
            else:
                high = middle
        return low

    wanted: Any = equation.value
    low = least(wanted)
    if _at(equation, {**values, path: low, other_side(path): low}) != wanted:
        return low
    last = min(least(wanted + 1) - 1, low + low // _ROUNDER)
    step = _step(equation, path, values)
    return max(range(-(-low // step) * step, last + 1, step), key=lambda n: n & -n, default=low)


def _step(equation: Equation, path: str, values: Values) -> int:
    """What height and width are a multiple of: the other whole numbers that a size is made of."""
    others = (name for name in equation.names if name not in (path, other_side(path)))
    return math.lcm(*(n for name in others if type(n := values.get(name)) is int and n > 0))


def _at(equation: Equation, values: Values) -> Any:
    try:
        return equation.expression.value({**values, **equation.env})
    except ERRORS:
        return None


def fraction(
    path: str, counted: Mapping[Any, float], equations: Sequence[Equation], values: Values
) -> Any:
    """A fraction for which most of its equations hold. Each is rounded on the way and leaves a
    range: that of the largest size is the narrowest, and the shortest number in it likeliest."""
    rest = {name: value for name, value in values.items() if name != path}
    own = [
        e
        for e in equations
        if type(e.value) is int
        and e.stands(rest) is not False
        and {name for name in e.names if name not in rest} == {path}
    ]
    tried = [mark[1] for mark in sorted(counted, key=lambda mark: -counted[mark])]
    largest = sorted(own, key=lambda e: -e.value)[:_WIDEST]  # pyright: ignore
    for equation in largest:
        size: Any = equation.value
        low = _boundary(equation, path, rest, size)
        high = _boundary(equation, path, rest, size + 1)
        if low is not None and high is not None and low < high:
            tried += [n / 100 for n in range(int(low * 100) + 1, int(high * 100) + 1)][:_SHORT]
            tried.append((low + high) / 2)

    def holding(value: Any) -> int:
        return sum(e.votes for e in own if e.holds({**rest, path: value}))

    return max(tried, key=holding)


def _boundary(equation: Equation, path: str, values: Values, wanted: int) -> float | None:
    """The least fraction, up to 64, for which a rising expression reaches a size."""
    low, high = 0.0, 64.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _at(equation, {**values, path: middle})
        if found is None:
            return None
        low, high = (low, middle) if found >= wanted else (middle, high)
    return high
