"""What fuzzing starts from: the small ones among the hostile files, and the honest one of each."""

from __future__ import annotations

import functools
import struct
import tempfile
from pathlib import Path

from hostile import CASES
from hostile.build import STATE, name, text, torch_zip

LONGEST = 2_048
_KINDS = {"any": "", "inspect": "", "runs": "zip"}
_MORE = {"pickle": ("inner",), "zip": ("inner", "second", "changed")}


def _like_torch(count: int = 4) -> bytes:
    """A data.pkl with the very opcodes that torch writes from its 256th object on."""
    puts = iter(range(300, 400))

    def put() -> bytes:
        return b"r" + struct.pack("<I", next(puts))

    held = [text("storage"), name("torch.FloatStorage"), text("cpu")]
    held += [name("collections.OrderedDict"), name("torch._utils._rebuild_tensor_v2")]
    out = b"\x80\x02" + b"".join(one + b"q" + bytes([i]) + b"0" for i, one in enumerate(held))
    out += b"}("
    for i in range(count):
        out += text(f"layer{i}") + b"h\x04((h\x00h\x01" + text("0") + put() + b"h\x02K\x06t" + put()
        out += b"QK\x00K\x02K\x03\x86" + put() + b"K\x03K\x01\x86" + put() + b"\x89h\x03)R" + put()
        out += b"t" + put() + b"R" + put()
    return out + b"u."


@functools.cache
def _all() -> tuple[tuple[str, bytes], ...]:
    found: list[tuple[str, bytes]] = []
    for case in CASES:
        kind = case.name.partition("/")[0]
        if kind in ("path", "size", "name", "bomb"):  # bombs take seconds to be refused
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = case.write(Path(folder))
            if path.is_file() and path.stat().st_size <= LONGEST * (4 if kind == "tar" else 1):
                found.append((kind, path.read_bytes()))
    return tuple(found)


def seeds(reader: str) -> list[bytes]:
    """The seeds for one reader, without repeats."""
    kind = _KINDS.get(reader, reader)
    if reader == "runs":
        return [torch_zip(_like_torch()), torch_zip(_like_torch(1))]
    kinds = (kind, *_MORE.get(kind, ()))
    held = [data for one, data in _all() if one.startswith(kinds)]
    if kind == "pickle":
        held = [STATE, *(data for data in held if not data.startswith(b"PK"))]
    return list(dict.fromkeys(held))
