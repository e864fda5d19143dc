"""Rules that write keys anew: `layers.{i}.downsample.* -> layers.{i+1}.downsample.*`.

    {i} {i+1} {2i+1}     a number, and what it is on the other side
    {a|b} -> {c|d}       one of the words, and the word in its place on the other side
    *                    anything
    X ->                 a tensor that no network has
    X -> Y : OP          what becomes of the tensor (below)
    X -> Y ? Z           only where the file has Z (`? !Z`: where it hasn't)

A row's rules are applied in turn, each to what the one before it made. An OP gives shapes in
einops' way, `1 1 1 c = c` or `a b = b a`; or takes some of the rows, `rows 1..3 of 3`; or says that
the tensor is one of those in a row that make up another, `piece 2 of 3`; or names how it's computed
from this one and others of the file, `inverse_log` (older_values.py), and which shape that has,
`zeros : a b = b`. Rules one after another with
the same left side make several tensors of one. On the cold path of `archfind guess`.
"""

from __future__ import annotations

import re
from math import prod

from archfind.frozen import replace
from archfind.state_dicts.key_names import number_in_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from archfind.types import TensorSpec

    Shape = tuple[int, ...]

_PART = re.compile(r"\{([^}]*)\}|\*")
_COUNT = re.compile(r"(\d*)([a-z])([+-]\d+)?$")


class Made:
    """One tensor on its way through the rules: its key, what is known of it, `piece` (place,
    count) where it is one of several that make up a tensor, `recipe` where it is computed, of
    itself and `others`."""

    __slots__ = ("key", "others", "piece", "recipe", "spec")

    def __init__(self, key: str, spec: TensorSpec) -> None:
        self.key = key
        self.spec = spec
        self.piece: tuple[int, int] = (0, 1)
        self.recipe = ""
        self.others: tuple[str, ...] = ()

    def copy(self, key: str) -> Made:
        made = Made(key, self.spec)
        made.piece, made.recipe, made.others = self.piece, self.recipe, self.others
        return made


class Rule:
    """One rule, and the key that the file must have for it ("": none)."""

    __slots__ = ("_match", "left", "needs", "op", "right")

    def __init__(self, text: str) -> None:
        text, _, self.needs = text.partition(" ? ")
        text, _, self.op = text.partition(" : ")
        left, _, right = text.partition("->")
        self.left, self.right = left.strip(), right.strip()
        self._match = re.compile(_pattern(self.left))

    def is_meant(self, keys: Container[str], prefix: str = "") -> bool:
        """Whether the file has the key that the rule needs below a prefix, or hasn't the other."""
        if self.needs.startswith("!"):
            return prefix + self.needs[1:] not in keys
        return not self.needs or prefix + self.needs in keys

    def key(self, key: str, stages: list[int]) -> str | None:
        """The key as the rule writes it ("" where no network has it); None where it isn't the
        rule's. `stages` are the numbers at which a new stage begins, for {s:n} and {j:n}."""
        found = self._match.fullmatch(key)
        if found is None:
            return None
        numbers, words, rest = _values(self.left, found)
        return None if numbers is None else _written(self.right, numbers, words, rest, stages)


def _pattern(text: str) -> str:
    out, end = [], 0
    for part in _PART.finditer(text):
        out.append(re.escape(text[end : part.start()]))
        inner = part.group(1)
        if inner is None:
            out.append("(.*)")
        elif _COUNT.match(inner):
            out.append(r"(\d+)")
        else:
            out.append("(" + "|".join(map(re.escape, inner.split("|"))) + ")")
        end = part.end()
    return "".join(out) + re.escape(text[end:])


def _values(
    text: str, found: re.Match[str]
) -> tuple[dict[str, int] | None, list[tuple[int, str]], list[str]]:
    """The numbers by name (None where two of one name differ, or none gives the number), the
    words, and what the stars stand for."""
    numbers: dict[str, int] = {}
    words: list[tuple[int, str]] = []
    rest: list[str] = []
    for place, part in enumerate(_PART.finditer(text), 1):
        inner, given = part.group(1), found.group(place)
        count = None if inner is None else _COUNT.match(inner)
        if inner is None:
            rest.append(given)
        elif count:
            factor, name, add = int(count[1] or 1), count[2], int(count[3] or 0)
            value, left = divmod(number_in_key(given) - add, factor)
            if left or value < 0 or numbers.setdefault(name, value) != value:
                return None, [], []
        else:
            words.append((inner.split("|").index(given), given))
    return numbers, words, rest


