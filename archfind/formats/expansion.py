"""How much may come out of a file: at most so many times its own bytes, and some.

A tensor of stride 0 says in a few bytes that it has a trillion numbers, a deflated one inflates a
thousandfold, and an ONNX graph makes tensors out of a shape. Honest files come to about 16 times
their bytes at most, where two-bit weights become float32.
"""

from __future__ import annotations

import os

from archfind.dtypes import ITEMSIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.types import TensorSpec

TIMES = 32  # of the files' bytes
FLOOR = 64 << 20  # bytes that are always allowed
_WIDTH = 4  # bytes of a number in a module, whose floats are float32


def limit(files: Iterable[str]) -> int:
    """The bytes that may be written or held in memory for these files."""
    return TIMES * _bytes(files) + FLOOR


def excess(nbytes: int, files: Iterable[str]) -> str:
    """Why `nbytes` are too many for these files, in words; "" where they aren't."""
    files = tuple(files)
    if nbytes <= limit(files):
        return ""
    return (
        f"its tensors would take {_shown(nbytes)}, the file has {_shown(_bytes(files))}: more than "
        f"{TIMES} times as much is only written or loaded with --allow-expansion "
        "(allow_expansion=True)"
    )


def in_memory(index: Mapping[str, TensorSpec]) -> int:
    """The bytes that a module of these tensors takes, before anything is computed from them."""
    return sum(
        _count(spec.shape) * max(_WIDTH, ITEMSIZE.get(spec.dtype, 1)) for spec in index.values()
    )


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _bytes(files: Iterable[str]) -> int:
    return sum(os.path.getsize(one) for one in {*files} if os.path.exists(one))


def _shown(nbytes: int) -> str:
    if nbytes >= 10**21:
        return "over 10**21 bytes"
    units = (("PB", 10**15), ("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
    unit, scale = next((one for one in units if nbytes >= one[1]), ("bytes", 1))
    return f"{nbytes / scale:,.1f} {unit}" if scale > 1 else f"{nbytes} bytes"
