"""How many numbers a tensor has, by a shape that a file claims."""

from __future__ import annotations

from archfind.formats import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def numel(shape: Iterable[int]) -> int:
    """The product of the sizes; none where no file could hold so many, as then the shape is wrong:
    64 sizes of a few hundred digits each make a number that Python doesn't even print."""
    count = 1
    for size in shape:
        count *= size
        if not 0 <= count < limits.DIMENSION:
            return 0
    return count
