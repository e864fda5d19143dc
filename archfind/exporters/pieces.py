"""What a converted file is made of: tensors that are read when they are written, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass

from archfind.dtypes import ITEMSIZE
from archfind.errors import ExportError
from archfind.escape import escape
from archfind.formats.source import opened_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from archfind.types import TensorSpec

CHUNK = 1 << 20  # bytes: what is read, cast and written while it is in the processor's cache
_FLIP = bytes(byte ^ 0x80 for byte in range(256))
FLOATS = ("float64", "float32", "float16", "bfloat16")  # what --dtype casts, and casts to


@dataclass(frozen=True)
class Extent:
    """Bytes that lie in a file just as they are to be written."""

    file: str
    start: int
    length: int


@dataclass(frozen=True)
class TensorToWrite:
    """One tensor to write. `extent` says where its bytes lie, if nothing has to be done to them;
    else `make` gives a torch tensor of `shape` and `dtype`, `cast` turns the extent's bytes of
    another dtype into it, or `signs` are flipped: the bytes that have them, each as the first one's
    place and the distance to the next. `same` is equal for tied tensors."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    same: object
    extent: Extent | None = None
    make: Callable[[], Any] | None = None
    cast: str = ""
    signs: tuple[tuple[int, int], ...] = ()

    @property
    def nbytes(self) -> int:
        count = ITEMSIZE[self.dtype]
        for size in self.shape:
            count *= size
        return count

    @property
    def plain(self) -> Extent | None:
        """The bytes to copy, where copying is all there is to do."""
        return None if self.cast or self.signs else self.extent

    def chunks(self) -> Iterator[memoryview]:
        """The tensor's bytes, a megabyte at a time. ExportError where they aren't there, or a
        value doesn't fit into the dtype."""
        if self.extent is None:
            assert self.make is not None
            yield from tensor_chunks(self.make())
        elif self.cast:
            yield from self._cast(self.extent)
        elif self.signs:
            yield from self._flipped(self.extent)
        else:
            yield from file_chunks(self.extent)

    def _flipped(self, extent: Extent) -> Iterator[memoryview]:
        for chunk in file_chunks(extent):
            for first, step in self.signs:
                chunk[first::step] = bytes(chunk[first::step]).translate(_FLIP)
            yield chunk

    def _cast(self, extent: Extent) -> Iterator[memoryview]:
        import torch

        source = getattr(torch, self.cast)
        for chunk in file_chunks(extent):
            yield from tensor_chunks(cast_tensor(torch.frombuffer(chunk, dtype=source), self))


def piece(key: str, spec: TensorSpec, dtype: str = "") -> TensorToWrite:
    """The piece for a tensor of a checkpoint, cast to `dtype` where it is a float."""
    if spec.dtype not in ITEMSIZE:
        text = f"{escape(key)} is {escape(spec.dtype)}, which torch has not"
        raise ExportError(text, spec.storage.file)
    wanted = dtype if dtype and spec.dtype in FLOATS else spec.dtype
    cast = spec.dtype if wanted != spec.dtype else ""
    where = (spec.storage, spec.offset, spec.shape, spec.stride, spec.pieces, spec.applied)
    same = (*where, wanted)
    item = ITEMSIZE[spec.dtype]
    count = item
    for size in spec.shape:
        count *= size
    if not count:
        return TensorToWrite(key, wanted, spec.shape, object(), Extent(spec.storage.file, 0, 0))
    held = spec.storage
    plain = held.start >= 0 and held.inside is None and held.data is None and not spec.pieces
    signs = (() if not spec.applied else None) if cast else _signs(spec)
    if spec.stride is None and plain and signs is not None:
        at = spec.offset * item
        if at + count > spec.storage.nbytes:
            raise ExportError(f"{escape(key)} reaches beyond its data", spec.storage.file)
        extent = Extent(spec.storage.file, spec.storage.start + at, count)
        return TensorToWrite(key, wanted, spec.shape, same, extent, cast=cast, signs=signs)

    def make() -> object:
        import torch

        from archfind.values.reader import TensorReader

        tensor = TensorReader().read(spec, key).contiguous()
        target = TensorToWrite(key, wanted, spec.shape, same)
        return cast_tensor(tensor, target) if cast else tensor.to(getattr(torch, wanted))

    return TensorToWrite(key, wanted, spec.shape, same, make=make)


def _signs(spec: TensorSpec) -> tuple[tuple[int, int], ...] | None:
    """The places of signs that loading flips, in little-endian floats; None where it does more."""
    width = ITEMSIZE[spec.dtype]
    found: list[tuple[int, int]] = []
    for step in spec.applied:
        if step == "neg" and spec.dtype in FLOATS:
            found.append((width - 1, width))
        elif step == "neg" and spec.dtype.startswith("complex"):
            found.append((width // 2 - 1, width // 2))
        elif step == "conj":
            found.append((width - 1, width))
        else:
            return None
    return tuple(found)


def cast_tensor(tensor: Any, piece: TensorToWrite) -> Any:
    """A tensor in the piece's dtype; ExportError where a value becomes infinite."""
    import torch

    out = tensor.to(getattr(torch, piece.dtype))
    if not torch.equal(out.isfinite(), tensor.isfinite()):
        largest = float(tensor[tensor.isfinite()].abs().max())
        raise ExportError(
            f"{escape(piece.key)} holds {largest:.6g}, too large for {piece.dtype}; "
            "--dtype bf16 has float32's range"
        )
    return out


def tensor_chunks(tensor: Any) -> Iterator[memoryview]:
    """A torch tensor's bytes, row after row."""
    import torch

    flat = memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    for start in range(0, len(flat), CHUNK):
        yield flat[start : start + CHUNK]


def file_chunks(extent: Extent) -> Iterator[memoryview]:
    """An extent's bytes. The buffer is used again for the next chunk."""
    buffer = memoryview(bytearray(min(CHUNK, extent.length)))
    left = extent.length
    with opened_file(extent.file) as file:
        file.seek(extent.start)
        while left:
            got = file.readinto(buffer[: min(left, CHUNK)])
            if not got:
                raise ExportError("ends inside a tensor; download it again", extent.file)
            if got % 16 and left > got:  # a short read must not cut a number in two
                more = file.readinto(buffer[got : got + 16 - got % 16])
                got += more or 0
            yield buffer[:got]
            left -= got
