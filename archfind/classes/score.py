"""A family's leaves with their values, and how much of a file their network is. On the cold path of
`archfind guess`."""

from __future__ import annotations

from archfind.classes.equations import ERRORS
from archfind.classes.expansion import Expansion
from archfind.classes.notation import numbered_template
from archfind.state_dicts.canonical import is_derived, is_table, kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from archfind.classes.expansion import Shape, Tensor
    from archfind.classes.notation import Family
    from archfind.classes.thinned import Rows, Thinned
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]
    Values = dict[str, Any]


_MANY_TIMES = 5
_MORE = 100
_LONGEST = 1 << 12  # items that a list is given
_PLACES = 200  # of repeats, for each tensor: rows of lines for one number each visit most in vain


class Solution:
    """Leaves with their values; `solved` are those that shapes gave, the rest are the preset's.
    `expected` is what the program then gives, key -> shape and dtype; `rows` has the same line by
    line, and is empty where the program gave too much, or can't be expanded. `fitting` are the
    presets that give the file with ordinary arguments moved alone, each with its leaves then;
    `instead` are numbers that may have been moved in their place."""

    __slots__ = (
        "expected",
        "fitting",
        "instead",
        "least",
        "preset",
        "rows",
        "score",
        "solved",
        "values",
    )

    def __init__(self, values: Values, solved: set[str], preset: str) -> None:
        self.values = values
        self.solved = solved
        self.preset = preset
        self.fitting: dict[str, Values] = {}
        self.instead: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {}
        self.expected: dict[str, tuple[Shape, str]] = {}
        self.rows: list[list[Tensor]] = []
        self.score = 0.0
        self.least = 0  # tensors of the file that a network must explain: all but tables


def score(
    index: Index,
    family: Family,
    solution: Solution,
    whole: Thinned | None = None,
    beside: Solution | None = None,
) -> None:
    """Expand the solution's values, and set the share of tensors, on both sides, that fit. A
    network with many times the file's tensors isn't expanded to its end. Where `index` is a file's
    without most of what repeats, `whole` is all of it, and the expansion as thin. `beside`
    is another solution of the family, scored for the same file: only lines that read what the two
    have otherwise are expanded."""
    lengthen(family, solution.values)
    every, thin = (index, None) if whole is None else (whole.index, whole.rows)
    most = _MANY_TIMES * len(every) + _MORE
    rival = Rival(every, beside) if beside is not None and beside.rows else None
    solution.rows = _rows(family, solution.values, thin, most, rival)
    if not solution.rows:
        solution.expected, solution.score = {}, 0.0
        return
    solution.expected = found = {
        key: (shape, dtype) for row in solution.rows for key, shape, dtype in row
    }
    fits = union = 0
    for key, (shape, dtype) in found.items():
        spec = every.get(key)
        if spec is None:
            union += not is_derived(key, dtype)
        else:
            union += 1
            fits += spec.shape == shape and is_kind(spec, dtype)
    for key, spec in index.items():
        if key not in found:
            # A mask that the family makes of other values isn't explained by making none.
            union += not is_table(key, kind(spec)) or (
                kind(spec) == "float" and numbered_template(key) in family.masks
            )
    solution.score = fits / max(union, 1)
    solution.least = sum(not is_table(key, kind(spec)) for key, spec in every.items())


class Rival:
    """A solution that another has to better on the same file, counted line by line as that one is
    expanded: once too many of its tensors are wrong, the rest can't make up for them."""

    __slots__ = ("_absent", "_every", "_least", "_wrong", "rows", "score", "values")

    def __init__(self, every: Index, solution: Solution) -> None:
        self._every = every
        self._least = solution.least
        self.rows, self.values, self.score = solution.rows, solution.values, solution.score
        self._wrong = self._absent = 0

    def is_out_of_reach(self, row: list[Tensor]) -> bool:
        """Whether less of the file than the rival has can fit, now that a line has given this."""
        for key, shape, dtype in row:
            spec = self._every.get(key)
            if spec is None:
                self._absent += not is_derived(key, dtype)
            elif spec.shape != shape or not is_kind(spec, dtype):
                self._wrong += 1
        fits = len(self._every) - self._wrong
        return fits <= self.score * (max(self._least, fits) + self._absent)


def _rows(
    family: Family, values: Values, thin: Rows | None, most: int, rival: Rival | None
) -> list[list[Tensor]]:
    """The tensors of each line; none at all where they are more than `most`, or can't better the
    rival's."""
    lines = family.program.lines
    expansion = Expansion(values, _PLACES * most, thin)
    rows: list[list[Tensor]]
    if rival is not None:
        rows = [*rival.rows]
        changed = sorted(family.program.readers(differing(values, rival.values)))
    else:
        rows, changed = [[] for _ in lines], range(len(lines))
    total = sum(map(len, rows))
    try:
        for number in changed:
            total -= len(rows[number])
            rows[number] = row = []
            for tensor in expansion.tensors(lines[number]):
                row.append(tensor)
                if total + len(row) > most:
                    return []
            total += len(row)
            if rival is not None and rival.is_out_of_reach(row):
                return []
    except ERRORS:
        return []
    return rows


_ABSENT = object()


def differing(values: Values, others: Values) -> set[str]:
    """The leaves that two sets of values have otherwise."""
    found = {p for p, value in values.items() if not _is_same(value, others.get(p, _ABSENT))}
    return found.union(others.keys() - values.keys())


def _is_same(value: object, other: object) -> bool:
    return value is other or (type(value) is type(other) and value == other)


def moves_tensors(family: Family, solution: Solution, path: str, value: object) -> bool:
    """Whether another value of a leaf gives other tensors than a solution's."""
    if path.endswith(".#"):
        return True  # lists that go with it get its length, too
    if not solution.rows:
        return False
    return keeps_tensors(family, solution, {**solution.values, path: value}, (path,)) is False


def keeps_tensors(
    family: Family, solution: Solution, values: Values, moved: Iterable[str]
) -> bool | None:
    """Whether values that differ from a solution's in the leaves that are `moved` give the same
    tensors; None where the program can't be expanded with them."""
    program = family.program
    expansion = Expansion(values, _PLACES * (_MANY_TIMES * len(solution.expected) + _MORE))
    try:
        for number in program.readers(moved):
            row = iter(solution.rows[number])
            for tensor in expansion.tensors(program.lines[number]):
                if next(row, None) != tensor:
                    return False
            if next(row, None) is not None:
                return False
    except ERRORS:
        return None
    return True


def lengthen(family: Family, values: Values) -> None:
    """Give lists that go with another its length; an item that no tensor shows is the one before
    it."""
    for path, counted in family.lists.items():
        length = values.get(f"{counted}.#")
        if type(length) is not int or length == values.get(f"{path}.#"):
            continue
        values[f"{path}.#"] = length
        for number in range(1, min(length, _LONGEST)):
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
