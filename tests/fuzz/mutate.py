"""Mutations that know a format: opcodes of a pickle, fields of a zip or a message, JSON values.

Each takes bytes and a random.Random, and gives other bytes; what doesn't parse is changed byte by
byte instead.
"""

from __future__ import annotations

import io
import itertools
import json
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable

from hostile.build import (
    Member,
    call,
    mapping,
    name,
    number,
    part,
    storage,
    tar_bytes,
    tensor,
    text,
    varint,
    zip_bytes,
)

from archfind.formats.torch_files.torch_objects import CALLS

Mutator = Callable[[bytes, random.Random], bytes]

ODD = (0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, 1000, 32767, 65535, 65536)
ODD += tuple((1 << n) + d for n in (31, 32, 53, 62, 63, 64) for d in (-1, 0, 1))
NUMBERS = ODD + tuple(-n for n in ODD)


def bytewise(data: bytes, draw: random.Random) -> bytes:
    """Bits flipped, bytes replaced, pieces cut, doubled and moved."""
    out = bytearray(data)
    for _ in range(1 + int(draw.expovariate(0.7))):
        at = draw.randrange(len(out) + 1)
        end = min(len(out), at + draw.choice((1, 1, 2, 4, 8, 30)))
        how = draw.randrange(7)
        if how == 0 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif how == 1 and at < len(out):
            out[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif how == 2:
            del out[at:end]
        elif how == 3:
            out[at:at] = draw.randbytes(end - at)
        elif how == 4:
            out[at:at] = out[at:end]
        elif how == 5:
            width = draw.choice("BHIQ")
            raw = struct.pack("<" + width, draw.choice(ODD) & (256 ** struct.calcsize(width) - 1))
            out[at : at + len(raw)] = raw
        else:
            del out[at:]
    return bytes(out)


# --- pickles ---

_OPCODES = [one.code.encode("latin-1") for one in pickletools.opcodes]
_GLOBALS = [name(one) for one in CALLS if "\n" not in one]
_PIECES = [
    *_GLOBALS,
    *(name(one) for one in ("os.system", "m.Net", "torch.FloatStorage", "torch.float16")),
    *(number(one) for one in NUMBERS if abs(one) < 1 << 2000),
    text("weight"),
    text("a/b~c"),
    text("\x1b[31m\ud800"),
    text(""),
    storage(),
    tensor(),
    mapping(w=tensor()),
    call("collections.OrderedDict"),
    call("numpy.dtype", text("f8")),
    b"q\x00h\x00",
    b"]q\x01h\x01a",
    b"N",
    b"\x88",
    b"}",
    b")",
    b"]",
    b"(",
    b"t",
    b"R",
    b"\x81",
    b"b",
    b"s",
    b"C\x04abcd",
]  # fmt: skip


def opcodes(data: bytes) -> list[bytes]:
    """Pickles in a row cut into their opcodes, as far as they parse; the rest is the last piece."""
    cuts = [0]
    start = 0
    while start < len(data):
        file = io.BytesIO(data[start:])
        try:
            for _, _, at in pickletools.genops(file):
                cuts.append(start + (at or 0))
        except Exception:
            break
        start += file.tell()
    cuts.append(len(data))
    return [data[a:b] for a, b in itertools.pairwise(cuts) if a < b]


def pickled(data: bytes, draw: random.Random) -> bytes:
    """Opcodes dropped, doubled, exchanged, inserted; arguments replaced."""
    ops = opcodes(data)
    if not ops:
        return b"\x80\x02" + draw.choice(_PIECES) + b"."
    for _ in range(1 + int(draw.expovariate(0.7))):
        at = draw.randrange(len(ops))
        how = draw.randrange(8)
        if how == 0 and len(ops) > 1:
            del ops[at]
        elif how == 1:
            ops.insert(at, ops[draw.randrange(len(ops))])
        elif how == 2:
            other = draw.randrange(len(ops))
            ops[at], ops[other] = ops[other], ops[at]
        elif how == 3:
            ops.insert(at, draw.choice(_PIECES))
        elif how == 4:
            ops[at] = draw.choice(_PIECES)
        elif how == 5:
            ops[at] = draw.choice(_OPCODES) + ops[at][1:]
        elif how == 6:
            ops[at] = bytewise(ops[at], draw)
        else:
            end = min(len(ops), at + draw.randrange(1, 12))
            ops[at:at] = ops[at:end] * draw.randrange(1, 4)
    return b"".join(ops)


# --- zip ---

_LOCAL = ((4, "H"), (6, "H"), (8, "H"), (14, "I"), (18, "I"), (22, "I"), (26, "H"), (28, "H"))
_CENTRAL = ((8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (30, "H"), (32, "H"))
_CENTRAL += ((34, "H"), (38, "I"), (42, "I"))
_END = ((4, "H"), (6, "H"), (8, "H"), (10, "H"), (12, "I"), (16, "I"), (20, "H"))
_HEADERS = {b"PK\x03\x04": _LOCAL, b"PK\x01\x02": _CENTRAL, b"PK\x05\x06": _END}


def zipped(data: bytes, draw: random.Random) -> bytes:
    """A header's field, or data.pkl by its opcodes with its headers made to fit."""
    if draw.random() < 0.4:
        return _repickled(data, draw)
    out = bytearray(data)
    places = [
        (at, fields)
        for magic, fields in _HEADERS.items()
        for at in _finds(data, magic)
        if at + 46 <= len(data) or magic == b"PK\x05\x06"
    ]
    if not places:
        return bytewise(data, draw)
    for _ in range(1 + int(draw.expovariate(1))):
        at, fields = draw.choice(places)
        where, width = draw.choice(fields)
        size = struct.calcsize(width)
        if at + where + size > len(out):
            continue
        was = int.from_bytes(out[at + where : at + where + size], "little")
        value = draw.choice((draw.choice(ODD), was + draw.choice((-1, 1, 4, 30)), was ^ 8, was ^ 1))
        out[at + where : at + where + size] = (value & (256**size - 1)).to_bytes(size, "little")
    return bytes(out)


def _finds(data: bytes, magic: bytes) -> list[int]:
    found = [data.find(magic)]
    while found[-1] >= 0 and len(found) < 50:
        found.append(data.find(magic, found[-1] + 1))
    return [at for at in found if at >= 0]


_INFLATED = 1 << 11


def _repickled(data: bytes, draw: random.Random) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            held = [(one, archive.open(one).read(_INFLATED)) for one in names[:20]]
    except Exception:
        return bytewise(data, draw)
    return zip_bytes(
        [
            Member(one, pickled(raw, draw) if one.endswith(".pkl") else raw, draw.choice((0, 0, 8)))
            for one, raw in held
        ]
    )


# --- tar ---


def tarred(data: bytes, draw: random.Random) -> bytes:
    """A member's opcodes or bytes, its header made right again."""
    parts: list[tuple[str, bytes]] = []
    at = 0
    while at + 512 <= len(data) and data[at : at + 1].strip(b"\0"):
        if not data[at + 124 : at + 135].isdigit():
            return bytewise(data, draw)
        size = int(data[at + 124 : at + 135].translate(None, b"89") or b"0", 8)
        named = data[at : at + 100].partition(b"\0")[0].decode("latin-1")
        parts.append((named, data[at + 512 : at + 512 + size]))
        at += 512 + -(-size // 512) * 512
    if not parts:
        return bytewise(data, draw)
    chosen = draw.randrange(len(parts))
    named, raw = parts[chosen]
    parts[chosen] = (named, (pickled if draw.random() < 0.7 else bytewise)(raw, draw))
    return tar_bytes(parts)


# --- JSON ---

_VALUES = ({}, [], "", "F32", "I64", "\x1b[31m", "a.safetensors", "..", None, True, 1.5, 1e300)

_NAMES = ("__metadata__", "weight_map", "w", "a/b", "\ud800", "")


def valued(value: object, draw: random.Random) -> object:
    """A JSON value with something in it changed."""
    if draw.random() < 0.15:
        return draw.choice((*_VALUES, *NUMBERS))
    if isinstance(value, dict) and value:
        out = dict(value)
        key = draw.choice(list(out))
        how = draw.randrange(6)
        if how == 0:
            del out[key]
        elif how == 1:
            out[str(draw.choice(("__metadata__", "weight_map", "w", "a/b", "\ud800", "")))] = out[
                key
            ]
        else:
            out[key] = valued(out[key], draw)
        return out
    if isinstance(value, list) and value:
        out2 = list(value)
        at = draw.randrange(len(out2))
        how = draw.randrange(5)
        if how == 0:
            del out2[at]
        elif how == 1:
            out2.insert(at, draw.choice(NUMBERS))
        else:
            out2[at] = valued(out2[at], draw)
        return out2
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, -value, value * 2, draw.choice(NUMBERS)))
    return draw.choice((*_VALUES, *NUMBERS))


def header(data: bytes, draw: random.Random) -> bytes:
    """A safetensors header's values, with its length made to fit."""
    length = int.from_bytes(data[:8], "little")
    try:
        found = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return bytewise(data, draw)
    raw = json.dumps(valued(found, draw)).encode()
    return struct.pack("<Q", len(raw)) + raw + data[8 + length :]


def jsonic(data: bytes, draw: random.Random) -> bytes:
    """A JSON file's values."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return bytewise(data, draw)
    return json.dumps(valued(found, draw)).encode()


# --- protocol buffers ---


def fields(data: bytes) -> list[tuple[int, int | bytes]] | None:
    """A message's fields, or None for bytes that are none."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if at < 0 or not tag >> 3:
            return None
        value, at = _varint(data, at)
        if at < 0 or tag & 7 not in (0, 2):
            return None
        if tag & 7 == 2:
            if at + value > len(data):
                return None
            found.append((tag >> 3, data[at : at + value]))
            at += value
        else:
            found.append((tag >> 3, value))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return 0, -1
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    return 0, -1


def message(data: bytes, draw: random.Random) -> bytes:
    """A message's fields, or those of a message in it, at any depth."""
    found = fields(data)
    if not found:
        return bytewise(data, draw)
    at = draw.randrange(len(found))
    field, value = found[at]
    how = draw.randrange(10)
    if how == 0:
        del found[at]
    elif how == 1:
        found.insert(at, found[draw.randrange(len(found))])
    elif how == 2:
        found[at] = (draw.choice((1, 2, 5, 7, 8, 9, 13, 14, field + 1)), value)
    elif how == 3:
        raw = varint(field << 3 | draw.randrange(8)) + varint(draw.choice(NUMBERS))
        pieces = [part(*one) for one in found]
        pieces.insert(at, raw)
        return b"".join(pieces)
    elif isinstance(value, int):
        found[at] = (field, draw.choice(NUMBERS))
    else:
        found[at] = (field, message(value, draw))
    return b"".join(part(*one) for one in found)


def counted(data: bytes, draw: random.Random) -> bytes:
    """GGUF's counts, lengths and types, which stand as 4 or 8 bytes with many zeros."""
    places = [at for at in range(4, len(data) - 8) if data[at + 1 : at + 4] == b"\0\0\0"]
    if not places or draw.random() < 0.3:
        return bytewise(data, draw)
    at, width = draw.choice(places), draw.choice((4, 8))
    value = draw.choice((*ODD, data[at] + 1, data[at] - 1)) & (256**width - 1)
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def mixed(data: bytes, draw: random.Random) -> bytes:
    """By what the data looks like."""
    if data.startswith(b"PK"):
        return zipped(data, draw)
    if data[257:262] == b"ustar":
        return tarred(data, draw)
    if data.startswith((b"\x80", b"c", b"(")):
        return pickled(data, draw)
    if data[8:9] == b"{":
        return header(data, draw)
    if data[:1] == b"{":
        return jsonic(data, draw)
    return message(data, draw)


MUTATORS: dict[str, Mutator] = {
    "pickle": pickled,
    "zip": zipped,
    "legacy": pickled,
    "tar": tarred,
    "safetensors": header,
    "index": jsonic,
    "onnx": message,
    "gguf": counted,
    "numpy": mixed,
    "nested": mixed,
    "runs": zipped,
    "any": mixed,
    "inspect": mixed,
}


def mutate(reader: str, data: bytes, draw: random.Random) -> bytes:
    """Mostly by the format, sometimes byte by byte."""
    if draw.random() < 0.25:
        return bytewise(data, draw)
    return MUTATORS[reader](data, draw)
