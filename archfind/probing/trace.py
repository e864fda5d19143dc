"""One call of a constructor, with numbers that remember how they were computed: every size of every
tensor as an expression of the constructor's leaves, and the loops that each tensor was made in.

Where a library takes a number out of Python's arithmetic (numpy, a tensor), the memory ends: that
size has no expression, and moving the leaf says what it does.
"""

from __future__ import annotations

import builtins
import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from torch import nn

from archfind.probing.config import Config, leaves, moved
from archfind.probing.probe import NoValues, Shapes, quietly, shapes_of

_SIZED = frozenset("empty zeros ones rand randn full new_zeros new_ones new_empty new_full".split())
_RESHAPED = frozenset(("view", "reshape", "expand"))
_ASKED = 4
_LONG = 600  # characters: an expression beyond that isn't worth its time
_LEVELS = {"+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "**": 7}
_ATOM = 9


# What the constructor at work has lately asked of its numbers, and what was so: where it refuses
# them, the last of these is mostly why.
asked: deque[tuple[str, bool]] = deque(maxlen=_ASKED)


class Refused(Exception):
    """A constructor didn't take its arguments; `asked` is what it had asked of them last."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.asked = list(asked)


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
            return round(_plain(self), digits)
        return _number(round(_plain(self)), f"near({self.text})", _ATOM)

    def __floor__(self) -> Any:
        return _number(math.floor(_plain(self)), f"floor({self.text})", _ATOM)

    def __ceil__(self) -> Any:
        return _number(math.ceil(_plain(self)), f"ceil({self.text})", _ATOM)

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
        return hash(_plain(self))

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self


class Whole(Number, int):
    """A traced int."""


class Fraction(Number, float):
    """A traced float."""


def _plain(value: Any) -> Any:
    if isinstance(value, Whole):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, Fraction) else value


def _number(value: Any, text: str, level: int) -> Any:
    """A result with its expression; without one where it's no number, or too long a story."""
    if type(value) not in (int, float) or len(text) > _LONG:
        return value
    found = Whole(value) if type(value) is int else Fraction(value)
    found.text, found.level = text, level
    return found


def leaf(value: float, path: str) -> Any:
    """The traced value of a leaf."""
    return _number(value, path, _ATOM)


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
    if not (_is_number(one) and _is_number(two)):
        if operator == "*" and isinstance(one, list | tuple | str):
            return one * _plain(two)
        if operator == "*" and isinstance(two, list | tuple | str):
            return two * _plain(one)
        return NotImplemented
    value = _PLAIN[operator](_plain(one), _plain(two))
    level = _LEVELS[operator]
    if (operator in "+-" and _is_zero(two)) or (operator in ("*", "/", "//") and _is_one(two)):
        return _number(value, _text(one, 0), getattr(one, "level", _ATOM))
    if (operator == "+" and _is_zero(one)) or (operator == "*" and _is_one(one)):
        return _number(value, _text(two, 0), getattr(two, "level", _ATOM))
    text = f"{_text(one, level)}{operator}{_text(two, level + 1)}"
    return _number(value, text, level)


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}


def _compared(operator: str, one: Any, two: Any) -> bool:
    found = _COMPARED[operator](_plain(one), _plain(two))
    if _is_number(two):
        if operator in "<>":
            text = f"{_text(one, 5)}{operator}{_text(two, 5)}"
        else:
            text = f"{_text(one, 5)} {operator} {_text(two, 5)}"
        asked.append((text, found))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_zero(value: Any) -> bool:
    return type(value) is int and value == 0


def _is_one(value: Any) -> bool:
    return type(value) is int and value == 1


def _text(value: Any, level: int) -> str:
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
                return _number(float(_plain(value)), value.text, value.level)
            if isinstance(value, Whole):
                return value
            return _number(int(_plain(value)), f"floor({value.text})", _ATOM)
        return cls.real(*args, **kwargs)  # pyright: ignore

    def __hash__(cls) -> int:
        return hash(cls.real)  # pyright: ignore

    def __eq__(cls, other: object) -> bool:
        return other is cls.real or other is cls  # pyright: ignore


class _Int(metaclass=_Kind):
    real = int


class _Float(metaclass=_Kind):
    real = float


class Tracer:
    """The loops that a constructor is in, and the tensors that it makes."""

    def __init__(self) -> None:
        self.loops: list[tuple[str, int]] = []  # bound, and the round
        self.bounds: dict[str, int] = {}

    def range(self, *args: Any) -> Any:
        """`range`, watched where its end is traced."""
        bounds = [a for a in args if isinstance(a, Number)]
        plain = range(*map(_plain, args))
        if not bounds:
            return plain
        if len(args) == 1:
            bound = args[0].text
        elif len(args) == 2:
            bound = _text(args[1] - args[0], 0)
        else:
            return plain
        self.bounds[bound] = len(plain)
        return _Loop(self, bound, plain)

    @staticmethod
    def extreme(name: str) -> Callable[..., Any]:
        """`min` or `max`, with its expression."""
        plain = getattr(builtins, name)

        def chosen(*args: Any, **kwargs: Any) -> Any:
            traced = len(args) == 2 and any(isinstance(a, Number) for a in args)
            if traced and not kwargs and all(map(_is_number, args)):
                text = f"{name}({_text(args[0], 0)},{_text(args[1], 0)})"
                return _number(plain(*map(_plain, args)), text, _ATOM)
            return plain(*args, **kwargs)

        return chosen


