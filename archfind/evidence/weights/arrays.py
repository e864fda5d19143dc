"""Tensors of a checkpoint as numpy arrays, for those whose bytes stand in a file as they are."""

from __future__ import annotations

import math

import numpy as np

from archfind.errors import CheckpointError
from archfind.evidence.weights.small_values import strides_of_spec
from archfind.formats.source import opened_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.types import TensorSpec

    Array = np.ndarray[Any, np.dtype[np.float32]]

_FLOATS = {"float32": np.float32, "float16": np.float16, "float64": np.float64}


def is_readable(spec: TensorSpec) -> bool:
    """Whether the tensor's values are floats that stand in a file as they are."""
    return (
        (spec.dtype in _FLOATS or spec.dtype == "bfloat16")
        and spec.storage.start >= 0
        and spec.storage.data is None
        and not (spec.pieces or spec.applied or spec.quantiser)
        and all(spec.stride or (1,))
        and 0 not in spec.shape
    )


def read(spec: TensorSpec) -> Array | None:
    """The values of a tensor in its shape, as float32; None where they can't be read so, or where
    any of them isn't finite."""
    if not is_readable(spec):
        return None
    stored = np.dtype(_FLOATS.get(spec.dtype, np.uint16))
    steps = strides_of_spec(spec)
    pairs = zip(spec.shape, steps, strict=True)
    reach = 1 + sum((size - 1) * stride for size, stride in pairs)
    start, length = spec.offset * stored.itemsize, reach * stored.itemsize
    is_within = min(steps, default=1) > 0 and 0 <= start <= spec.storage.nbytes - length
    if not is_within or math.prod(spec.shape) > reach:
        return None
    try:
        with opened_file(spec.storage.file) as source:
            source.seek(spec.storage.start + start)
            data = source.read(length)
    except (CheckpointError, OSError):  # gone since it was opened
        return None
    if len(data) != length:
        return None
    numbers = np.frombuffer(data, stored)
    if spec.dtype == "bfloat16":  # the upper half of a float32
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    apart = [step * numbers.itemsize for step in steps]
    values = np.lib.stride_tricks.as_strided(numbers, spec.shape, apart).astype(np.float32)
    return values if bool(np.isfinite(values).all()) else None
