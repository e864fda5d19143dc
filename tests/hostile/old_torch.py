"""torch's older containers, doctored and damaged."""

from __future__ import annotations

import struct

from .build import (
    FLOATS,
    MAGIC,
    SYSTEM,
    legacy,
    mapping,
    number,
    numbers,
    pickled,
    tar_bytes,
    tar_storages,
    tar_tensors,
    tensor,
    text,
    torch_tar,
)
from .case import READ, REFUSED, Case, holding

GOOD = legacy()
TAR = torch_tar()


def _keys(*keys: str) -> bytes:
    return pickled(b"](" + b"".join(map(text, keys)) + b"e")


def _two(**changes: object) -> bytes:
    """A file of two tensors in one storage."""
    return legacy(pickled(mapping(a=tensor(), b=tensor(**changes))))  # type: ignore[arg-type]


def _tar_header(**changes: bytes) -> bytes:
    """The tar with its first header changed, and its checksum made right again."""
    data = bytearray(TAR)
    for where, raw in changes.items():
        at = int(where[1:])
        data[at : at + len(raw)] = raw
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


FILES: tuple[tuple[str, bytes, int, str], ...] = (
    ("legacy/honest", GOOD, READ, "torch-legacy"),
    ("legacy/another magic number", legacy(magic=MAGIC[:5] + b"x" + MAGIC[6:]), REFUSED, "x.pth"),
    ("legacy/magic number only", MAGIC, REFUSED, "ends in the middle"),
    ("legacy/another version", legacy(protocol=pickled(number(1002))), REFUSED, "unknown version"),
    ("legacy/a version of text", legacy(protocol=pickled(text("1001"))), REFUSED, "unknown version"),
    ("legacy/no list of storages", legacy(keys=pickled(b"}")), REFUSED, "storages is missing"),
    ("legacy/an unused storage", legacy(keys=_keys("0", "7")), REFUSED, "that nothing uses"),
    ("legacy/a storage not listed", legacy(keys=_keys()), REFUSED, '"0" is not in the file'),
    ("legacy/a storage listed twice", legacy(keys=_keys("0", "0"), data=b"\6" + b"\0" * 7 + FLOATS
     + b"\6" + b"\0" * 7 + FLOATS), REFUSED, "twice"),
    ("legacy/keys that are no texts", legacy(keys=pickled(b"](}]Ne")), REFUSED, "nothing uses"),
    ("legacy/a key with control characters", legacy(keys=_keys("\x1b[31m")), REFUSED, "\\x1b[31m"),
    ("legacy/another number of elements", legacy(data=struct.pack("<q", 5) + FLOATS), REFUSED,
     "another size"),
    ("legacy/a negative number of elements", legacy(data=struct.pack("<q", -6) + FLOATS), REFUSED,
     "another size"),
    ("legacy/2**62 elements", legacy(pickled(mapping(weight=tensor(numel=1 << 62)))), REFUSED,
     "its tensors end at byte 18,446,744,073,709,551,"),
    ("legacy/a negative claim", legacy(pickled(mapping(weight=tensor(numel=-5)))), REFUSED,
     "that nothing uses"),
    ("legacy/data cut off", GOOD[:-4], REFUSED, f"the file has {len(GOOD) - 4:,}"),
    ("legacy/no data", GOOD[:-32], REFUSED, f"the file has {len(GOOD) - 32:,}"),
    ("legacy/pickles cut off", GOOD[:100], REFUSED, "ends in the middle"),
    ("legacy/bytes after", GOOD + b"more", READ, "4 bytes follow the last tensor"),
    ("legacy/another byte order", legacy(system=pickled(mapping(little_endian=b"\x89"))), READ,
     "big-endian"),
    ("legacy/no system", legacy(system=pickled(b"N")), READ, "torch-legacy"),
    ("legacy/a shape beyond its storage", _two(size=(7,), stride=(1,)), READ, "beyond its storage"),
    ("legacy/an offset beyond its storage", _two(offset=1 << 40), READ, "beyond its storage"),
    ("legacy/strides beyond their storage", _two(stride=(6, 1)), READ, "beyond its storage"),
    ("legacy/a shape of 2**63", _two(size=(1 << 63,), stride=(1,)), READ, "impossible shape"),
    ("legacy/a state dict of nothing", legacy(pickled(b"}"), keys=pickled(b"]"), data=b""), REFUSED,
     "no tensors"),
    ("tar/honest", TAR, READ, "torch-tar"),
    ("tar/a link for a pickle", tar_bytes([("sys_info", SYSTEM), ("pickle", b""),
     ("tensors", tar_tensors()), ("storages", tar_storages())], links="pickle"), REFUSED,
     "is a link"),
    ("tar/a part twice", tar_bytes([("pickle", b"x"), ("pickle", b"y")]), REFUSED, "twice"),
    ("tar/a part missing", tar_bytes([("pickle", b"x"), ("tensors", b"y")]), REFUSED,
     "a tar that contains pickle"),
    ("tar/other files", tar_bytes([("model/weights.pth", b"x")]), REFUSED,
     "contains model/weights.pth; unpack it first"),
    ("tar/a name with control characters", tar_bytes([("\x1b[31m.pth", b"x")]), REFUSED,
     "contains \\x1b[31m.pth"),
    ("tar/a name that climbs out", tar_bytes([("../../etc/passwd", b"x")]), REFUSED, "a tar that"),
    ("tar/nothing in it", tar_bytes([("dir", b"")], kind=b"5"), REFUSED, "an empty tar"),
    ("tar/a wrong checksum", TAR[:120] + b"9" + TAR[121:], REFUSED, "checksum is wrong"),
    ("tar/a size that is no number", _tar_header(_124=b"zzzzzzzzzzz\0"), REFUSED, "makes no sense"),
    ("tar/a size of 8 GB", _tar_header(_124=b"77777777777\0"), REFUSED, "cut off"),
    ("tar/a negative size", _tar_header(_124=b"-0000000010\0"), REFUSED, "damaged tar"),
    ("tar/cut off", TAR[:1500], REFUSED, "x.pth"),
    ("tar/only a header", TAR[:512], REFUSED, "cut off"),
    ("tar/2**40 storages", torch_tar(storages=pickled(number(1 << 40))), REFUSED, "makes no sense"),
    ("tar/-1 storages", torch_tar(storages=pickled(number(-1))), REFUSED, "makes no sense"),
    ("tar/a storage of 2**62", torch_tar(storages=tar_storages(1 << 60)), REFUSED, "cut off"),
    ("tar/a storage of -6", torch_tar(storages=tar_storages(-6)), REFUSED, "cut off"),
    ("tar/a storage of unknown class", torch_tar(storages=tar_storages(6, 1, "my.Storage")), REFUSED,
     "x.pth"),
    ("tar/a tensor of 2**31 dimensions", torch_tar(tensors=tar_tensors(rank=(1 << 31) - 1)), REFUSED,
     "makes no sense"),
    ("tar/a tensor of -1 dimensions", torch_tar(tensors=tar_tensors(rank=-1)), REFUSED,
     "makes no sense"),
    ("tar/a tensor of 64 dimensions", torch_tar(tensors=tar_tensors(rank=64)), READ, "torch-tar"),
    ("tar/a tensor of no storage", torch_tar(tensors=tar_tensors(root=5)), REFUSED,
     "makes no sense"),
    ("tar/a shape beyond its storage", torch_tar(tensors=tar_tensors(size=(1 << 40, 3))), READ,
     "beyond its storage"),
    ("tar/a negative shape", torch_tar(tensors=tar_tensors(size=(-2, 3))), READ,
     "impossible shape"),
    ("tar/a negative offset", torch_tar(tensors=tar_tensors(offset=-1)), READ,
     "starts before its storage"),
    ("tar/a pickle of nothing", torch_tar(pickled(b"N")), REFUSED, "no tensors"),
    ("tar/a tensor of no number", torch_tar(pickled(mapping(w=text("99") + b"Q"))), REFUSED,
     "no tensors"),
    ("tar/views of no storage", torch_tar(storages=tar_storages()[:-2] + b"](" + numbers((1, 9, 0, 6))
     + b"e."), REFUSED, "makes no sense"),
)  # fmt: skip

_LIES = ("beyond its storage", "impossible", "before its")

OLD_TORCH: list[Case] = [
    Case(where, holding(data), code, says, code == READ and any(word in says for word in _LIES))
    for where, data, code, says in FILES
]
