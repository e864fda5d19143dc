"""Pieces -> a .pth file, as `torch.save` writes a state dict: a zip with a pickle and the storages.

Written here because torch takes seconds to import and holds every tensor at once. The pickle has
nothing in it but an OrderedDict of tensors, so `torch.load(weights_only=True)` reads it.
"""

from __future__ import annotations

import struct

from archfind.dtypes import ITEMSIZE, STORAGE
from archfind.errors import ExportError
from archfind.escape import escape
from archfind.exporters.output import NewFile, awaited_checksum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archfind.exporters.output import Sum
    from archfind.exporters.pieces import TensorToWrite

_ALIGN = 64  # bytes, as torch aligns storages, so that they can be mapped
_CLASSES = {dtype: name for name, dtype in STORAGE.items() if "ntyped" not in name}
_QUANTISED = ("qint8", "quint8", "qint32", "quint4x2", "quint2x4", "bits8")
_ROOT = "archive"


def write_torch(path: str, pieces: Sequence[TensorToWrite], metadata: Mapping[str, object]) -> None:
    """Tied tensors share one storage. `metadata` becomes the state dict's `_metadata`. ExportError
    for a dtype whose tensors are more than their bytes."""
    storages: dict[object, tuple[int, TensorToWrite]] = {}
    for piece in pieces:
        if piece.dtype in _QUANTISED:
            text = f"{escape(piece.key)} is {piece.dtype}, whose scale is no tensor"
            raise ExportError(f"{text}; dequantise it first")
        storages.setdefault(piece.same, (len(storages), piece))
    with NewFile(path) as out:
        archive = _Zip(out)
        archive.add(f"{_ROOT}/data.pkl", _pickle(pieces, storages, metadata))
        archive.add(f"{_ROOT}/byteorder", b"little")
        for number, piece in storages.values():
            archive.add(f"{_ROOT}/data/{number}", piece)
        archive.add(f"{_ROOT}/version", b"3\n")
        archive.close()


class _Zip:
    """A zip of stored members, in the form that torch reads: aligned, sizes in zip64 where they
    need it. Checksums are filled in at the end."""

    def __init__(self, out: NewFile) -> None:
        self.out = out
        self.members: list[tuple[bytes, int, int, Sum]] = []  # name, start, size, checksum

    def add(self, name: str, data: bytes | TensorToWrite) -> None:
        raw = name.encode()
        size = len(data) if isinstance(data, bytes) else data.nbytes
        start = self.out.at
        extra = _zip64(size, size) if size >= 0xFFFFFFFF else b""
        pad = -(start + 30 + len(raw) + len(extra) + 4) % _ALIGN
        extra += struct.pack("<HH", 0x4246, pad) + b"Z" * pad
        self.out.write(_local(raw, size, extra, 0) + extra)
        self.members.append((raw, start, size, self.out.summed(data)))

    def close(self) -> None:
        """The checksums, then the directory."""
        directory = b""
        for raw, start, size, later in self.members:
            checksum = awaited_checksum(later)
            self.out.patch(start + 14, struct.pack("<I", checksum))
            wide = [n for n in (size, size, start) if n >= 0xFFFFFFFF]
            extra = _zip64(*wide) if wide else b""
            short = min(size, 0xFFFFFFFF)
            directory += struct.pack(
                "<IHHHHHHIIIHHHHHII", 0x02014B50, 45, 45, 0x800, 0, 0, 33, checksum, short, short,
                len(raw), len(extra), 0, 0, 0, 0, min(start, 0xFFFFFFFF),
            ) + raw + extra  # fmt: skip
        count, size, start = len(self.members), len(directory), self.out.at
        if count >= 0xFFFF or start >= 0xFFFFFFFF:
            end = start + size
            directory += struct.pack(
                "<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, start
            ) + struct.pack("<IIQI", 0x07064B50, 0, end, 1)
            count, size, start = (
                min(count, 0xFFFF), min(size, 0xFFFFFFFF), min(start, 0xFFFFFFFF),
            )  # fmt: skip
        directory += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, size, start, 0)
        self.out.write(directory)


def _local(raw: bytes, size: int, extra: bytes, checksum: int) -> bytes:
    short = min(size, 0xFFFFFFFF)
    return struct.pack(
        "<IHHHHHIIIHH", 0x04034B50, 45, 0x800, 0, 0, 33, checksum, short, short, len(raw),
        len(extra),
    ) + raw  # fmt: skip


def _zip64(*sizes: int) -> bytes:
    return struct.pack(f"<HH{len(sizes)}Q", 1, 8 * len(sizes), *sizes)


def _pickle(
    pieces: Sequence[TensorToWrite],
    storages: Mapping[object, tuple[int, TensorToWrite]],
    metadata: Mapping[str, object],
) -> bytes:
    """The state dict in pickle's protocol 2, one opcode after another."""
    parts = [b"\x80\x02", _EMPTY, b"("]
    for piece in pieces:
        number, owner = storages[piece.same]
        count = owner.nbytes // ITEMSIZE[piece.dtype]
        short = _CLASSES.get(piece.dtype)
        kind = f"ctorch\n{short}Storage\n" if short else "ctorch.storage\nUntypedStorage\n"
        length = count if short else owner.nbytes
        stride: list[int] = []
        step = 1
        for size in reversed(piece.shape):
            stride.insert(0, step)
            step *= size
        rebuild = "_rebuild_tensor_v2" if short else "_rebuild_tensor_v3"
        parts += [
            _text(piece.key),
            f"ctorch._utils\n{rebuild}\n((".encode(),
            _text("storage"), kind.encode(), _text(str(number)), _text("cpu"), _number(length),
            b"tQ", _number(0), _tuple(piece.shape), _tuple(stride), b"\x89", _EMPTY,
            b"" if short else f"ctorch\n{piece.dtype}\n".encode(),
            b"tR",
        ]  # fmt: skip
    parts.append(b"u")
    if metadata:
        parts += [b"}(", _text("_metadata"), _value(metadata, ordered=True), b"ub"]
    return b"".join([*parts, b"."])


_EMPTY = b"ccollections\nOrderedDict\n)R"


def _value(value: object, ordered: bool = False) -> bytes:
    if isinstance(value, dict):
        items = b"".join(_text(str(k)) + _value(v) for k, v in value.items())  # pyright: ignore
        return (_EMPTY if ordered else b"}") + b"(" + items + b"u"
    return _number(value) if type(value) is int else _text(str(value))


def _tuple(numbers: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_number, numbers)) + b"t"


def _number(number: int) -> bytes:
    if -(2**31) <= number < 2**31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw
