"""The state dict that is written: the module's values under canonical keys, and their check."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from archfind import formats
from archfind.errors import ExportError
from archfind.escape import escape
from archfind.types import Built
from archfind.values.reader import TensorReader

Group = tuple[str, ...]  # keys of one tensor


def module_tensors(built: Built) -> tuple[OrderedDict[str, Tensor], list[Group]]:
    """The module's tensors in its own order, contiguous, and which keys are tied; ties are kept.

    A tensor has the dtype that it had in the file where that loses nothing: the module is float32,
    and a half checkpoint must not double in size for having been named. A weight that the file
    stores in parts (weight_norm) was computed, doesn't fit into a half, and stays float32.
    """
    index = built.guess.canonical.index
    made: dict[tuple[object, ...], Tensor] = {}
    keys: dict[int, list[str]] = {}
    state: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in built.module.state_dict().items():
        if not isinstance(value, Tensor):  # quantised modules keep packed objects there
            kind = type(value).__name__
            raise ExportError(f"its state dict holds a {kind} at {escape(key)}, not a tensor")
        spec = index.get(key)
        dtype = _narrowed(value, spec.dtype if spec else "")
        place = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, dtype)
        if not value.numel() or place not in made:
            made[place] = value.to(dtype).contiguous()
        state[key] = made[place]
        keys.setdefault(id(made[place]), []).append(key)
    return state, [tuple(names) for names in keys.values() if len(names) > 1]


def _narrowed(value: Tensor, name: str) -> torch.dtype:
    """The file's dtype where it is a narrower float that holds every value, else the tensor's."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        return value.dtype
    if not value.is_floating_point() or dtype.itemsize >= value.dtype.itemsize:
        return value.dtype
    return dtype if equal_tensors(value.to(dtype).to(value.dtype), value) else value.dtype


def equal_tensors(one: Tensor, other: Tensor) -> bool:
    """Equal shapes and values; NaN equals NaN, and -0.0 is not 0.0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    agree = (one == other) & (one.signbit() == other.signbit())
    return bool((agree | (one.isnan() & other.isnan())).all())


def check_copy(path: Path, built: Built) -> None:
    """Read `path` back as anyone's checkpoint and compare it with the module, bit for bit."""
    read = formats.open(path)
    expected: Mapping[str, Tensor] = built.module.state_dict()
    # a pickle's keys are JSON Pointers, which spell / and ~ otherwise; safetensors' are bare
    places = {key: key if key in read.index else _pointer(key) for key in expected}
    odd = sorted(set(places.values()) ^ set(read.index))
    if odd:
        raise ExportError(f"read back, the file and the module disagree about {escape(odd[0])}")
    reader = TensorReader()
    for key, value in expected.items():
        if not equal_tensors(reader.read(read.index[places[key]]).to(value.dtype), value):
            raise ExportError(f"read back, {escape(key)} differs from the module's")


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def tied_note(groups: list[Group]) -> dict[str, str]:
    """A word about tied tensors, for `Exported.notes`."""
    if not groups:
        return {}
    first = escape(" = ".join(groups[0]), 120)
    return {"tied": first if len(groups) == 1 else f"{first}, and {len(groups) - 1} more"}
