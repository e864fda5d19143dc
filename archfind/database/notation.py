"""The notation of signatures/: einops for a state dict.

    bn1.{weight|bias}            64                         two keys, shape [64]
    layer1.{1..3}.conv1.weight   64 256 1 1                 three keys
    fc.weight                    num_classes 2048           a size that a field gives
    head.bbox_pred.bias          (4 num_classes)            products and sums: (3 num_classes + 2)
    bn1.num_batches_tracked      () int64                   a scalar; the dtype where not a float
    aux.fc.weight                10 128  if aux_logits      keys that a field switches on

A line reads and writes: `expand` makes the exact keys, `solve` finds a field from a size. Sizes are
ints, or `Size` where a field comes in. This module is on the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.errors import SignatureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


CLASSES = "num_classes"  # the field that may be 0: then there is no head


def usual_args(callable: str, name: str) -> list[object]:
    """What stands before the keywords of a call that builds an entry, where its text says nothing
    else: the entry's name, unless the callable is a class of that name."""
    return [] if callable.endswith(f".{name}") else [name]


class Size:
    """A sum of products of fields: {("num_classes",): 4, (): 3} is 4 num_classes + 3."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[tuple[str, ...], int]) -> None:
        self.terms = terms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.terms.items())))

    def __repr__(self) -> str:
        return f"Size({self})"

    def __str__(self) -> str:
        if len(self.terms) == 1 and next(iter(self.terms.items())) == (self.fields, 1):
            return self.fields[0]
        words = [
            " ".join([str(factor)] * (factor != 1 or not names) + list(names))
            for names, factor in self.terms.items()
        ]
        return f"({' + '.join(words)})"

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields in the sum, each once."""
        return tuple(dict.fromkeys(name for names in self.terms for name in names))

    def value(self, fields: Mapping[str, object]) -> int:
        """The size, with every field known."""
        total = 0
        for names, factor in self.terms.items():
            for name in names:
                value = fields[name]
                assert isinstance(value, int)
                factor *= value
            total += factor
        return total

    def solve(self, size: int) -> tuple[str, int] | None:
        """The one field of a linear sum from the size, or None where no whole number gives it."""
        if len(self.fields) != 1:
            return None
        name = self.fields[0]
        factor, rest = self.terms.get((name,), 0), self.terms.get((), 0)
        if not factor or len(self.terms) > 1 + (() in self.terms) or (size - rest) % factor:
            return None
        value = (size - rest) // factor
        return (name, value) if value > 0 else None


class Line:
    """A pattern of keys, their shape, dtype ("float" or torch's name) and condition ("" =
    always)."""

    __slots__ = ("condition", "dtype", "pattern", "shape")

    def __init__(
        self, pattern: str, shape: tuple[int | Size, ...], dtype: str = "float", condition: str = ""
    ) -> None:
        self.pattern = pattern
        self.shape = shape
        self.dtype = dtype
        self.condition = condition

    def __str__(self) -> str:
        words = [" ".join(map(str, self.shape)) or "()"]
        words += [self.dtype] * (self.dtype != "float")
        words += [f"if {self.condition}"] * bool(self.condition)
        return f"{self.pattern}  {' '.join(words)}"


_shapes: dict[
    str, tuple[tuple[int | Size, ...], str]
] = {}  # a database repeats few distinct shapes


def parse_line(text: str) -> Line:
    """One line of a signature. SignatureError shows the line where it doesn't parse."""
    pattern, gap, rest = text.partition("  ")
    if not gap or not pattern:
        raise SignatureError(f"no two spaces between pattern and shape: {text!r}")
    body, _, condition = rest.strip().partition(" if ")
    parsed = _shapes.get(body)
    if parsed is None:
        parsed = _shapes[body] = _parse_shape(body, text)
    return Line(pattern, *parsed, condition.strip())


def _parse_shape(body: str, line: str) -> tuple[tuple[int | Size, ...], str]:
    sizes: list[int | Size] = []
    dtype = "float"
    words = body.split(" ")
    position = 0
    while position < len(words):
        word = words[position]
        if word.isdigit():
            sizes.append(int(word))
        elif word == "()":
            pass
        elif word.startswith("("):
            end = position
            while not words[end].endswith(")"):
                end += 1
                if end == len(words):
                    raise SignatureError(f"a bracket stays open: {line!r}")
            sizes.append(_parse_sum(" ".join(words[position : end + 1])[1:-1], line))
            position = end
        elif word in _DTYPES and position == len(words) - 1:
            dtype = word
        elif word.isidentifier():
            sizes.append(Size({(word,): 1}))
        else:
            raise SignatureError(f"not a size: {word!r} in {line!r}")
        position += 1
    return tuple(sizes), dtype


_DTYPES = frozenset(
    "bool uint8 int8 int16 int32 int64 complex64 complex128 qint8 quint8 qint32".split()
)


def _parse_sum(text: str, line: str) -> Size:
    terms: dict[tuple[str, ...], int] = {}
    for term in text.split("+"):
        factor, names = 1, []
        for word in term.split():
            if word.isdigit():
                factor *= int(word)
            elif word.isidentifier():
                names.append(word)
            else:
                raise SignatureError(f"not a field or number: {word!r} in {line!r}")
        terms[tuple(names)] = factor
    return Size(terms)


def keys(pattern: str) -> list[str]:
    """Every key of a pattern: `a.{0..1}.{w|b}` is a.0.w, a.0.b, a.1.w, a.1.b."""
    if "{" not in pattern:
        return [pattern]
    head, _, rest = pattern.partition("{")
    choice, close, tail = rest.partition("}")
    if not close:
        raise SignatureError(f"a brace stays open: {pattern!r}")
    first, dots, last = choice.partition("..")
    if dots and first.isdigit() and last.isdigit():
        names = [str(n) for n in range(int(first), int(last) + 1)]
    else:
        names = choice.split("|")
    tails = keys(tail)
    return [head + name + end for name in names for end in tails]


def expand(lines: list[Line]) -> Iterator[tuple[str, Line]]:
    """Every exact key with its line."""
    for line in lines:
        for key in keys(line.pattern):
            yield key, line


def ordered(names: list[str]) -> list[str]:
    """Keys in the order of the module that owns them: a state dict lists a module's own tensors
    and children in order of registration, which is that of each name's first appearance."""
    root: dict[str, dict] = {}  # pyright: ignore[reportMissingTypeArgument]
    for name in names:
        node = root
        for part in name.split("."):
            node = node.setdefault(part, {})
    out: list[str] = []
    stack = [("", root)]
    while stack:
        prefix, node = stack.pop()
        if not node:
            out.append(prefix)
        stack += [(f"{prefix}.{k}" if prefix else k, v) for k, v in reversed(node.items())]
    return out
