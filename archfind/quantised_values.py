"""The weights that packed parts stand for, by the layouts that their libraries document."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from archfind.errors import BuildError

# AWQ (Lin et al. 2023, arXiv:2306.00978) packs eight columns to a word in this order.
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)


def dequantised(scheme: str, parts: list[Tensor], shape: Sequence[int]) -> Tensor:
    """A float32 weight of `shape` from its parts, in the order of quantised.py."""
    name, _, bits = scheme.partition("-")
    if name == "gptq":
        return _gptq(parts, int(bits))
    if name == "awq":
        return _awq(parts)
    if scheme == "bitsandbytes-int8":
        weight, absmax = parts
        return weight.float() * absmax.float().reshape(-1, 1) / 127
    if name == "bitsandbytes":
        return _four_bits(parts, shape)
    if scheme == "fp8-scaled":
        return _scaled(*parts)
    raise BuildError(f"no recipe {scheme!r} to dequantise weights")


def _unpacked(words: Tensor, bits: int, axis: int) -> Tensor:
    """Whole numbers of `bits` bits from 32-bit words, the lowest first, along an axis."""
    shifts = torch.arange(0, 32, bits)
    values = words.to(torch.int64).unsqueeze(axis + 1) >> _along(shifts, words.dim() + 1, axis + 1)
    return (values & (2**bits - 1)).flatten(axis, axis + 1)


def _along(values: Tensor, rank: int, axis: int) -> Tensor:
    return values.reshape([-1 if n == axis else 1 for n in range(rank)])


def _gptq(parts: list[Tensor], bits: int) -> Tensor:
    """(q - (zero + 1)) * scale, Frantar et al. 2022 (arXiv:2210.17323), in AutoGPTQ's first format,
    which keeps zeros less one."""
    packed, zeros, scales, order = parts
    groups = order.long()
    zero = (_unpacked(zeros, bits, 1)[:, : scales.shape[1]] + 1) & (2**bits - 1)
    value = _unpacked(packed, bits, 0) - zero[groups]
    return (value * scales.float()[groups]).T.contiguous()


def _awq(parts: list[Tensor]) -> Tensor:
    packed, zeros, scales = parts
    order = torch.tensor(_AWQ_ORDER)

    def columns(words: Tensor) -> Tensor:
        every = _unpacked(words, 4, 1).reshape(len(words), -1, 8)
        return every[:, :, order].flatten(1)

    value, zero = columns(packed), columns(zeros)
    group = value.shape[0] // scales.shape[0]
    spread = (t.repeat_interleave(group, 0) for t in (zero, scales.float()))
    low, scale = spread
    return ((value - low) * scale).T.contiguous()


def _four_bits(parts: list[Tensor], shape: Sequence[int]) -> Tensor:
    """Codes of 16 values, the high half of each byte first, times the largest of their block
    (Dettmers et al. 2023, arXiv:2305.14314); those are themselves quantised where `nested` parts
    are there."""
    packed, absmax, codes, note, *nested = parts
    state = json.loads(bytes(note.tolist()))
    block = int(state["blocksize"])
    if nested:
        scale, values = nested
        inner = int(state["nested_blocksize"])
        steps = values.float()[absmax.long()]
        absmax = steps * scale.float().repeat_interleave(inner)[: len(steps)]
        absmax = absmax + float(state["nested_offset"])
    flat = packed.flatten()
    halves = torch.stack([flat >> 4, flat & 15], 1).flatten().long()
    count = 1
    for size in shape:
        count *= size
    value = codes.float()[halves[:count]]
    return (value * absmax.float().repeat_interleave(block)[:count]).reshape(list(shape))


def _scaled(weight: Tensor, scale: Tensor) -> Tensor:
    """One scale for all, for a row, or for a block of a matrix."""
    value, scale = weight.float(), scale.float()
    if scale.numel() == 1:
        return value * scale.reshape(())
    if scale.dim() == 1:
        scale = scale.reshape(-1, *[1] * (value.dim() - 1))
    for axis, (size, count) in enumerate(zip(value.shape, scale.shape, strict=True)):
        if count not in (1, size):
            scale = scale.repeat_interleave(-(-size // count), axis).narrow(axis, 0, size)
    return value * scale
