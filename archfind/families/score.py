"""A family's leaves with their values, and how much of a file their network is. On the cold path of
`archfind guess`."""

from __future__ import annotations

from archfind.canonical import is_derived, is_table, kind
from archfind.families.equations import ERRORS
from archfind.families.text import template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.families.program import Shape
    from archfind.families.text import Family
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]
    Values = dict[str, Any]


_MANY_TIMES = 5
_MORE = 100


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


def score(index: Index, family: Family, solution: Solution, whole: Index | None = None) -> None:
    """Expand the solution's values, and set the share of tensors, on both sides, that fit. A
    network with many times the file's tensors isn't expanded to its end. Where `index` is a large
    file's without most of what repeats, `whole` is all of it, and the expansion as thin."""
    lengthen(family, solution.values)
    every = index if whole is None else whole
    most = _MANY_TIMES * len(every) + _MORE
    found: dict[str, tuple[Shape, str]] = {}
    try:
        for key, shape, dtype in family.program.tensors(solution.values, whole is not None):
            found[key] = shape, dtype
            if len(found) > most:
                found = {}
                break
    except ERRORS:
        found = {}
    solution.expected = found
    fits = union = 0
    for key, (shape, dtype) in solution.expected.items():
        spec = every.get(key)
        fits += spec is not None and spec.shape == shape and is_kind(spec, dtype)
        union += spec is not None or not is_derived(key, dtype)
    for key, spec in index.items():
        if key not in solution.expected:
            # A mask that the family makes of other values isn't explained by making none.
            union += not is_table(key, kind(spec)) or (
                kind(spec) == "float" and template(key) in family.masks
            )
    solution.score = fits / max(union, 1)


def lengthen(family: Family, values: Values) -> None:
    """Give lists that go with another its length; an item that no tensor shows is the one before
    it."""
    for path, counted in family.lists.items():
        length = values.get(f"{counted}.#")
        if type(length) is not int or length == values.get(f"{path}.#"):
            continue
        values[f"{path}.#"] = length
        for number in range(1, length):
            values.setdefault(f"{path}.{number}", values.get(f"{path}.{number - 1}"))


def within(values: Values) -> Values:
    """The values without those of items beyond their lists' ends."""
    return {path: value for path, value in values.items() if not _is_beyond(path, values)}


def _is_beyond(path: str, values: Values) -> bool:
    parts = path.split(".")
    for at, part in enumerate(parts):
        length = values.get(f"{'.'.join(parts[:at])}.#") if part.isdigit() else None
        if type(length) is int and int(part) >= length:
            return True
    return False


def is_kind(spec: TensorSpec, dtype: str) -> bool:
    """Whether a tensor has the kind of number that is expected; counters may be of any."""
    return dtype != "float" or kind(spec) == "float"
