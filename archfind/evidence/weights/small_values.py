"""Values of small tensors without numpy, which takes longer to import than they take to read: on
the cold path of `archfind guess`."""

from __future__ import annotations

from array import array
from struct import error as StructError
from struct import unpack

from archfind.errors import CheckpointError
from archfind.formats.source import opened_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.types import TensorSpec

_WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
_LOOK = 256  # bytes
_LARGEST = 1 << 22  # bytes of a tensor


def read_flat(spec: TensorSpec) -> Sequence[float] | None:
    """The tensor's numbers as they lie in the file, `spec.stride` apart from each other; None where
    they don't stand in a file as they are."""
    width = _WIDTHS.get(spec.dtype)
    storage = spec.storage
    if width is None or storage.start < 0 or storage.data is not None:
        return None
    if spec.pieces or spec.applied or spec.quantiser or not spec.shape or 0 in spec.shape:
        return None
    pairs = zip(spec.shape, strides_of_spec(spec), strict=True)
    length = width * (1 + sum((size - 1) * stride for size, stride in pairs))
    start = spec.offset * width
    if (
        min(strides_of_spec(spec)) < 1
        or not 0 <= start <= storage.nbytes - length
        or length > _LARGEST
    ):
        return None
    try:
        with opened_file(storage.file) as source:
            source.seek(storage.start + start)
            data = source.read(length)
        return _numbers(data, spec.dtype)
    except (CheckpointError, OSError, StructError):  # gone, or cut, since it was opened
        return None


def is_blank(spec: TensorSpec) -> bool:
    """Whether a tensor begins with zeros, as one that was never written, or can't be read."""
    if spec.dtype not in _WIDTHS or spec.storage.start < 0 or spec.pieces:
        return True
    try:
        with opened_file(spec.storage.file) as source:
            source.seek(spec.storage.start + spec.offset * _WIDTHS[spec.dtype])
            return not any(source.read(_LOOK))
    except (CheckpointError, OSError):
        return True


def _numbers(data: bytes, dtype: str) -> Sequence[float]:
    """Little-endian floats, as every writer of tensors has them."""
    if dtype == "float16":
        return unpack(f"<{len(data) // 2}e", data)
    if dtype == "bfloat16":  # the upper half of a float32
        pairs = (data[at : at + 2] for at in range(0, len(data), 2))
        data = b"\0\0" + b"\0\0".join(pairs)
        return unpack(f"<{len(data) // 4}f", data)
    if dtype == "float64":
        return unpack(f"<{len(data) // 8}d", data)
    numbers = array("f")
    numbers.frombytes(data[: len(data) // 4 * 4])
    if memoryview(b"\1\0").cast("H")[0] != 1:
        numbers.byteswap()
    return numbers


def strides_of_spec(spec: TensorSpec) -> tuple[int, ...]:
    """How many numbers lie between neighbours along each dimension."""
    if spec.stride is not None:
        return spec.stride
    steps: list[int] = []
    step = 1
    for size in reversed(spec.shape):
        steps.append(step)
        step *= size
    return tuple(reversed(steps))
