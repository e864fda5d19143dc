"""TensorSpec -> torch.Tensor, through our own eyes: mapped into memory, never unpickled."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterable, Iterator
from math import prod

import torch

from archfind.errors import BuildError, CheckpointError
from archfind.formats.dtypes import ITEMSIZE
from archfind.formats.escape import escape
from archfind.types import Storage, TensorSpec


class TensorReader:
    """Reads tensors of one checkpoint. Files are mapped privately: tensors are views of the file,
    which can be written to without changing it, and a tied storage is one piece of memory. What
    can't be mapped (deflated, big-endian, in pieces) is read into memory, as much as the tensor
    needs."""

    def __init__(self) -> None:
        self._maps: dict[str, mmap.mmap] = {}
        self._copies: dict[Storage, bytearray] = {}

    def read(self, spec: TensorSpec) -> torch.Tensor:
        """The tensor, in the file's dtype. BuildError where its bytes aren't there to be read."""
        dtype = getattr(torch, spec.dtype, None)
        if not isinstance(dtype, torch.dtype) or spec.dtype not in ITEMSIZE or spec.dtype[0] == "q":
            raise BuildError(
                f"holds {escape(spec.dtype, 40)} tensors, which are not read", spec.storage.file
            )
        if spec.pieces:
            return self._assembled(spec, dtype)
        if prod(spec.shape) == 0:
            return torch.empty(spec.shape, dtype=dtype)
        stride = spec.stride or contiguous(spec.shape)
        last = sum((size - 1) * step for size, step in zip(spec.shape, stride, strict=True))
        if spec.offset < 0 or any(step < 0 for step in stride):
            raise BuildError("a tensor starts before its storage", spec.storage.file)
        count = spec.offset + last + 1
        return torch.as_strided(self._flat(spec, dtype, count), spec.shape, stride, spec.offset)

    def _flat(self, spec: TensorSpec, dtype: torch.dtype, count: int) -> torch.Tensor:
        """The storage's first `count` elements at least, as one run."""
        storage, need = spec.storage, count * dtype.itemsize
        if storage.inside is not None and storage.inside[0] == "torch.save":
            return self._saved(spec, dtype, count)
        if need > storage.nbytes and not (storage.inside and storage.inside[0] == "varint"):
            raise BuildError("a tensor reaches beyond its storage", storage.file)
        if storage.data is None and storage.start >= 0:
            mapped = self._map(storage.file)
            if storage.start + need > len(mapped):
                raise BuildError("the file ends inside a tensor; download it again", storage.file)
            items = min(storage.nbytes, len(mapped) - storage.start) // dtype.itemsize
            if storage.start % dtype.itemsize == 0:
                return torch.frombuffer(mapped, dtype=dtype, count=items, offset=storage.start)
            # old files put tensors anywhere; torch's vector instructions crash on odd addresses
            copy = self._copies.get(storage)
            if copy is None:
                end = storage.start + storage.nbytes
                copy = self._copies[storage] = bytearray(mapped[storage.start : end])
            return torch.frombuffer(copy, dtype=dtype, count=items)
        if storage.inside is not None and storage.inside[0] == "varint":
            return self._integers(storage, dtype, count)
        copy = self._copies.get(storage)
        if copy is None or len(copy) < need:
            copy = self._copies[storage] = self._copied(storage, dtype, need)
        return torch.frombuffer(copy, dtype=dtype, count=len(copy) // dtype.itemsize)

    def _copied(self, storage: Storage, dtype: torch.dtype, need: int) -> bytearray:
        """The storage's first `need` bytes, from where they can't be mapped."""
        how, member, at = storage.inside or ("", "", 0)
        if storage.data is not None:
            return bytearray(storage.data)
        if how == "deflate":
            return inflated(storage.file, member, at, need)
        if how == "swap":
            width = dtype.itemsize // (2 if dtype.is_complex else 1)
            data = bytearray(self._bytes(storage.file, at, storage.nbytes))
            swapped = torch.frombuffer(data, dtype=torch.uint8)
            whole = len(data) // width * width
            return bytearray(swapped[:whole].view(-1, width).flip(1).numpy().tobytes())
        if how == "latin-1":  # two bytes of UTF-8 at most for each of ours
            left = len(self._map(storage.file)) - at
            text = self._bytes(storage.file, at, min(2 * need, left)).decode("utf-8", "replace")
            try:
                return bytearray(text[:need].encode("latin-1"))
            except UnicodeEncodeError:
                pass
        raise BuildError(
            "a tensor has no data of its own here (sparse, packed twice, or saved without)",
            storage.file,
        )

    def _integers(self, storage: Storage, dtype: torch.dtype, count: int) -> torch.Tensor:
        """ONNX's typed integers; 16-bit floats are written there as their bits."""
        assert storage.inside is not None
        data = self._bytes(storage.file, storage.inside[2], storage.nbytes)
        values: list[int] = []
        value = shift = 0
        for byte in data:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                values.append(value - (1 << 64) if value >= 1 << 63 else value)
                value = shift = 0
            elif shift > 63:
                raise BuildError("a number in a tensor makes no sense", storage.file)
        if len(values) < count:
            raise BuildError("a tensor reaches beyond its storage", storage.file)
        if dtype.is_floating_point:
            bits = {1: torch.uint8, 2: torch.int16}.get(dtype.itemsize)
            if bits is None:
                raise BuildError("a tensor of floats is written as integers", storage.file)
            mask = (1 << 8 * dtype.itemsize) - 1
            raw = torch.tensor([one & mask for one in values], dtype=torch.int64)
            return raw.to(bits).view(dtype)
        return torch.tensor(values, dtype=torch.int64).to(dtype)

    def _saved(self, spec: TensorSpec, dtype: torch.dtype, count: int) -> torch.Tensor:
        """A chunk of a distributed checkpoint: a file of torch.save that holds one tensor."""
        from archfind.formats import read_section
        from archfind.formats.report import Report
        from archfind.formats.section import Moved, Section
        from archfind.formats.source import Source

        storage = spec.storage
        assert storage.inside is not None
        at = storage.inside[2]
        try:
            with Source(storage.file) as source:
                section = Section(source, at, storage.nbytes)
                section.read(0, storage.nbytes and 1)
                found = Moved(at).checkpoint(read_section(section, Report()))
        except CheckpointError as error:
            raise BuildError(f"a chunk can't be read: {error.message}", storage.file) from error
        held = [one for one in found.index.values() if one.shape == spec.shape]
        if len(found.index) != 1 or not held or held[0].dtype != spec.dtype:
            raise BuildError("a chunk holds another tensor than its metadata says", storage.file)
        return self.read(held[0]).reshape(-1)

    def _assembled(self, spec: TensorSpec, dtype: torch.dtype) -> torch.Tensor:
        """A tensor from its pieces, which must cover it."""
        made = torch.empty(spec.shape, dtype=dtype)
        covered = 0
        for piece in spec.pieces:
            value = self.read(piece.spec)
            if len(piece.at) == len(spec.shape) == value.dim():
                place = made
                for dim, (start, size) in enumerate(zip(piece.at, value.shape, strict=True)):
                    if start + size > spec.shape[dim]:
                        raise BuildError("a piece lies outside its tensor", spec.storage.file)
                    place = place.narrow(dim, start, size)
            else:
                (start,) = piece.at
                if start + value.numel() > made.numel():
                    raise BuildError("a piece lies outside its tensor", spec.storage.file)
                place, value = made.view(-1).narrow(0, start, value.numel()), value.reshape(-1)
            place.copy_(value)
            covered += value.numel()
        if covered != made.numel():
            raise BuildError("pieces of a tensor are missing", spec.storage.file)
        return made

    def _bytes(self, file: str, start: int, length: int) -> bytes:
        data = self._map(file)
        if start + length > len(data):
            raise BuildError("the file ends inside a tensor; download it again", file)
        return data[start : start + length]

    def _map(self, file: str) -> mmap.mmap:
        found = self._maps.get(file)
        if found is None:
            try:
                with open(file, "rb") as opened:
                    found = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:  # gone since, or empty
                raise BuildError("no data for a tensor: the file can't be read", file) from error
            self._maps[file] = found
        return found


def inflated(file: str, name: str, start: int, length: int) -> bytearray:
    """`length` bytes from `start` of what a deflated zip member inflates to. No more than that is
    kept, whatever the member holds. Where they are all of the member, its checksum is compared."""
    from archfind.formats.source import Source
    from archfind.formats.zip_directory import ZipDirectory

    try:
        with Source(file) as source:
            directory = ZipDirectory(source)
            member = directory.members.get(name)
            if member is None or member.method != 8:
                raise BuildError("no data for a tensor: its member is gone", file)
            at, left = directory.data_start(member), member.packed
            inflate = zlib.decompressobj(-15)
            made, skip, total, crc = bytearray(), start, 0, 0
            while (left or inflate.unconsumed_tail) and len(made) < length:
                packed = inflate.unconsumed_tail
                if not packed:
                    size = min(left, 1 << 20)
                    packed = source.read(at, size)
                    at, left = at + size, left - size
                data = inflate.decompress(packed, 1 << 22)
                total += len(data)
                crc = zlib.crc32(data, crc)
                if skip:
                    skip, data = max(0, skip - len(data)), data[skip:]
                made += data[: length - len(made)]
                if inflate.eof:
                    break
    except CheckpointError as error:
        raise BuildError(f"no data for a tensor: {error.message}", file) from error
    except zlib.error as error:
        raise BuildError("no data for a tensor: it doesn't inflate", file) from error
    if len(made) < length:
        raise BuildError("a deflated tensor is shorter than its shape says", file)
    if total == member.size and crc != member.crc:
        raise BuildError("damaged: a tensor's checksum is wrong. Download it again.", file)
    return made


def contiguous(shape: Iterable[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor, in elements."""
    strides: list[int] = []
    step = 1
    for size in reversed(tuple(shape)):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def merged_weight(recipe: str, parts: list[torch.Tensor]) -> torch.Tensor:
    """The weight that a parametrisation stands for.

    weight_norm (Salimans & Kingma 2016, arXiv:1602.07868): g * v / |v|, the norm over every axis on
    which g has size 1. spectral_norm (Miyato et al. 2018, arXiv:1802.05957): w / (u . W v).
    """
    if recipe == "weight_norm":
        g, v = (part.float() for part in parts)
        axes = [axis for axis, size in enumerate(g.shape) if size == 1]
        axes = axes or list(range(1, v.dim()))
        norm = torch.linalg.vector_norm(v, dim=axes, keepdim=True)
        return v * (g.reshape(norm.shape) / norm)
    if recipe == "spectral_norm":
        weight, u, v = (part.float() for part in parts)
        # The axis that u runs over comes first in the matrix; it is 1 for transposed convolutions.
        axis = 0 if weight.shape[0] == u.numel() else 1
        matrix = weight.movedim(axis, 0).flatten(1)
        return weight / torch.dot(u, matrix @ v)
    raise BuildError(f"no recipe {recipe!r} to merge weights")


def named(
    reader: TensorReader, specs: Iterable[tuple[str, TensorSpec]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each key with its tensor, read one at a time."""
    for key, spec in specs:
        yield key, reader.read(spec)
