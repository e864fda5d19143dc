"""Sizes and conditions as text: `3*embed_dim`, `img_size//patch_size`, `round8(32*width_mult)`,
`qkv_bias and {i} != 0`.

Names are paths of a config's leaves; `{i}` is the index of a repeat, `{i#}` how often it repeats,
`depths.{i}` the list's item at that index, `depths.#` its length. `{i} in global_layers` reads the
name `global_layers.{i}?`: whether the index is an item of the list, told by itself or by the list.
On the cold path of `archfind guess`.
"""

from __future__ import annotations

import math
import operator
import re

from archfind.errors import SignatureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Values = Mapping[str, Any]
    Computed = Callable[[Values], Any]


class Expression:
    """A parsed expression: `value(values)` computes it, `names` are the leaves that it reads."""

    __slots__ = ("names", "text", "value")

    def __init__(self, text: str, names: tuple[str, ...], value: Computed) -> None:
        self.text = text
        self.names = names
        self.value = value

    def __repr__(self) -> str:
        return self.text


_parsed: dict[str, Expression] = {}


def parse_expression(text: str) -> Expression:
    """The expression of a text, parsed once. SignatureError shows a text that isn't one."""
    found = _parsed.get(text)
    if found is None:
        found = _parsed[text] = _Parser(text).whole()
    return found


def resolved(name: str, values: Values) -> str:
    """`depths.{i}` as `depths.2`; `{i-1}` is the index before, `dims.{depths.#-1}` the item of the
    last."""
    while (start := name.find("{")) >= 0:
        end = name.index("}", start)
        index, _, back = name[start + 1 : end].partition("-")
        place = f"{{{index}}}"
        number = values[place if place in values else index] - int(back or 0)
        name = f"{name[:start]}{number}{name[end + 1 :]}"
    return name


def is_item(name: str, values: Values) -> bool:
    """Whether `global_layers.3?` is so: 3 is an item of the list."""
    told = values.get(name)
    if told is None:
        root, _, number = name[:-1].rpartition(".")
        items = (values.get(f"{root}.{n}") for n in range(values.get(f"{root}.#") or 0))
        told = int(number) in items
    return told


