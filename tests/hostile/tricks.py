"""Containers that two readers could read in two ways, or that cost more than their bytes."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

from .archives import _gguf_tensor, _pair, _text, gguf
from .build import (
    FLOATS,
    STATE,
    Member,
    entry,
    members,
    pickled,
    safetensors,
    tar_bytes,
    torch_tar,
    torch_zip,
    zip_bytes,
)
from .case import READ, REFUSED, Case, holding

# --- GGUF ---

_WORD = struct.Struct("<I").pack

_GGUF: tuple[tuple[str, bytes, int, str], ...] = (
    ("tensors at one place", gguf([_gguf_tensor("a"), _gguf_tensor("b")]), REFUSED, "tensors overlap"),
    ("tensors half over each other", gguf([_gguf_tensor("a"), _gguf_tensor("b", (1,), 0, 20)]), REFUSED, "tensors overlap"),
    ("100,000 tensors at one place", gguf([_gguf_tensor(f"w{n}") for n in range(100_000)]), REFUSED, "tensors overlap"),
    ("a value twice", gguf(pairs=[_pair("a", 4, _WORD(1))] * 2), REFUSED, "stands twice"),
    ("two alignments", gguf(pairs=[_pair("general.alignment", 4, _WORD(32)), _pair("general.alignment", 4, _WORD(64))]), REFUSED, "stands twice"),
    ("an alignment of 33", gguf(pairs=[_pair("general.alignment", 4, _WORD(33))], data=FLOATS + bytes(40)), READ, "gguf"),
    ("an alignment of True", gguf(pairs=[_pair("general.alignment", 7, b"\x01")]), REFUSED, "alignment"),
    ("an alignment of -32", gguf(pairs=[_pair("general.alignment", 5, struct.pack("<i", -32))]), REFUSED, "alignment"),
    ("a rank of 2**32 - 1", gguf([_text("w") + _WORD(0xFFFFFFFF)]), REFUSED, "4,294,967,295 dimensions"),
    ("a rank of 0", gguf([_gguf_tensor(dims=())]), READ, "1 tensors"),
    ("sizes of 0 and 2**62", gguf([_gguf_tensor(dims=(0, 1 << 62, 1 << 62))]), READ, "1 tensors"),
    ("an array of arrays of arrays", gguf(pairs=[_pair("a", 9, struct.pack("<IQ", 9, 3) * 50)]), REFUSED, "array of arrays"),
    ("an array of texts that overlap the end", gguf(pairs=[_pair("a", 9, struct.pack("<IQ", 8, 2) + struct.pack("<Q", 1 << 62))]), REFUSED, "text"),
    ("numbers that are none", gguf(pairs=[_pair("a", 6, struct.pack("<f", float("nan"))), _pair("b", 12, struct.pack("<d", float("inf")))]), READ, "gguf"),
    ("a key of nothing", gguf(pairs=[_pair("", 4, _WORD(1))]), READ, "gguf"),
    ("a name of 65,000 characters", gguf([_gguf_tensor("w" * 65_000)]), REFUSED, "a key of 65,000 characters"),
)  # fmt: skip

# --- zip64 ---


def _central(data: bytes) -> int:
    """Where the first entry of the directory lies."""
    return data.index(b"PK\x01\x02")


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """The bytes with some of them changed."""
    return data[:at] + new + data[at + len(new) :]


def local_zip64(size: int, packed: int, again: bytes = b"") -> bytes:
    """A zip whose first local header keeps its sizes in a zip64 field."""
    made = members()
    made[0].extra = struct.pack("<HHQQ", 1, 16, size, packed) + again
    data = zip_bytes(made)
    return patched(data, 18, b"\xff" * 8)  # both sizes of the local header


def central_zip64(*fields: tuple[int, ...]) -> bytes:
    """A zip whose first entry in the directory keeps its size in these zip64 fields."""
    data = zip_bytes(members())
    at = _central(data)
    extra = b"".join(struct.pack(f"<HH{len(one)}Q", 1, 8 * len(one), *one) for one in fields)
    name = struct.unpack_from("<H", data, at + 28)[0]
    data = patched(data, at + 24, b"\xff" * 4)  # its size
    data = patched(data, at + 30, struct.pack("<H", len(extra)))
    end = at + 46 + name
    data = data[:end] + extra + data[end:]
    last = data.rindex(b"PK\x05\x06")
    size = struct.unpack_from("<I", data, last + 12)[0]
    return patched(data, last + 12, struct.pack("<I", size + len(extra)))


_SIZE = len(STATE)
_ZIP: tuple[tuple[str, bytes, int, str], ...] = (
    ("a local zip64 field", local_zip64(_SIZE, _SIZE), READ, "torch-zip"),
    ("a local zip64 field that lies", local_zip64(_SIZE + 1, _SIZE), REFUSED, "two headers"),
    ("a local zip64 field of 2**63", local_zip64(1 << 63, 1 << 63), REFUSED, "two headers"),
    ("two local zip64 fields", local_zip64(_SIZE, _SIZE, struct.pack("<HHQQ", 1, 16, 1, 1)), REFUSED, "two headers"),
    ("a zip64 field", central_zip64((_SIZE,)), READ, "torch-zip"),
    ("two zip64 fields", central_zip64((_SIZE,), (1,)), REFUSED, "can't be read"),
    ("a zip64 field of nothing", central_zip64(()), REFUSED, "4,294,967,295 bytes"),
    ("a zip64 field of 2**63", central_zip64((1 << 63,)), REFUSED, "limit"),
    ("a member on disk 7", patched(torch_zip(), _central(torch_zip()) + 34, b"\x07\0"), REFUSED, "several parts"),
)  # fmt: skip

# --- tar ---


def extended(records: str, kind: bytes = b"x") -> bytes:
    """A header that says more about the next member."""
    return tar_bytes([("PaxHeaders/x", records.encode())], kind)[:-1024]


def record(key: str, value: str) -> str:
    """A record of such a header."""
    text = f" {key}={value}\n"
    return f"{len(text) + 2}{text}"


_CHECKPOINT = tar_bytes([("model.pth", torch_zip())])
_TAR: tuple[tuple[str, bytes, int, str], ...] = (
    ("a longer name", extended(record("path", "a/model.pth")) + tar_bytes([("x", torch_zip())]), READ, "tar of torch-zip"),
    ("a longer name as GNU has it", extended("a/model.pth\0", b"L") + tar_bytes([("x", torch_zip())]), READ, "tar of torch-zip"),
    ("a name for all members", extended(record("path", "pickle"), b"g") + _CHECKPOINT, REFUSED, "a doctored tar"),
    ("a size elsewhere", extended(record("size", "9999")) + _CHECKPOINT, REFUSED, "a doctored tar"),
    ("a sparse member", extended(record("GNU.sparse.realsize", "99999999")) + _CHECKPOINT, REFUSED, "a doctored tar"),
    ("a sparse member as GNU has it", tar_bytes([("model.pth", torch_zip())], b"S"), REFUSED, "a doctored tar"),
    ("a part by a longer name", extended(record("path", "pickle")) + torch_tar(), REFUSED, "twice"),
)  # fmt: skip

# --- nested ---


def within(levels: int) -> bytes:
    """A zip in a tar in a zip ..., a checkpoint in the innermost."""
    data = torch_zip()
    for level in range(levels):
        name = "model.pth" if level == 0 else "inner.tar" if level % 2 == 0 else "inner.pth"
        data = tar_bytes([(name, data)]) if level % 2 else zip_bytes([Member(name, data)])
    return data


_NESTED: tuple[tuple[str, bytes, int, str], ...] = (
    ("a zip in a tar in a zip", within(3), READ, "zip of tar of"),
    ("ten of them", within(10), REFUSED, "unpack it first"),
    ("a name that is the archive's own", zip_bytes([Member("x.pth", zip_bytes([Member("x.pth", torch_zip())]))]), READ, "zip of zip"),
)  # fmt: skip

# --- index.json ---


def linked(count: int, hard: bool, tensors: int = 1):  # type: ignore[no-untyped-def]
    """An index of many shards, all of them links to one file."""

    def write(folder: Path) -> Path:
        first = folder / "s0.safetensors"
        header = {f"w{n}": entry((), 4 * n, 4 * n + 4) for n in range(tensors)}
        first.write_bytes(safetensors(header, bytes(4 * tensors)))
        for n in range(1, count):
            link = os.link if hard else os.symlink
            link(first, folder / f"s{n}.safetensors")
        weights = {f"w{n}": f"s{n % count}.safetensors" for n in range(max(count, tensors))}
        path = folder / "m.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": weights}))
        return path

    return write


def many(count: int, tensors: int):  # type: ignore[no-untyped-def]
    """An index of shards of many tensors each."""

    def write(folder: Path) -> Path:
        for n in range(count):
            header = {f"{n}.{m}": entry((0,), 0, 0) for m in range(tensors)}
            (folder / f"s{n}").write_bytes(safetensors(header, b""))
        path = folder / "m.index.json"
        path.write_text(json.dumps({"weight_map": {f"{n}.0": f"s{n}" for n in range(count)}}))
        return path

    return write


def looped(folder: Path) -> Path:
    """Two indices that name each other."""
    for one, other in (("a", "b"), ("b", "a")):
        text = json.dumps({"weight_map": {"w": f"{other}.index.json"}})
        (folder / f"{one}.index.json").write_text(text)
    return folder / "a.index.json"


def unindexed(folder: Path) -> Path:
    """A folder of shards without their index, all of them one file."""
    first = folder / "m" / "model-00001-of-00500.safetensors"
    first.parent.mkdir()
    first.write_bytes(safetensors({"w": entry()}))
    for n in range(2, 501):
        os.link(first, folder / "m" / f"model-{n:05}-of-00500.safetensors")
    return folder / "m"


_INDEX = (
    ("two shards that are one file", linked(2, True), READ, "same file as s0.safetensors"),
    (
        "two shards that are one file by a link",
        linked(2, False),
        READ,
        "same file as s0.safetensors",
    ),
    (
        "9,000 links to 20,000 tensors",
        linked(9_000, True, 20_000),
        READ,
        "same file as s0.safetensors",
    ),
    ("shards of 400,000 tensors together", many(8, 50_000), REFUSED, "more than 300,000 tensors"),
    ("two that name each other", looped, REFUSED, "none of its 1 shards"),
    ("500 shards that are one file, without an index", unindexed, READ, "same file as"),
)

TRICKS: list[Case] = [
    *(Case(f"gguf/{where}", holding(data), code, says) for where, data, code, says in _GGUF),
    *(Case(f"zip/{where}", holding(data), code, says) for where, data, code, says in _ZIP),
    *(Case(f"tar/{where}", holding(data), code, says) for where, data, code, says in _TAR),
    *(Case(f"nested/{where}", holding(data), code, says) for where, data, code, says in _NESTED),
    *(
        Case(f"index/{where}", write, code, says, "9,000" in where)  # its index claims other shards
        for where, write, code, says in _INDEX
    ),
    Case("pickle/a number that is none", holding(torch_zip(pickled(b"}(X\x01\0\0\0aG\x7f\xf8\0\0\0\0\0\0u" b"0" + STATE[2:-1]))), READ, "torch-zip"),
]  # fmt: skip
