"""TensorSpec -> torch.Tensor, through our own eyes: mapped into memory, never unpickled."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterable, Iterator

import torch

from archfind.errors import BuildError
from archfind.types import TensorSpec


class TensorReader:
    """Reads tensors of one checkpoint. Files are mapped privately: tensors are views of the file,
    which can be written to without changing it, and a tied storage is one piece of memory."""

    def __init__(self) -> None:
        self._maps: dict[str, mmap.mmap] = {}

    def read(self, spec: TensorSpec) -> torch.Tensor:
        """The tensor, in the file's dtype. BuildError where its bytes aren't there to be read."""
        dtype = getattr(torch, spec.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise BuildError(f"holds {spec.dtype} tensors, which torch {torch.__version__} has not")
        count = 1
        for size in spec.shape:
            count *= size
        if count == 0:
            return torch.empty(spec.shape, dtype=dtype)
        if spec.storage.start < 0:
            flat = self._inflated(spec, dtype)
        else:
            data = self._map(spec.storage.file)
            items = spec.storage.nbytes // dtype.itemsize
            try:
                flat = torch.frombuffer(data, dtype=dtype, count=items, offset=spec.storage.start)
            except ValueError as error:
                message = "the file ends inside a tensor; download it again"
                raise BuildError(message, spec.storage.file) from error
        stride = spec.stride or contiguous(spec.shape)
        return torch.as_strided(flat, spec.shape, stride, spec.offset)

    def _map(self, file: str) -> mmap.mmap:
        found = self._maps.get(file)
        if found is None:
            with open(file, "rb") as opened:
                found = self._maps[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        return found

    def _inflated(self, spec: TensorSpec, dtype: torch.dtype) -> torch.Tensor:
        """A deflated zip member: torch never writes one, but re-zipped files have them."""
        import zipfile

        try:
            with zipfile.ZipFile(spec.storage.file) as archive:
                data = bytearray(archive.read(spec.storage.name))
        except (zipfile.BadZipFile, KeyError, zlib.error) as error:
            raise BuildError(f"no data for a tensor: {error}", spec.storage.file) from error
        return torch.frombuffer(data, dtype=dtype)


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


def computed(recipe: str, parts: list[torch.Tensor], shape: Iterable[int]) -> torch.Tensor:
    """A weight of `shape` that the file holds in parts, parametrised or packed."""
    if recipe in ("weight_norm", "spectral_norm"):
        return merged_weight(recipe, parts)
    from archfind.quantised_values import dequantised

    return dequantised(recipe, parts, tuple(shape))


def named(
    reader: TensorReader, specs: Iterable[tuple[str, TensorSpec]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each key with its tensor, read one at a time."""
    for key, spec in specs:
        yield key, reader.read(spec)
