"""A large network without most of what repeats within its layers: of a layer's 256 experts, the
first and the last say what the others would. On the cold path of `archfind guess`."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.types import TensorSpec

_WITHIN = re.compile(r"(\D*\d+\..*?\.)(\d+)\.")  # what repeats within one of a row
_ENDS = 3  # of such a row that are kept at either end


def thinned(index: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """The tensors of a file without those amid such rows."""
    last: dict[str, int] = {}
    places: dict[str, tuple[str, int]] = {}
    for key in index:
        found = _WITHIN.match(key)
        if found is not None:
            head, number = found[1], int(found[2])
            places[key] = head, number
            if number > last.get(head, -1):
                last[head] = number
    kept: dict[str, TensorSpec] = {}
    for key, spec in index.items():
        if key in places:
            head, number = places[key]
            if _ENDS <= number <= last[head] - _ENDS:
                continue
        kept[key] = spec
    return kept


def ends(head: str, count: int) -> Iterable[int]:
    """Those that are kept of the `count` numbers that follow `head` ("layers.0.experts.")."""
    if count > 2 * _ENDS:
        found = _WITHIN.match(f"{head}0.")
        if found is not None and found.end(1) == len(head):
            return (*range(_ENDS), *range(count - _ENDS, count))
    return range(count)
