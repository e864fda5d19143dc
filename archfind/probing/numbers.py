"""Numbers that remember how they were computed, as an expression of a constructor's leaves.

What a function of numbers decides by comparing them is part of the expression: it is run once for
every way its comparisons can go.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections import deque
from collections.abc import Callable
from types import FunctionType
from typing import Any

_ASKED = 4
_LONG = 600  # characters: an expression beyond that isn't worth its time
_FORKS = 3  # comparisons in a row
_LEVELS = {"+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "**": 7}
ATOM = 9


# What the constructor at work has lately asked of its numbers, and what was so: where it refuses
# them, the last of these is mostly why.
asked: deque[tuple[str, bool]] = deque(maxlen=_ASKED)
# What it asked of remainders from the start: what divides what.
divided: dict[str, bool] = {}
# What the library's own code asked of all its numbers, in order.
compared: dict[str, bool] = {}


class Number:
    """What a traced whole number or fraction adds to Python's own: `text`, the expression that it
    is, and `level`, how strongly that binds."""

    text: str
    level: int

    def __add__(self, other: Any) -> Any:
        return _computed("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return _computed("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return _computed("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _computed("-", other, self)

    def __mul__(self, other: Any) -> Any:
        return _computed("*", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _computed("*", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _computed("/", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _computed("/", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _computed("//", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _computed("//", other, self)

    def __mod__(self, other: Any) -> Any:
        return _computed("%", self, other)

    def __rmod__(self, other: Any) -> Any:
        return _computed("%", other, self)

    def __pow__(self, other: Any) -> Any:
        return _computed("**", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _computed("**", other, self)

    def __neg__(self) -> Any:
        return _computed("-", 0, self)

    def __pos__(self) -> Any:
        return self

    def __round__(self, digits: int | None = None) -> Any:
        if digits is not None:
            return round(untraced_value(self), digits)
        if isinstance(self, Whole):
            return self
        return traced_number(round(untraced_value(self)), f"near({self.text})", ATOM)

    def __floor__(self) -> Any:
        return traced_number(math.floor(untraced_value(self)), f"floor({self.text})", ATOM)

    def __ceil__(self) -> Any:
        return traced_number(math.ceil(untraced_value(self)), f"ceil({self.text})", ATOM)

    def __trunc__(self) -> Any:
        return self.__floor__()

    def __eq__(self, other: object) -> bool:
        return _compared("==", self, other)

    def __ne__(self, other: object) -> bool:
        return _compared("!=", self, other)

    def __lt__(self, other: Any) -> bool:
        return _compared("<", self, other)

    def __gt__(self, other: Any) -> bool:
        return _compared(">", self, other)

    def __le__(self, other: Any) -> bool:
        return not _compared(">", self, other)

    def __ge__(self, other: Any) -> bool:
        return not _compared("<", self, other)

    def __bool__(self) -> bool:
        return _compared("!=", self, 0)

    def __hash__(self) -> int:
        return hash(untraced_value(self))

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self


class Whole(Number, int):
    """A traced int."""


class Fraction(Number, float):
    """A traced float."""


def untraced_value(value: Any) -> Any:
    if isinstance(value, Whole):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, Fraction) else value


def traced_number(value: Any, text: str, level: int) -> Any:
    """A result with its expression; without one where it's no number, or too long a story."""
    if type(value) not in (int, float) or len(text) > _LONG:
        return value
    found = Whole(value) if type(value) is int else Fraction(value)
    found.text, found.level = text, level
    return found


def leaf(value: float, path: str) -> Any:
    """The traced value of a leaf."""
    return traced_number(value, path, ATOM)


_PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
}


def _computed(operator: str, one: Any, two: Any) -> Any:
    if not (is_number(one) and is_number(two)):
        if operator == "*" and isinstance(one, list | tuple | str):
            return one * untraced_value(two)
        if operator == "*" and isinstance(two, list | tuple | str):
            return two * untraced_value(one)
        return NotImplemented
    value = _PLAIN[operator](untraced_value(one), untraced_value(two))
    level = _LEVELS[operator]
    if operator in ("/", "//") and text_of(one, 0) == text_of(two, 0):
        return value  # a depthwise convolution's channels
    unit = operator in ("*", "/") or (operator == "//" and isinstance(one, int))
    if (operator in "+-" and _is_zero(two)) or (unit and _is_one(two)):
        return traced_number(value, text_of(one, 0), getattr(one, "level", ATOM))
    if (operator == "+" and _is_zero(one)) or (operator == "*" and _is_one(one)):
        return traced_number(value, text_of(two, 0), getattr(two, "level", ATOM))
    if operator == "+":
        return traced_number(value, _sum(text_of(one, level), text_of(two, level + 1)), level)
    text = f"{text_of(one, level)}{operator}{text_of(two, level + 1)}"
    return traced_number(value, text, level)


def _sum(one: str, two: str) -> str:
    """A sum; what was added before is counted: `x+2*growth` is what a third block gets."""
    term = two if re.fullmatch(r"[\w.]+", two) else f"({two})"
    if one.endswith(f"+{two}") and term == two:
        return f"{one[: -len(two)]}2*{term}"
    head, plus, last = one.rpartition("+")
    count, _, rest = last.partition("*")
    if plus and count.isdigit() and rest == term and head.count("(") == head.count(")"):
        return f"{head}+{int(count) + 1}*{term}"
    return f"{one}+{two}"


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}


