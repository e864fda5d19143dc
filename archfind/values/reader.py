"""TensorSpec -> torch.Tensor, through our own eyes: read into memory, never unpickled.

Files are read and not mapped: one that is cut while it is mapped kills the process.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch

from archfind.dtypes import ITEMSIZE
from archfind.errors import BuildError, CheckpointError
from archfind.escape import escape
from archfind.formats.source import ByteSource, opened_file
from archfind.frozen import replace
from archfind.types import Quantiser, Storage, TensorSpec

_SHARED = 4  # a storage of so many times the tensor's bytes is read whole, for what is tied to it
_SMALL = 1 << 20  # bytes of a storage that is read whole anyway
_INTEGERS = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}  # by torch's quantised ones
_State = tuple[int, int, int]  # a file's inode, size and time of change


class TensorReader:
    """Reads tensors of one checkpoint, each in memory of its own that can be written to; tensors
    of one storage share it, while any of them lives. BuildError where a file changes meanwhile."""

    def __init__(self) -> None:
        self._files: dict[str, _State] = {}  # as they were at the first read
        self._whole: WeakValueDictionary[Storage, np.ndarray] = WeakValueDictionary()
        self._copies: dict[Storage, bytearray] = {}

    def read(self, spec: TensorSpec, key: str = "") -> torch.Tensor:
        """The tensor, in the dtype that loading gives it. BuildError where its values aren't there
        to be read, which names `key`."""
        try:
            made = self._read(spec)
            return _applied(made, spec) if spec.applied else made
        except BuildError as error:
            if not key:
                raise
            text = f'the tensor "{escape(key, 120)}": {error.message}'
            raise BuildError(text, error.path) from error

    def _read(self, spec: TensorSpec) -> torch.Tensor:
        """The numbers as they are stored, in the tensor's shape."""
        name = (_casts(spec) or [spec.dtype])[0]
        dtype = getattr(torch, name, None)
        storage = spec.storage
        if storage.inside is not None and storage.inside[0] == "absent":
            raise BuildError(f"{storage.inside[1]}; its values are not read", storage.file)
        if spec.quantiser is not None and name in _INTEGERS:
            return self._quantised(spec, spec.quantiser)
        if not isinstance(dtype, torch.dtype) or name not in ITEMSIZE or name[0] == "q":
            raise BuildError(f"holds {escape(name, 40)} tensors, which are not read", storage.file)
        if spec.pieces:
            return self._assembled(spec, dtype)
        if prod(spec.shape) == 0:
            return torch.empty(spec.shape, dtype=dtype)
        stride = spec.stride or contiguous(spec.shape)
        last = sum((size - 1) * step for size, step in zip(spec.shape, stride, strict=True))
        if spec.offset < 0 or any(step < 0 for step in stride):
            raise BuildError("a tensor starts before its storage", spec.storage.file)
        count = spec.offset + last + 1
        plain = storage.start >= 0 and storage.data is None and storage.inside is None
        if plain and storage.nbytes > max(_SHARED * (last + 1) * dtype.itemsize, _SMALL):
            if count * dtype.itemsize > storage.nbytes:
                raise BuildError("a tensor reaches beyond its storage", storage.file)
            start = storage.start + spec.offset * dtype.itemsize
            raw = self._bytes(storage.file, start, (last + 1) * dtype.itemsize)
            return torch.as_strided(torch.from_numpy(raw).view(dtype), spec.shape, stride)
        return torch.as_strided(self._flat(spec, dtype, count), spec.shape, stride, spec.offset)

    def _quantised(self, spec: TensorSpec, means: Quantiser) -> torch.Tensor:
        """torch's quantised tensor, made of the integers and of what they stand for."""
        plain = replace(spec, dtype=_INTEGERS[spec.dtype], quantiser=None)
        numbers = self._read(plain)
        scale, zero = means.scale, means.zero_point
        if isinstance(scale, TensorSpec) and isinstance(zero, TensorSpec):
            # torch believes what it's told, and reads beyond scales that are too few.
            along = spec.shape[means.axis : means.axis + 1] if means.axis >= 0 else ()
            if not along or scale.shape != along or zero.shape != along:
                raise BuildError("its scales don't fit it", spec.storage.file)
            arguments: Any = numbers, self._read(scale), self._read(zero).long(), means.axis
            make = torch._make_per_channel_quantized_tensor  # pyright: ignore
        else:
            arguments = numbers, scale, zero
            make = torch._make_per_tensor_quantized_tensor  # pyright: ignore
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch means to drop such tensors one day
                return make(*arguments)
        except (RuntimeError, TypeError) as error:
            text = f"its scales make no sense: {str(error).splitlines()[0]}"
            raise BuildError(text, spec.storage.file) from error

    def _flat(self, spec: TensorSpec, dtype: torch.dtype, count: int) -> torch.Tensor:
        """The storage's first `count` elements at least, as one run."""
        storage, need = spec.storage, count * dtype.itemsize
        if storage.inside is not None and storage.inside[0] == "torch.save":
            return self._saved(spec, dtype, count)
        if need > storage.nbytes and not (storage.inside and storage.inside[0] == "varint"):
            raise BuildError("a tensor reaches beyond its storage", storage.file)
        if storage.data is None and storage.start >= 0:
            whole = self._whole.get(storage)
            if whole is None:
                whole = self._bytes(storage.file, storage.start, storage.nbytes)
                self._whole[storage] = whole
            return torch.frombuffer(whole, dtype=dtype, count=storage.nbytes // dtype.itemsize)
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
            data = self._bytes(storage.file, at, storage.nbytes)
            whole = len(data) // width * width
            return bytearray(data[:whole].reshape(-1, width)[:, ::-1].tobytes())
        if how == "latin-1":  # two bytes of UTF-8 at most for each of ours
            left = os.path.getsize(storage.file) - at
            raw = self._bytes(storage.file, at, max(0, min(2 * need, left)))
            text = raw.tobytes().decode("utf-8", "replace")
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
        data = self._bytes(storage.file, storage.inside[2], storage.nbytes).tobytes()
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
        from archfind.formats.archives.section import Moved, Section
        from archfind.formats.report import Report

        storage = spec.storage
        assert storage.inside is not None
        at = storage.inside[2]
        try:
            with ByteSource(storage.file) as source:
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

    def _bytes(self, file: str, start: int, length: int) -> np.ndarray:
        """Bytes of a file, in memory that lies as any dtype needs it: vector instructions crash on
        odd addresses, and old files put tensors anywhere."""
        if not file:
            raise BuildError("no data for a tensor")
        try:
            with opened_file(file) as source:
                before = _state(source.fileno())
                if start + length > before[1]:
                    raise BuildError("the file ends inside a tensor; download it again", file)
                data = np.empty(length, np.uint8)
                view, at = data.data, 0
                source.seek(start)
                while at < length and (got := source.readinto(view[at:])):
                    at += got
                same = before == self._files.setdefault(file, before) == _state(source.fileno())
        except (CheckpointError, OSError) as error:  # gone since
            raise BuildError("no data for a tensor: the file can't be read", file) from error
        if at < length or not same:
            raise BuildError("the file changed while it was read; try again", file)
        return data


def _state(descriptor: int) -> _State:
    found = os.fstat(descriptor)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _casts(spec: TensorSpec) -> list[str]:
    """The dtypes that a tensor is cast from, that of its storage first."""
    return [step[len("from ") :] for step in spec.applied if step.startswith("from ")]


def _applied(value: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """What loading makes of a tensor's numbers."""
    targets = iter((*_casts(spec)[1:], spec.dtype))
    for step in spec.applied:
        if step == "conj":
            value = value.conj().resolve_conj()
        elif step == "neg":
            value = value.neg()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a complex number's lost part
                value = value.to(getattr(torch, next(targets)))
    return value


def inflated(file: str, name: str, start: int, length: int) -> bytearray:
    """`length` bytes from `start` of what a deflated zip member inflates to. No more than that is
    kept, whatever the member holds. Where they are all of the member, its checksum is compared."""
    from archfind.formats.archives.zip_directory import ZipDirectory

    try:
        with ByteSource(file) as source:
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
    if recipe == "mask":
        weight, mask = parts
        return weight * mask.to(weight.dtype)
    raise BuildError(f"no recipe {recipe!r} to merge weights")


def computed(recipe: str, parts: list[torch.Tensor], shape: Iterable[int]) -> torch.Tensor:
    """A weight of `shape` that the file holds in parts, parametrised or packed."""
    if recipe in ("weight_norm", "spectral_norm", "mask"):
        return merged_weight(recipe, parts)
    from archfind.values import older_values

    if recipe in older_values.RECIPES:
        return older_values.value_by_recipe(recipe, parts, tuple(shape))
    from archfind.values.quantised import dequantised

    return dequantised(recipe, parts, tuple(shape))


def named_tensors(
    reader: TensorReader, specs: Iterable[tuple[str, TensorSpec]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each key with its tensor, read one at a time."""
    for key, spec in specs:
        yield key, reader.read(spec)