class _Loop:
    """A range whose rounds are known while they last."""

    def __init__(self, tracer: Tracer, bound: str, plain: range) -> None:
        self._tracer = tracer
        self._bound = bound
        self._plain = plain

    def __len__(self) -> int:
        return len(self._plain)

    def __getitem__(self, at: Any) -> Any:
        return self._plain[at]

    def __iter__(self) -> Iterator[int]:
        loops = self._tracer.loops
        depth = len(loops)
        try:
            for turn, number in enumerate(self._plain):
                del loops[depth:]
                loops.append((self._bound, turn))
                yield number
        finally:
            del loops[depth:]


@contextlib.contextmanager
def _watched(tracer: Tracer, package: str) -> Generator[None]:
    """The library's modules with traced builtins, as long as this lasts."""
    own: dict[str, Any] = {
        "range": tracer.range,
        "int": _Int,
        "float": _Float,
        "min": tracer.extreme("min"),
        "max": tracer.extreme("max"),
    }
    changed: list[tuple[dict[str, Any], str]] = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package and module is not None:
            space = vars(module)
            for word, value in own.items():
                if word not in space:
                    space[word] = value
                    changed.append((space, word))
    make = nn.Parameter.__new__

    def remembered(cls: Any, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        made = make(cls, data, *args, **kwargs)
        if hasattr(data, "_traced"):
            made._traced = data._traced
        return made

    nn.Parameter.__new__ = staticmethod(remembered)  # pyright: ignore
    try:
        yield
    finally:
        nn.Parameter.__new__ = staticmethod(make)  # pyright: ignore
        for space, word in changed:
            del space[word]


class _Remembering(NoValues):
    """Tensors keep the expressions of their sizes."""

    def __init__(self, tracer: Tracer, end: float) -> None:
        super().__init__(end)
        self._tracer = tracer

    def __torch_function__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = super().__torch_function__(func, types, args, kwargs)
        if not isinstance(found, torch.Tensor) or hasattr(found, "_traced"):
            return found
        name = getattr(func, "__name__", "")
        sizes: Any = None
        if name in _SIZED or name in _RESHAPED:
            rest = args[1:] if name.startswith("new_") or name in _RESHAPED else args
            if not rest and kwargs:
                rest = (kwargs.get("size", ()),)
            sizes = rest[0] if rest and isinstance(rest[0], list | tuple) else rest
            if name in ("full", "new_full") and sizes is rest:
                sizes = None
        else:
            for given in args:
                if isinstance(given, torch.Tensor) and given.shape == found.shape:
                    sizes = [*getattr(given, "_traced", ([],))[0]] or None
                    break
        if sizes is not None and len(sizes) == found.dim():
            same = all(
                isinstance(size, str) or (isinstance(size, int) and _plain(size) == own)
                for size, own in zip(sizes, found.shape, strict=True)
            )
            if same:
                texts = [s if isinstance(s, str) else _text(s, 0) for s in sizes]
                found._traced = texts, tuple(self._tracer.loops)  # pyright: ignore
        return found


class Traced:
    """A network with what its constructor did: `sizes` has a key's expressions, one a dim, and
    `loops` the rounds that its tensor was made in; `bounds` are those of all loops."""

    def __init__(
        self,
        shapes: Shapes,
        sizes: dict[str, list[str]],
        loops: dict[str, tuple[tuple[str, int], ...]],
        bounds: dict[str, int],
    ) -> None:
        self.shapes = shapes
        self.sizes = sizes
        self.loops = loops
        self.bounds = bounds


def trace(make: type[nn.Module], config: Config, seconds: float = math.inf) -> Traced:
    """Call a constructor on the meta device with traced numbers. Refused where it raises."""
    own = {
        path: leaf(value, path)  # pyright: ignore[reportArgumentType]
        for path, value in leaves(config).items()
        if type(value) in (int, float) and not path.endswith(".#") and "-" not in path
    }
    tracer = Tracer()
    package = make.__module__.partition(".")[0]
    asked.clear()
    with quietly(), _watched(tracer, package), torch.device("meta"):
        try:
            with _Remembering(tracer, time.monotonic() + seconds):
                module = make(**moved(config, own))
        except Exception as error:  # a library refuses values in its own ways
            raise Refused(error) from error
    sizes: dict[str, list[str]] = {}
    loops: dict[str, tuple[tuple[str, int], ...]] = {}
    for key, tensor in module.state_dict(keep_vars=True).items():
        found = getattr(tensor, "_traced", None)
        if found is not None and len(found[0]) == tensor.dim():
            sizes[key], loops[key] = found
    return Traced(shapes_of(module), sizes, loops, tracer.bounds)
