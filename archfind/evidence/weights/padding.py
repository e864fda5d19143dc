"""How a network pads the image before its strided depthwise convolutions, by where the weights of
their kernels lie: on the cold path of `archfind guess`.

A kernel that takes every other pixel meets the image at other places with PyTorch's padding, which
is the same on both sides, than with TensorFlow's "SAME", which adds the odd pixel behind. Training
moves the kernel's weights to where the image is: down and to the right with the former, up and to
the left with the latter. Kernels without a stride stay in the middle.
"""

from __future__ import annotations

from math import isfinite, sqrt

from archfind.evidence.weights.small_values import read_flat, strides_of_spec
from archfind.types import Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from archfind.types import TensorSpec

SYMMETRIC, SAME = "symmetric", "same"  # PyTorch's padding, and TensorFlow's
MARGIN = 8.0  # standard errors by which a layer's kernels lie off the middle, both ways
_SHIFT = 0.08  # pixels
_LAYERS = 2
_CHANNELS = 128  # of a layer
_PART = 4  # of so many of those channels one is looked at first
_FEWEST = 16


def padding(index: Mapping[str, TensorSpec]) -> Verdict | None:
    """Which padding the network was trained with; None where fewer than two layers say so clearly,
    or layers say both."""
    shifts: dict[str, float] = {}
    for key, spec in index.items():
        shape = spec.shape
        if len(shape) == 4 and shape[1] == 1 and shape[2] == shape[3] in (3, 5, 7, 9):
            shift = off_centre(spec) if shape[0] >= _FEWEST else 0.0
            if shift:
                shifts[key] = shift
    if len(shifts) < _LAYERS or len({shift > 0 for shift in shifts.values()}) > 1:
        return None
    value = SYMMETRIC if min(shifts.values()) > 0 else SAME
    margin = min(abs(shift) for shift in shifts.values())
    place = ", ".join(sorted(shifts)[:2])
    return Verdict("centres of strided depthwise kernels", place, value, margin, MARGIN)


def off_centre(spec: TensorSpec) -> float:
    """By how many standard errors the kernels of a layer of shape (channels, 1, side, side) lie off
    the middle: the smaller of both ways, positive for down and to the right; 0.0 where that isn't
    clear."""
    numbers = read_flat(spec)
    if numbers is None:
        return 0.0
    step = -(-spec.shape[0] // _CHANNELS)
    some = list(_centres(spec, numbers, range(0, spec.shape[0], step * _PART)))
    ways = list(zip(*some, strict=True)) or [(0.0,)]
    if any(abs(sum(way)) < _SHIFT / 2 * len(way) for way in ways):
        return 0.0  # most layers have no stride: a part of the channels says so
    centres = list(_centres(spec, numbers, range(0, spec.shape[0], step)))
    said = [_mean(way) for way in zip(*centres, strict=True)] if len(centres) >= _FEWEST else []
    clear = [
        mean / error for mean, error in said if abs(mean) >= _SHIFT and abs(mean) >= MARGIN * error
    ]
    if len(clear) < 2 or (clear[0] > 0) != (clear[1] > 0):
        return 0.0
    return min(clear, key=abs)


def _centres(
    spec: TensorSpec, numbers: Sequence[float], channels: range
) -> Iterator[tuple[float, float]]:
    """The centre of mass of each channel's squared weights, in pixels from the middle."""
    side = spec.shape[2]
    over, _, down, along = strides_of_spec(spec)
    middle = (side - 1) / 2
    for channel in channels:
        mass = vertical = horizontal = 0.0
        for y in range(side):
            row = channel * over + y * down
            for x in range(side):
                weight = numbers[row + x * along]
                weight *= weight
                mass += weight
                vertical += weight * (y - middle)
                horizontal += weight * (x - middle)
        if mass > 0 and isfinite(mass):
            yield vertical / mass, horizontal / mass


def _mean(values: tuple[float, ...]) -> tuple[float, float]:
    """The mean and its standard error, which is never less than what rounding leaves."""
    count = len(values)
    mean = sum(values) / count
    spread = sum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, max(sqrt(spread / count), 1e-3)