def _compared(operator: str, one: Any, two: Any) -> bool:
    found = _COMPARED[operator](untraced_value(one), untraced_value(two))
    if not is_number(two):
        return found
    if operator in "<>":
        text = f"{text_of(one, 5)}{operator}{text_of(two, 5)}"
    else:
        text = f"{text_of(one, 5)} {operator} {text_of(two, 5)}"
    if _forks:
        forced, met = _forks[-1]
        met.append(text)
        return forced[len(met) - 1] if len(met) <= len(forced) else found
    asked.append((text, found))
    if "%" in text and len(text) < _LONG // 4:
        divided[text] = found
    if len(text) < _LONG // 4 and _asking() != "torch":
        compared[text] = found
    return found


def _asking() -> str:
    """The package whose code compares."""
    frame = inspect.currentframe()
    for _ in range(3):  # this, what compares, and the operator
        frame = frame and frame.f_back
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] if frame else ""


# make_divisible, as nearly every library of mobile networks has it: worth a name of its own
_DIVISIBLE = re.compile(
    r"case\((max\(([\w.]+),floor\((.+)\+(?:(\d[\d.]*)|\2/2)\)//\2\*\2\))<0\.9\*\(?\3\)?,\1\+\2,\1\)"
)

# The functions at work whose comparisons are tried both ways: how those go that were met before,
# and what all of them were.
_forks: list[tuple[list[bool], list[str]]] = []


@functools.cache
def has_fractions(function: FunctionType) -> bool:
    """Whether a function has a fraction among its constants and defaults."""
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return any(type(value) is float for value in (*function.__code__.co_consts, *defaults))


@functools.cache
def remembering(function: Any) -> Callable[..., Any]:
    """A function whose fractions are traced, too: Python gives 0.9 * 3 to the 0.9, which doesn't
    ask a traced 3."""

    def traced(value: Any) -> Any:
        return traced_number(value, text_of(value, 0), ATOM) if type(value) is float else value

    code = function.__code__
    found = FunctionType(
        code.replace(co_consts=tuple(map(traced, code.co_consts))),
        function.__globals__,
        function.__name__,
        tuple(map(traced, function.__defaults__ or ())),
        function.__closure__,
    )
    found.__kwdefaults__ = {k: traced(v) for k, v in (function.__kwdefaults__ or {}).items()}
    return found


@functools.cache
def forked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that, where it makes a number of nothing but numbers, says so in the number's
    expression whichever way its comparisons go: `case(x<8,8,x)`."""

    own = remembering(function)

    def run(forced: list[bool], args: Any, kwargs: Any) -> tuple[Any, list[str]]:
        met: list[str] = []
        _forks.append((forced, met))
        try:
            return own(*args, **kwargs), met
        finally:
            _forks.pop()

    def expression(forced: list[bool], args: Any, kwargs: Any) -> str:
        found, met = run(forced, args, kwargs)
        if not is_number(found) or len(forced) > _FORKS:
            raise ValueError
        if len(met) == len(forced):
            return text_of(found, 0)
        yes = expression([*forced, True], args, kwargs)
        no = expression([*forced, False], args, kwargs)
        if yes == no:
            return yes
        text = f"case({met[len(forced)]},{yes},{no})"
        rounded = _DIVISIBLE.fullmatch(text)
        if rounded and (rounded[4] is None or 2 * float(rounded[4]) == float(rounded[2])):
            return f"divisible({rounded[3]},{rounded[2]})"
        return text

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        if not any(isinstance(value, Number) for value in given) or not all(
            value is None or isinstance(value, int | float | str) for value in given
        ):
            return function(*args, **kwargs)
        try:
            found, met = run([], args, kwargs)
        except Exception:  # to be raised where what it asks is noted
            return function(*args, **kwargs)
        if not met or not is_number(found):
            return function(*args, **kwargs) if met else found
        try:
            text = expression([], args, kwargs)
        except Exception:  # one of the ways is closed
            return found
        return traced_number(
            untraced_value(found), text, ATOM if text[-1] == ")" and text[0] in "cd" else 0
        )

    return traced


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_zero(value: Any) -> bool:
    return type(value) is int and value == 0


def _is_one(value: Any) -> bool:
    return type(value) is int and value == 1


def text_of(value: Any, level: int) -> str:
    if isinstance(value, Number):
        return value.text if value.level >= level else f"({value.text})"
    text = str(value) if type(value) is int else repr(float(value))
    if "e" in text:
        text = f"{float(value):.20f}".rstrip("0")
    return f"(0-{text[1:]})" if text[0] == "-" else text


class _Kind(type):
    """The type of the stand-ins for `int` and `float`: what they make, and isinstance, are as
    before."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.real)  # pyright: ignore

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls.real)  # pyright: ignore

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], Number):
            value = args[0]
            if cls.real is float:  # pyright: ignore
                return traced_number(float(untraced_value(value)), value.text, value.level)
            if isinstance(value, Whole):
                return value
            return traced_number(int(untraced_value(value)), f"floor({value.text})", ATOM)
        return cls.real(*args, **kwargs)  # pyright: ignore

    def __hash__(cls) -> int:
        return hash(cls.real)  # pyright: ignore

    def __eq__(cls, other: object) -> bool:
        return other is cls.real or other is cls  # pyright: ignore


class Int(metaclass=_Kind):
    real = int


class Float(metaclass=_Kind):
    real = float
