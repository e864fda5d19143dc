"""The weights that packed parts stand for, by the layouts that their libraries document."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archfind.errors import BuildError
from archfind.formats.side_files import claimed_number, claimed_whole_number, object_in
from archfind.state_dicts.quantised import NOTE_BYTES

_BLOCK = 1 << 16  # numbers that share a scale: bitsandbytes has up to 4096
# AWQ (Lin et al. 2023, arXiv:2306.00978) packs eight columns to a word in this order.
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)


def dequantised(scheme: str, parts: list[Tensor], shape: Sequence[int]) -> Tensor:
    """A float32 weight of `shape` from its parts, in the order of state_dicts/quantised.py."""
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
    if bits == "scaled":
        return _scaled(*parts)
    if name == "packed":
        return _packed(parts, int(bits), shape)
    if name in ("mxfp4", "nvfp4", "modelopt"):
        value = _four_bit_floats(name, *parts)
        return value.transpose(1, 2).contiguous() if bits == "experts" else value
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
    state = object_in(bytes(note.tolist())) if note.numel() <= NOTE_BYTES else {}
    block = claimed_whole_number(state.get("blocksize"), 1, _BLOCK)
    if block is None:
        raise BuildError("the note on a weight of four bits has no usable blocksize")
    if nested:
        scale, values = nested
        inner = claimed_whole_number(state.get("nested_blocksize"), 1, _BLOCK)
        offset = claimed_number(state.get("nested_offset"))
        if inner is None or offset is None:
            raise BuildError("the note on a weight of four bits has no usable nested blocks")
        steps = values.float()[absmax.long()]
        absmax = steps * scale.float().repeat_interleave(inner)[: len(steps)]
        absmax = absmax + offset
    flat = packed.flatten()
    halves = torch.stack([flat >> 4, flat & 15], 1).flatten().long()
    count = 1
    for size in shape:
        count *= size
    value = codes.float()[halves[:count]]
    return (value * absmax.float().repeat_interleave(block)[:count]).reshape(list(shape))


def _scaled(weight: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """(q - zero point) * scale: one of each for all, for a row, or for a block of a matrix."""
    value = weight.float()
    if zero is not None:
        value = value - _spread(zero.float(), value.shape)
    return value * _spread(_exponents(scale), value.shape)


def _spread(scale: Tensor, shape: Sequence[int]) -> Tensor:
    """A number for each block of an array, as one that goes with the array."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.dim() == 1:
        scale = scale.reshape(-1, *[1] * (len(shape) - 1))
    for axis, (size, count) in enumerate(zip(shape, scale.shape, strict=True)):
        if count not in (1, size):
            scale = scale.repeat_interleave(-(-size // count), axis).narrow(axis, 0, size)
    return scale


def _exponents(scale: Tensor) -> Tensor:
    """Scales of bytes are powers of two, E8M0 (OCP Microscaling Formats 1.0)."""
    if scale.dtype != torch.uint8:
        return scale.float()
    return torch.ldexp(torch.ones(()), scale.int() - 127)


def _packed(parts: list[Tensor], bits: int, shape: Sequence[int]) -> Tensor:
    """compressed-tensors' whole numbers: a row is a run of bits, the lowest first, each number with
    half its range added; zero points are packed along the rows' axis instead. `g_idx` has the group
    of each column."""
    packed, scale, *others = parts
    zero = next((one for one in others if one.dim() > 1), None)
    order = next((one.long() for one in others if one.dim() == 1), None)
    value = _run_of_bits(packed, bits, shape[-1])
    scale = scale.float()
    if zero is not None and zero.dtype == torch.int32:
        zero = _run_of_bits(zero.transpose(-1, -2), bits, shape[-2]).transpose(-1, -2)
    if order is not None:
        scale = scale[..., order]
        zero = zero[..., order] if zero is not None else None
    if zero is not None:
        value = value - _spread(zero.float(), value.shape)
    return value * _spread(scale, value.shape)


def _run_of_bits(words: Tensor, bits: int, count: int) -> Tensor:
    """`count` signed numbers from each row of 32-bit words."""
    single = (words.unsqueeze(-1) >> torch.arange(32)) & 1
    run = single.flatten(-2)[..., : count * bits].unflatten(-1, (count, bits))
    return (run << torch.arange(bits)).sum(-1) - 2 ** (bits - 1)


# E2M1: a sign, two bits of exponent, one of mantissa
_FLOATS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _four_bit_floats(
    name: str, packed: Tensor, scale: Tensor, whole: Tensor | None = None
) -> Tensor:
    """4-bit floats, the low half of each byte first, times the scale of their block; NVFP4 has one
    more for the whole tensor, which compressed-tensors divides by and ModelOpt multiplies with."""
    codes = torch.tensor([*_FLOATS, *(-value for value in _FLOATS)])
    halves = torch.stack([packed & 15, packed >> 4], -1).flatten(-2).long()
    value = codes[halves]
    scale = _exponents(scale)
    if whole is not None:
        scale = scale * whole.float() if name == "modelopt" else scale / whole.float()
    if packed.dim() == scale.dim() + 1:  # [..., blocks, bytes of a block]
        return (value * scale.unsqueeze(-1)).flatten(-2)
    return value * _spread(scale, value.shape)
