"""A large network without most of what repeats: of a layer's 256 experts, the first and the last
say what the others would, and so do the first and last of 80 layers that are all alike. On the cold
path of `archfind guess`."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]

_WITHIN = re.compile(r"(\D*\d+\..*?\.)(\d+)\.")  # what repeats within one of a row
_ROW = re.compile(r"((?:[^.]*\.)*?)(\d+)\.")  # a row, and a number in it
_ENDS = 3  # of such a row that are kept at either end
_LONG = 9  # items that a row of items alike has at least


class Rows:
    """Rows of which only the ends are kept: those named by what stands before their numbers
    ("model.layers."), and with `within` all that repeats within an item of another."""

    __slots__ = ("alike", "within")

    def __init__(self, alike: Collection[str], within: bool) -> None:
        self.alike = alike
        self.within = within

    def is_thin(self, head: str) -> bool:
        """Whether the row behind `head` is one of them."""
        if head in self.alike:
            return True
        found = _WITHIN.match(f"{head}0.") if self.within else None
        return found is not None and found.end(1) == len(head)

    def ends(self, head: str, count: int) -> Sequence[int]:
        """Those that are kept of the `count` numbers that follow `head`."""
        if count > 2 * _ENDS and self.is_thin(head):
            return (*range(_ENDS), *range(count - _ENDS, count))
        return range(count)


class Thinned:
    """All of a file's tensors, for an index that lacks those amid some of its rows."""

    __slots__ = ("index", "rows")

    def __init__(self, index: Index, rows: Rows) -> None:
        self.index = index
        self.rows = rows


def thinned(index: Index, within: bool) -> tuple[Index, Rows]:
    """The tensors of a file without those amid rows that can do without, and these rows: long ones
    whose items, but for a few at either end, have the same tensors, and with `within` what repeats
    within an item."""
    places: dict[str, dict[int, list[str]]] = {}
    for key in index:
        found = _ROW.match(key)
        if found is not None and len(found[2]) < _LONG:
            places.setdefault(found[1], {}).setdefault(int(found[2]), []).append(key)
    rows = Rows({head for head, row in places.items() if _is_alike(index, head, row)}, within)
    amid: set[str] = set()
    for head in rows.alike:
        for number in range(_ENDS, len(places[head]) - _ENDS):
            amid.update(places[head][number])
    left = {key: spec for key, spec in index.items() if key not in amid} if amid else index
    return (_without_items(left) if within else left), rows


def _is_alike(index: Index, head: str, row: dict[int, list[str]]) -> bool:
    """Whether a row of keys by number is long, and all but the ends of it the same."""
    if len(row) < _LONG or max(row) != len(row) - 1:
        return False
    first: dict[str, tuple[object, ...]] = {}
    for number in range(_ENDS, len(row) - _ENDS):
        at = len(head) + len(str(number))
        keys = row[number]
        if first and len(keys) != len(first):
            return False
        for key in keys:
            spec = index[key]
            told = spec.shape, spec.dtype
            if number == _ENDS:
                first[key[at:]] = told
            elif first.get(key[at:]) != told:
                return False
    return True


def _without_items(index: Index) -> Index:
    """Tensors without those amid what repeats within an item of a row."""
    last: dict[str, int] = {}
    places: dict[str, tuple[str, int]] = {}
    for key in index:
        found = _WITHIN.match(key)
        if found is not None:
            head, number = places[key] = found[1], int(found[2])
            last[head] = max(last.get(head, 0), number)
    return {
        key: spec
        for key, spec in index.items()
        if key not in places or not _ENDS <= places[key][1] <= last[places[key][0]] - _ENDS
    }
