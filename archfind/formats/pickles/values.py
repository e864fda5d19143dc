"""The pickle opcodes that push a number, a text or bytes; a state dict has few of them.

Each function gets the machine, the bytes, and the position behind its opcode, and returns the
position of the next one. It reads all of its bytes before it changes the stack.
"""

from __future__ import annotations

import codecs
import struct

from archfind.errors import LimitExceeded
from archfind.formats import limits
from archfind.formats.pickles.machine import Machine, Short
from archfind.formats.pickles.nodes import Bytes

_LONG_BYTES = 1 << 16  # longer runs of bytes are tensor data: they stay in place


def line(data: bytes, pos: int, most: int = limits.LINE_BYTES) -> tuple[bytes, int]:
    """The text up to the next newline, and the position behind it."""
    end = data.find(b"\n", pos, pos + most)
    if end < 0:
        if len(data) - pos >= most:
            raise KeyError("a line without an end")
        raise Short
    return data[pos:end], end + 1


def take(data: bytes, pos: int, length: int) -> bytes:
    """Exactly `length` bytes."""
    if pos + length > len(data):
        raise Short
    return data[pos : pos + length]


_U1, _U2, _U4, _U8, _I4 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q", "<i"))
_RAW, _UTF8, _PY2 = range(3)


# --- numbers ---


def _whole(text: bytes) -> object:
    if text in (b"00", b"01"):
        return text == b"01"
    if len(text) > limits.INT_BYTES:
        raise KeyError("a long integer")
    return int(text.rstrip(b"L"), 10)


def _int(vm: Machine, data: bytes, pos: int) -> int:
    text, pos = line(data, pos)
    try:
        vm.stack.append(_whole(text))
    except ValueError:
        raise KeyError("not a number") from None
    return pos


def _float(vm: Machine, data: bytes, pos: int) -> int:
    text, pos = line(data, pos)
    try:
        vm.stack.append(float(text))
    except ValueError:
        raise KeyError("not a number") from None
    return pos


def _binfloat(vm: Machine, data: bytes, pos: int) -> int:
    vm.stack.append(struct.unpack_from(">d", data, pos)[0])
    return pos + 8


def _long(vm: Machine, data: bytes, pos: int, width: struct.Struct) -> int:
    length = width.unpack_from(data, pos)[0]
    if length < 0 or length > limits.INT_BYTES:
        raise LimitExceeded(f"refused: {vm.where} holds an integer of {length:,} bytes", vm.path)
    pos += width.size
    vm.stack.append(int.from_bytes(take(data, pos, length), "little", signed=True))
    return pos + length


def _long1(vm: Machine, data: bytes, pos: int) -> int:
    return _long(vm, data, pos, _U1)


def _long4(vm: Machine, data: bytes, pos: int) -> int:
    return _long(vm, data, pos, _I4)


# --- text and bytes ---


def _py2_text(raw: bytes) -> str | bytes:
    """Python 2's str is text in a checkpoint, but for the data of numpy arrays."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _string(vm: Machine, data: bytes, pos: int) -> int:
    text, pos = line(data, pos, limits.PICKLE_BYTES)  # an array's bytes, in old files
    if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
        raise KeyError("a string without quotes")
    try:
        vm.stack.append(_py2_text(codecs.escape_decode(text[1:-1])[0]))  # pyright: ignore
    except ValueError:
        raise KeyError("a string that doesn't decode") from None
    return pos


def _unicode(vm: Machine, data: bytes, pos: int) -> int:
    text, pos = line(data, pos, limits.PICKLE_BYTES)  # an array's bytes, in old files
    try:
        vm.stack.append(text.decode("raw-unicode-escape"))
    except UnicodeDecodeError:
        raise KeyError("a string that doesn't decode") from None
    return pos


def _bytes(vm: Machine, data: bytes, pos: int, width: struct.Struct, kind: int) -> int:
    length = width.unpack_from(data, pos)[0]
    pos += width.size
    if length > (limits.TEXT_BYTES if kind == _UTF8 else _LONG_BYTES):
        if pos + length > len(data):
            raise Short
        vm.stack.append(Bytes(pos, length, kind == _UTF8))
        return pos + length
    if length < 0 or length > limits.TEXT_BYTES:
        raise LimitExceeded(f"refused: {vm.where} holds a text of {length:,} bytes", vm.path)
    raw = take(data, pos, length)
    try:
        vm.stack.append(_decode(raw, kind))
    except UnicodeDecodeError:
        raise KeyError("a string that doesn't decode") from None
    return pos + length


def _decode(raw: bytes, kind: int) -> str | bytes:
    if kind == _RAW:
        return raw
    return _py2_text(raw) if kind == _PY2 else raw.decode("utf-8", "surrogatepass")


def _reader(width: struct.Struct, kind: int):
    def act(vm: Machine, data: bytes, pos: int) -> int:
        return _bytes(vm, data, pos, width, kind)

    return act


VALUES = {
    ord("I"): _int,
    ord("L"): _int,
    ord("F"): _float,
    ord("G"): _binfloat,
    0x8A: _long1,
    0x8B: _long4,
    ord("S"): _string,
    ord("V"): _unicode,
    ord("T"): _reader(_I4, _PY2),
    ord("U"): _reader(_U1, _PY2),
    ord("B"): _reader(_U4, _RAW),
    ord("C"): _reader(_U1, _RAW),
    0x8E: _reader(_U8, _RAW),  # BINBYTES8
    0x96: _reader(_U8, _RAW),  # BYTEARRAY8
    0x8D: _reader(_U8, _UTF8),  # BINUNICODE8
}
