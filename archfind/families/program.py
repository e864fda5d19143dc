"""A family's tensors as a program: lines that expand to exact keys and shapes for given values.

    blocks.{i<depth}.attn.qkv.weight    3*embed_dim embed_dim
    blocks.{i<depth}.attn.qkv.bias      3*embed_dim               if qkv_bias
    pos_embed                           1 (img_size//patch_size)**2+1 embed_dim

`{i<depth}` repeats; sizes and conditions are expressions (expression.py). Lines may share a pattern
under conditions that exclude each other. On the cold path of `archfind guess`.
"""

from __future__ import annotations

from functools import lru_cache

from archfind.families.expression import parse, resolved
from archfind.families.thinned import ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from archfind.families.expression import Expression

    Values = Mapping[str, Any]

KEPT = 1 << 16  # keys of files, which every family asks for

Shape = tuple[int, ...]


class Part:
    """One component of a pattern: literal text, or a repeat with its bound."""

    __slots__ = ("bound", "index", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.index = ""
        self.bound: Expression | None = None
        if text[0] == "{":
            name, _, bound = text[1:-1].partition("<")
            self.index = f"{{{name}}}"
            self.bound = parse(bound)

    def is_in(self, texts: Iterable[str]) -> bool:
        """Whether one of these expressions may read a repeat's index."""
        return self.bound is not None and any(self.index[:-1] in text for text in texts)


class FamilyLine:
    """Keys, sizes, dtype, condition; `reads` are the leaves in them, up to a repeat's index. After
    `settled` of the parts, sizes and condition read no further repeat."""

    __slots__ = ("condition", "dtype", "parts", "pattern", "reads", "settled", "sizes")

    def __init__(self, text: str) -> None:
        self.pattern, _, rest = text.partition("  ")
        body, _, condition = rest.strip().partition("  if ")
        words = spaced(body)
        self.dtype = words.pop() if words and words[-1] in _DTYPES else "float"
        self.sizes = tuple(parse(word) for word in words if word != "()")
        self.condition = parse(condition.strip()) if condition else None
        self.parts = [Part(part) for part in split(self.pattern)]
        some = (*self.sizes, self.condition, *(part.bound for part in self.parts))
        names = {name for one in some if one is not None for name in one.names}
        self.reads = {name.partition("{")[0] for name in names if name[0] != "{"}
        told = [one.text for one in (*self.sizes, self.condition) if one is not None]
        used = [at for at, part in enumerate(self.parts, 1) if part.is_in(told)]
        self.settled = max(used, default=0)


_DTYPES = frozenset("bool uint8 int8 int16 int32 int64 complex64 complex128".split())


def split(pattern: str) -> list[str]:
    """The components of a pattern; a repeat's bound may have dots of its own."""
    found: list[str] = []
    inside = 0
    start = 0
    for at, char in enumerate(pattern):
        if char == "{":
            inside += 1
        elif char == "}":
            inside -= 1
        elif char == "." and not inside:
            found.append(pattern[start:at])
            start = at + 1
    return [*found, pattern[start:]]


def spaced(body: str) -> list[str]:
    """The words of a line; those within brackets or quotes belong together."""
    found: list[str] = []
    inside = 0
    for word in body.split():
        if inside:
            found[-1] += f" {word}"
        else:
            found.append(word)
        inside += word.count("(") - word.count(")")
    return found


@lru_cache(KEPT)
def numbered(key: str) -> str:
    """A key with the numbers at the ends of its components apart: `layer~.1.0.conv~.2.weight`."""
    if not any(char.isdecimal() for char in key):
        return key
    found: list[str] = []
    for part in key.split("."):
        text = part.rstrip("0123456789")
        number = part[len(text) :]
        found += [f"{text}~", number] if text and number and _plain(number) else [part]
    return ".".join(found)


def _plain(number: str) -> bool:
    return number == "0" or number[0] != "0"


def joined(key: str) -> str:
    """The key that `numbered` took apart."""
    return key.replace("~.", "")


class Program:
    """The lines of a family."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = [FamilyLine(line) for line in lines]

    def reading(self, paths: Iterable[str]) -> Program:
        """The lines that any of these leaves may have a part in."""
        wanted = {*paths}
        heads = {p[:at] for p in wanted for at in range(len(p)) if p[at - 1] == "."}
        found = Program(())
        found.lines = [line for line in self.lines if not line.reads.isdisjoint(wanted | heads)]
        return found

    def expand(self, values: Values) -> dict[str, tuple[Shape, str]]:
        """Every key with its shape and dtype."""
        return {key: (shape, dtype) for key, shape, dtype in self.tensors(values)}

    def tensors(self, values: Values, is_thin: bool = False) -> Iterator[tuple[str, Shape, str]]:
        """Key, shape and dtype of every tensor, line by line; without those that items beyond a
        list would give, and if `is_thin` without those amid long rows within layers."""
        for line in self.lines:
            outer, inner = line.parts[: line.settled], line.parts[line.settled :]
            for head, env in places(outer, values, "", is_thin):
                try:
                    if line.condition is not None and not line.condition.value(env):
                        continue
                    shape = tuple([int(size.value(env)) for size in line.sizes])
                except TypeError:
                    expressions = [*line.sizes, *([line.condition] if line.condition else ())]
                    if not any(_is_beyond(one, env) for one in expressions):
                        raise
                    continue
                for key, _ in places(inner, env, head, is_thin):
                    yield joined(key), shape, line.dtype


def _is_beyond(expression: Expression, values: Values) -> bool:
    """Whether an expression reads an item that a list, shorter than another, doesn't have: what
    would be made of it isn't there."""
    names = [resolved(name, values) for name in expression.names if name[0] != "{"]
    return any(name not in values for name in names if name[-1] != "?")


def places(
    parts: list[Part], values: Values, head: str = "", is_thin: bool = False
) -> Iterator[tuple[str, Values]]:
    """Every key of a pattern's parts below `head`, with the values of its repeats."""
    at = 0
    while at < len(parts) and parts[at].bound is None:
        head = f"{head}.{parts[at].text}" if head else parts[at].text
        at += 1
    if at == len(parts):
        yield head, values
        return
    part = parts[at]
    assert part.bound is not None
    try:
        bound = part.bound.value(values)
    except TypeError:
        if not _is_beyond(part.bound, values):
            raise
        bound = None
    count = int(bound) if bound is not None else 0  # of an item that a shorter list doesn't have
    rest = parts[at + 1 :]
    above = f"{head}." if head else ""
    is_last = all(one.bound is None for one in rest)
    tail = "".join(f".{one.text}" for one in rest) if is_last else ""
    for number in ends(joined(above), count) if is_thin else range(count):
        env = {**values, part.index: number, f"{part.index[:-1]}#}}": count}
        if is_last:  # most keys come from here: without a generator for each
            yield f"{above}{number}{tail}", env
        else:
            yield from places(rest, env, f"{above}{number}", is_thin)