def _written(
    text: str,
    numbers: dict[str, int],
    words: list[tuple[int, str]],
    rest: list[str],
    stages: list[int],
) -> str:
    chosen, stars = iter(words), iter(rest)

    def put(part: re.Match[str]) -> str:
        inner = part.group(1)
        if inner is None:
            return next(stars)
        if inner[1:2] == ":":
            number = numbers[inner[2:]]
            stage = max(n for n, start in enumerate(stages) if start <= number)
            return str(stage if inner[0] == "s" else number - stages[stage])
        count = _COUNT.match(inner)
        if count:
            return str(int(count[1] or 1) * numbers[count[2]] + int(count[3] or 0))
        place, word = next(chosen)
        return inner.split("|")[place] if "|" in inner else word

    return _PART.sub(put, text)


def applied(rules: Iterable[Rule], made: list[Made], stages: list[int]) -> list[Made]:
    """All tensors after all rules."""
    groups: list[list[Rule]] = []
    for rule in rules:
        if groups and groups[-1][0].left == rule.left:
            groups[-1].append(rule)
        else:
            groups.append([rule])
    for group in groups:
        after: list[Made] = []
        for one in made:
            if group[0].key(one.key, stages) is None:
                after.append(one)
                continue
            new = [(one.copy(rule.key(one.key, stages) or ""), rule.op) for rule in group]
            if all(_formed(other, op) for other, op in new):
                after += [other for other, _ in new if other.key]
            else:
                after.append(one)
        made = after
    return made


def _formed(made: Made, op: str) -> bool:
    """Whether the tensor can be what the op makes of it; it is, then."""
    how, _, shapes = op.rpartition(" : ")
    if " = " not in shapes:
        how, shapes = shapes, ""
    words = how.split()
    spec: TensorSpec | None = made.spec
    if words and words[0] == "piece":
        made.piece = int(words[1]), int(words[3])
    elif words and words[0] == "rows":
        first, _, last = words[1].partition("..")
        spec = rows_of_tensor(made.spec, int(first), int(last), int(words[3]))
    elif words:
        made.recipe, made.others = words[0], tuple(words[1:])
    if shapes:
        spec = reshaped_tensor(made.spec, *shapes.split(" = "))
    made.spec = spec or made.spec
    return spec is not None


def default_strides(spec: TensorSpec) -> Shape:
    """Elements from one to the next along each dimension."""
    if spec.stride is not None:
        return spec.stride
    return tuple(prod(spec.shape[axis + 1 :]) for axis in range(len(spec.shape)))


def rows_of_tensor(spec: TensorSpec, first: int, last: int, of: int) -> TensorSpec | None:
    """Rows `first` to `last` of `of` equal parts; None where there are no such."""
    if not spec.shape or spec.shape[0] % of or spec.pieces:
        return None
    part = spec.shape[0] // of
    step = default_strides(spec)
    shape = ((last - first) * part, *spec.shape[1:])
    return replace(spec, shape=shape, offset=spec.offset + first * part * step[0], stride=step)


def reshaped_tensor(spec: TensorSpec, before: str, after: str) -> TensorSpec | None:
    """The tensor with its sizes named by `before`, as `after` has them; None where the shape is
    another. `(c 7 7)` is a size that is a product, `2+n` a size less its first two."""
    words = re.findall(r"\([^)]*\)|\S+", before)
    if len(words) != len(spec.shape) or spec.pieces:
        return None
    named: dict[str, tuple[int, int]] = {}  # name -> size, step
    factors: list[tuple[int, int]] = []  # the numbers of products
    offset = spec.offset
    for word, size, step in zip(words, spec.shape, default_strides(spec), strict=True):
        gone, _, word = word.rpartition("+")
        size -= int(gone or 0)
        offset += int(gone or 0) * step
        inner = word.strip("()").split()
        known = prod(int(part) for part in inner if part.isdigit())
        if size < 1 or size % known or (size != known and inner[0].isdigit()):
            return None
        for part in reversed(inner):
            count = int(part) if part.isdigit() else size // known
            if not part.isdigit():
                named[part] = count, step
            elif len(inner) > 1:
                factors.append((count, step))
            step *= count
    shape: list[tuple[int, int]] = []
    for part in after.split():
        if not part.isdigit():
            shape.append(named[part])
        else:
            number = int(part)
            shape.append((1, 1) if number == 1 else factors[-1])
            factors = factors[:-1] if number != 1 else factors
    sizes, steps = zip(*shape, strict=True)
    return replace(spec, shape=sizes, stride=steps, offset=offset)
