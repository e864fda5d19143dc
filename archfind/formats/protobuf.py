"""Protocol buffers' wire format, read in place: long fields are skipped, not loaded."""

from __future__ import annotations

from archfind.errors import CheckpointError, LimitExceeded, Truncated
from archfind.formats import limits
from archfind.formats.source import ByteSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, SPAN, FIXED32 = 0, 1, 2, 5
_PIECE = 8192

# ModelProto's fields and their wire types
_MODEL = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}


class Wire:
    """Reads fields from a Source through one small buffer."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.fields_read = 0
        self._data = b""
        self._base = 0

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Each field of a message: number, wire type, and a value and 0, or a span's two ends."""
        at = start
        while at < end:
            tag, at = self.varint(at, end)
            number, kind = tag >> 3, tag & 7
            self.count()
            if not number:
                raise self.damaged()
            if kind == SPAN:
                length, at = self.varint(at, end)
                if length > end - at:
                    if end == self.source.size:
                        raise Truncated(
                            f"cut off: it goes on to byte {at + length:,}, the file has {end:,}. "
                            "Download it again.",
                            self.source.path,
                        )
                    raise self.damaged()
                yield number, kind, at, at + length
                at += length
            elif kind == VARINT:
                value, at = self.varint(at, end)
                yield number, kind, value, 0
            elif kind in (FIXED32, FIXED64):
                width = 4 if kind == FIXED32 else 8
                if at + width > end:
                    raise self.damaged()
                yield number, kind, int.from_bytes(self.bytes(at, at + width), "little"), 0
                at += width
            else:
                raise self.damaged()  # groups, which nobody writes

    def count(self) -> None:
        """Charges a field, or one number of a packed field."""
        self.fields_read += 1
        if self.fields_read > limits.PROTOBUF_FIELDS:
            raise LimitExceeded(
                f"refused: more than {limits.PROTOBUF_FIELDS:,} fields", self.source.path
            )

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at `at` and the position behind it."""
        place = at - self._base
        if place < 0 or place + 10 > len(self._data):
            self._data = self.source.read(at, min(_PIECE, self.source.size - at))
            self._base, place = at, 0
        data = self._data
        value = shift = 0
        for i in range(place, min(place + 10, len(data), end - self._base)):
            byte = data[i]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, self._base + i + 1
            shift += 7
        raise self.damaged()

    def bytes(self, start: int, end: int) -> bytes:
        """A short span's bytes."""
        if end - start > limits.ONNX_STRING:
            raise LimitExceeded(f"refused: a text of {end - start:,} bytes", self.source.path)
        place = start - self._base
        if place >= 0 and end - self._base <= len(self._data):
            return self._data[place : place + end - start]
        return self.source.read(start, end - start)

    def text(self, start: int, end: int) -> str:
        """A short span as text."""
        return self.bytes(start, end).decode("utf-8", "backslashreplace")

    def damaged(self) -> CheckpointError:
        """The error for bytes that are no message."""
        return CheckpointError("damaged: its ONNX structure makes no sense", self.source.path)


def signed(value: int) -> int:
    """A varint as the int64 that it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def looks_like_onnx(head: bytes, source: ByteSource) -> bool:
    """Whether the file is one ModelProto from its first byte to its last, or a cut-off one."""
    seen: set[int] = set()
    version = head[0] == 8 and 1 <= head[1] < 64 if len(head) > 8 else False
    try:
        for count, (number, kind, value, _) in enumerate(Wire(source).fields(0, source.size)):
            if _MODEL.get(number) != kind or count > 10_000:
                return False
            if number == 1 and not 1 <= value < 64:
                return False
            seen.add(number)
    except Truncated:
        # a graph that goes beyond the end, behind a version number that makes sense
        return version and (len(seen) > 1 or source.size > 64)
    except CheckpointError:
        return False
    return 7 in seen and bool(seen & {1, 8})
