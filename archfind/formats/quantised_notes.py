"""torch's quantised tensors in a container that has none: their integers under their own key, what
those mean in a note beside the tensors.

    archfind.quantisation {"fc.weight": {"dtype": "qint8", "scale": 0.02, "zero_point": 3},
                           "conv.weight": {"dtype": "qint8", "axis": 0}}

With an axis, the tensors `conv.weight.scales` and `conv.weight.zero_points` have a number for each
place along it. On the cold path of `archfind guess` only for files that have the note.
"""

from __future__ import annotations

from archfind.formats.side_files import claimed_number, claimed_whole_number, object_in
from archfind.frozen import replace
from archfind.types import Quantiser, TensorSpec

NOTE = "archfind.quantisation"
INTEGERS = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
_ZERO = 1 << 31

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Index = Mapping[str, TensorSpec]


def scales_of(key: str) -> tuple[str, str]:
    """The keys of a tensor's scales and zero points."""
    return f"{key}.scales", f"{key}.zero_points"


def with_meaning(index: Index, note: str) -> dict[str, TensorSpec]:
    """The tensors with those that the note tells as torch's quantised ones; what doesn't fit its
    tensor is left as the integers that are there."""
    found = dict(index)
    for key, said in object_in(note).items():
        spec = index.get(key)
        dtype = said.get("dtype") if type(said) is dict else None
        if spec is None or type(dtype) is not str or INTEGERS.get(dtype) != spec.dtype:
            continue
        assert type(said) is dict
        axis = claimed_whole_number(said.get("axis"))
        if axis is not None:
            scales, zeros = (index.get(name) for name in scales_of(key))
            along = spec.shape[axis : axis + 1]
            if scales is None or zeros is None or not scales.shape == zeros.shape == along:
                continue
            means = Quantiser(scales, zeros, axis)
            for name in scales_of(key):
                found.pop(name, None)
        else:
            scale = claimed_number(said.get("scale"))
            zero = claimed_whole_number(said.get("zero_point"), -_ZERO, _ZERO)
            if scale is None or zero is None:
                continue
            means = Quantiser(scale, zero)
        found[key] = replace(spec, dtype=dtype, quantiser=means)
    return found


def as_stored(index: Index) -> dict[str, TensorSpec]:
    """The tensors as such a container holds them: integers, scales and zero points apart."""
    found: dict[str, TensorSpec] = {}
    for key, spec in index.items():
        means = spec.quantiser
        if means is None or spec.dtype not in INTEGERS:
            found[key] = spec
            continue
        found[key] = replace(spec, dtype=INTEGERS[spec.dtype], quantiser=None)
        for name, held in zip(scales_of(key), (means.scale, means.zero_point), strict=True):
            if isinstance(held, TensorSpec):
                found[name] = held
    return found


def meanings(index: Index) -> dict[str, dict[str, object]]:
    """What the note says of these tensors."""
    found: dict[str, dict[str, object]] = {}
    for key, spec in index.items():
        means = spec.quantiser
        if means is None or spec.dtype not in INTEGERS:
            continue
        if isinstance(means.scale, TensorSpec):
            found[key] = {"dtype": spec.dtype, "axis": means.axis}
        else:
            numbers = {"scale": means.scale, "zero_point": means.zero_point}
            found[key] = {"dtype": spec.dtype, **numbers}
    return found