def make_divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` that is nearest to `value`, but not under nine tenths of it: the
    rounding of the MobileNet code, which most later mobile networks share
    (https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet/mobilenet.py)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _case(condition: Any, one: Any, two: Any) -> Any:
    """What `call` doesn't call: only one of the two may have a value."""
    return one if condition else two


def _rounding(divisor: int) -> Callable[[float], int]:
    return lambda value: make_divisible(value, divisor)


_LARGEST_POWER = 64  # an exponent of two beyond which no size is


def _power(base: Any, exponent: Any) -> Any:
    """`base ** exponent`; OverflowError where that is larger than any size, and so is a number that
    takes longer to compute than a file to read."""
    if exponent > _LARGEST_POWER or abs(base) > 1 << _LARGEST_POWER:
        raise OverflowError("a power larger than any size")
    return base**exponent


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "round2": _rounding(2),
    "round4": _rounding(4),
    "round8": _rounding(8),
    "round16": _rounding(16),
    "round32": _rounding(32),
    "divisible": make_divisible,
    "floor": math.floor,
    "ceil": math.ceil,
    "near": round,
    "case": _case,
    "min": min,
    "max": max,
}
_OPERATORS: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "or": (1, operator.or_),  # these two are joined without asking for both values
    "and": (2, operator.and_),
    "==": (4, operator.eq),
    "!=": (4, operator.ne),
    "<": (4, operator.lt),
    ">": (4, operator.gt),
    "+": (5, operator.add),
    "-": (5, operator.sub),
    "*": (6, operator.mul),
    "/": (6, operator.truediv),
    "//": (6, operator.floordiv),
    "%": (6, operator.mod),
    "**": (7, _power),
}
_WORDS = {"None": None, "True": True, "False": False}
RESERVED = frozenset((*_FUNCTIONS, *_OPERATORS, *_WORDS, "not", "in"))  # what is no name of a leaf


_BRACES = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_TOKEN = re.compile(  # a text in quotes, a name or number, an operator
    rf"'[^']*'|(?:{_BRACES}|\w)(?:{_BRACES}|[\w.#])*|//|\*\*|==|!=|[^ ]"
)


class _Parser:
    """Operator precedence over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)
        self.at = 0
        self.names: dict[str, None] = {}
        self.plain: dict[Computed, str] = {}  # what only reads a leaf, with its name
        self.constants: dict[Computed, Any] = {}  # what is always the same, with its value

    def whole(self) -> Expression:
        value = self.expression(0)
        if self.at < len(self.tokens):
            raise SignatureError(f"not an expression: {self.text!r}")
        return Expression(self.text, tuple(self.names), value)

    def next(self) -> str:
        if self.at == len(self.tokens):
            raise SignatureError(f"an expression ends too early: {self.text!r}")
        self.at += 1
        return self.tokens[self.at - 1]

    def expression(self, level: int) -> Computed:
        left = self.operand()
        while self.at < len(self.tokens):
            word = self.tokens[self.at]
            binding, function = _OPERATORS.get(word, (0, None))
            if function is None or binding <= level:
                break
            self.at += 1
            join = _both if word == "and" else _either if word == "or" else None
            right = self.expression(binding)
            left = join(left, right) if join else self.binary(function, left, right)
        return left

    def binary(
        self, function: Callable[[Any, Any], Any], left: Computed, right: Computed
    ) -> Computed:
        """Two sides and what joins them; most often a leaf and a number, which are read at once."""
        name, other = self.plain.get(left), self.plain.get(right)
        if right in self.constants:
            constant = self.constants[right]
            if name is not None:
                return lambda values: function(values.get(name), constant)
            return lambda values: function(left(values), constant)
        if name is not None and other is not None:
            return lambda values: function(values.get(name), values.get(other))
        return lambda values: function(left(values), right(values))

    def operand(self) -> Computed:
        token = self.next()
        if token == "(":
            inner = self.expression(0)
            if self.next() != ")":
                raise SignatureError(f"a bracket isn't closed: {self.text!r}")
            return inner
        if token == "not":
            inner = self.expression(3)
            return lambda values: not inner(values)
        if token == "-":
            inner = self.expression(6)
            return lambda values: -inner(values)
        if token[0] == "'" and len(token) > 1:
            return self.constant(token[1:-1])
        if token[0].isdigit():
            return self.constant(float(token) if "." in token else int(token))
        if token in _WORDS:
            return self.constant(_WORDS[token])
        if token in _FUNCTIONS and self.at < len(self.tokens) and self.tokens[self.at] == "(":
            return self.call(_FUNCTIONS[token])
        if not (token[0].isalpha() or token[0] in "_{"):
            raise SignatureError(f"not an expression: {self.text!r}")
        if self.tokens[self.at : self.at + 1] == ["in"]:
            self.next()
            member = f"{self.next()}.{token}?"
            self.names[member] = None
            return lambda values: is_item(resolved(member, values), values)
        self.names[token] = None
        if "{" not in token or (token[-1] == "}" and token.count("{") == 1 and token[0] == "{"):
            read: Computed = lambda values: values.get(token)  # noqa: E731
            self.plain[read] = token
            return read
        return lambda values: values.get(resolved(token, values))

    def constant(self, value: Any) -> Computed:
        same: Computed = lambda _values: value  # noqa: E731
        self.constants[same] = value
        return same

    def call(self, function: Callable[..., Any]) -> Computed:
        arguments: list[Computed] = []
        token = self.next()
        while token != ")":
            arguments.append(self.expression(0))
            token = self.next()
        if function is _case:
            condition, one, two = arguments
            return lambda values: one(values) if condition(values) else two(values)
        if len(arguments) == 1:
            only = arguments[0]
            return lambda values: function(only(values))
        return lambda values: function(*[argument(values) for argument in arguments])


def _both(left: Computed, right: Computed) -> Computed:
    return lambda values: left(values) and right(values)


def _either(left: Computed, right: Computed) -> Computed:
    return lambda values: left(values) or right(values)
