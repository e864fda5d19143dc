"""A family's tensors as a program: lines that expand to exact keys and shapes for given values.

    blocks.{i<depth}.attn.qkv.weight    3*embed_dim embed_dim
    blocks.{i<depth}.attn.qkv.bias      3*embed_dim               if qkv_bias
    pos_embed                           1 (img_size//patch_size)**2+1 embed_dim

`{i<depth}` repeats; sizes and conditions are expressions (expression.py). Lines may share a pattern
under conditions that exclude each other. On the cold path of `archfind guess`.
"""

from __future__ import annotations

from functools import lru_cache

from archfind.classes.expansion import PLACES, Expansion
from archfind.classes.expression import parse_expression
from archfind.classes.numbered import KEPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from archfind.classes.expansion import Shape, Tensor
    from archfind.classes.expression import Expression
    from archfind.classes.thinned import Rows

    Values = Mapping[str, Any]


class PatternPart:
    """One component of a pattern: literal text, or a repeat with its bound."""

    __slots__ = ("bound", "index", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.index = ""
        self.bound: Expression | None = None
        if text[0] == "{":
            name, _, bound = text[1:-1].partition("<")
            self.index = f"{{{name}}}"
            self.bound = parse_expression(bound)

    def is_in(self, texts: Iterable[str]) -> bool:
        """Whether one of these expressions may read a repeat's index."""
        return self.bound is not None and any(self.index[:-1] in text for text in texts)


@lru_cache(KEPT)
def _parts(pattern: str) -> list[PatternPart]:
    """A pattern's components, made once: the lines of several conditions share it."""
    return [_part(text) for text in split(pattern)]


@lru_cache(KEPT)
def _part(text: str) -> PatternPart:
    return PatternPart(text)


_ANYWHERE: Mapping[str, int] = {}


class FamilyLine:
    """Keys, sizes, dtype, condition. After `settled` of the parts, sizes and condition read no
    further repeat. `pinned` are the repeats that the condition fixes at one number,
    `{i} == 3 and ...`: no other place has the line."""

    __slots__ = (
        "_reads",
        "condition",
        "dtype",
        "parts",
        "pattern",
        "pinned",
        "settled",
        "sizes",
        "text",
    )

    def __init__(self, text: str) -> None:
        self.text = text
        self.pattern, _, rest = text.partition("  ")
        body, _, condition = rest.strip().partition("  if ")
        words = spaced(body)
        self.dtype = words.pop() if words and words[-1] in _DTYPES else "float"
        self.sizes = tuple(parse_expression(word) for word in words if word != "()")
        self.condition = parse_expression(condition.strip()) if condition else None
        self.parts = _parts(self.pattern)
        repeats = [repeat for repeat in self.parts if repeat.bound is not None]
        self._reads: set[str] | None = None
        self.pinned = _pinned(condition) if repeats else _ANYWHERE
        texts = [one.text for one in self._told() if "{" in one.text] if repeats else []
        used = [at for at, repeat in enumerate(self.parts, 1) if repeat.is_in(texts)]
        self.settled = max(used, default=0)

    @property
    def reads(self) -> set[str]:
        """The leaves that its sizes, its condition and its repeats are made of."""
        if self._reads is None:
            bounds = self.bounds()
            names = {name for one in (*self._told(), *bounds) for name in one.names}
            self._reads = _leaves_read(names, {part.index for part in self.parts if part.index})
        return self._reads

    def _told(self) -> list[Expression]:
        return [*self.sizes] if self.condition is None else [*self.sizes, self.condition]

    def bounds(self) -> list[Expression]:
        """How often each of its repeats does."""
        return [part.bound for part in self.parts if part.bound is not None]

    def is_reading(self, path: str) -> bool:
        """Whether a leaf may have a part in the line."""
        return any(
            path == name or (name[-1] == "." and path.startswith(name)) for name in self.reads
        )


def _leaves_read(names: Iterable[str], repeats: set[str]) -> set[str]:
    """The leaves behind the names in a line's expressions, up to a repeat's index: `depths.` for
    `depths.{i}`, with `depths.#` for what stands in braces in `dims.{depths.#-1}`, and the whole of
    a list (`layers.`) that is asked whether an item is in it."""
    found: set[str] = set()
    for name in names:
        text, brace, rest = name.partition("{")
        if text:
            found.add(f"{name.rpartition('.')[0]}." if name[-1] == "?" and not brace else text)
        while brace:
            inner, _, rest = rest.partition("}")
            inner = inner.partition("-")[0]
            if f"{{{inner.rstrip('#')}}}" not in repeats:
                found.add(inner)
            _, brace, rest = rest.partition("{")
    return found


@lru_cache(KEPT)
def _pinned(condition: str) -> dict[str, int]:
    """The repeats that a condition's first terms fix: {"{i}": 3} of `{i} == 3 and qkv_bias`."""
    found: dict[str, int] = {}
    inside = 0
    for word in condition.split():
        inside += word.count("(") - word.count(")")
        if word == "or" and not inside:
            return {}  # it is only one of several conditions
    for term in condition.split(" and "):
        index, equals, number = term.partition(" == ")
        if not equals or index[0] != "{" or index[-1] != "}" or not number.strip().isdecimal():
            break
        found[index] = int(number)
    return found


_DTYPES = frozenset("bool uint8 int8 int16 int32 int64 complex64 complex128".split())


def split(pattern: str) -> list[str]:
    """The components of a pattern; a repeat's bound may have dots of its own."""
    if "{" not in pattern:
        return pattern.split(".")
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
    if "(" not in body:
        return body.split()
    found: list[str] = []
    inside = 0
    for word in body.split():
        if inside:
            found[-1] += f" {word}"
        else:
            found.append(word)
        inside += word.count("(") - word.count(")")
    return found


class Program:
    """The lines of a family."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = [FamilyLine(line) for line in lines]
        self._readers: dict[str, list[int]] = {}

    def readers(self, paths: Iterable[str]) -> set[int]:
        """The numbers of the lines that any of these leaves may have a part in."""
        if not self._readers:
            readers: dict[str, list[int]] = {}
            for number, line in enumerate(self.lines):
                for name in line.reads:
                    readers.setdefault(name, []).append(number)
            self._readers = readers  # whole: other threads read it
        wanted = {*paths}
        wanted |= {p[:at] for p in wanted for at in range(len(p)) if p[at - 1] == "."}
        return {number for name in wanted for number in self._readers.get(name, ())}

    def reading(self, paths: Iterable[str]) -> Program:
        """The lines that any of these leaves may have a part in."""
        found = Program(())
        found.lines = [self.lines[number] for number in sorted(self.readers(paths))]
        return found

    def expand(self, values: Values, most: int = PLACES) -> dict[str, tuple[Shape, str]]:
        """Every key with its shape and dtype. TooManyPlaces where the repeats have more places
        than `most`."""
        return {key: (shape, dtype) for key, shape, dtype in self.tensors(values, most=most)}

    def contracted(self, values: Values) -> frozenset[object] | None:
        """What the lines give, with their repeats left as numbers: of the same, the same tensors
        come. None where a line can't be read with these values."""
        found: set[object] = set()
        try:
            for line in self.lines:
                if line.settled or any("{" in one.text for one in line.bounds()):
                    read = [p for p in values if line.is_reading(p)]
                    found.add((line.text, *((p, values[p]) for p in sorted(read))))
                elif line.condition is None or line.condition.value(values):
                    counts = tuple([int(bound.value(values)) for bound in line.bounds()])
                    names = tuple([part.text for part in line.parts if part.bound is None])
                    shape = tuple([int(size.value(values)) for size in line.sizes])
                    form = tuple([part.bound is None for part in line.parts])
                    if 0 not in counts:
                        found.add((form, names, counts, shape, line.dtype))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            return None
        return frozenset(found)

    def tensors(
        self, values: Values, thin: Rows | None = None, most: int = PLACES
    ) -> Iterator[Tensor]:
        """Key, shape and dtype of every tensor, line by line; without those that items beyond a
        list would give, and those amid the rows that are `thin`."""
        expansion = Expansion(values, most, thin)
        for line in self.lines:
            yield from expansion.tensors(line)
