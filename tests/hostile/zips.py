"""Zip files on which two readers could disagree, and damaged ones."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

from .build import FLOATS, STATE, Member, mapping, members, pickled, tensor, torch_zip, zip_bytes
from .case import READ, REFUSED, Case, holding

GOOD = torch_zip()
_EVIL = pickled(b"cos\nsystem\n)R")
_END = len(GOOD) - 22


def _with(**changes: object) -> bytes:
    """data.pkl's member with headers that lie."""
    return torch_zip(STATE, **changes)


def _doctored(change: dict[int, bytes]) -> bytes:
    data = bytearray(GOOD)
    for at, raw in change.items():
        data[at : at + len(raw)] = raw
    return bytes(data)


def _more(*extra: Member) -> bytes:
    return zip_bytes([*members(), *extra])


def _zip64(short: bool = False, **doctored: int) -> bytes:
    """The same file with a zip64 end record; `short`: though the plain one says it all, too."""
    head = zip_bytes(members())
    end = len(head) - 22
    _, _, _, here, total, size, start, _ = struct.unpack("<4s4H2LH", head[end:])
    found = {"here": here, "total": total, "size": size, "start": start, "length": 44, "at": end}
    found |= doctored
    record = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\x06\x06",
        found["length"],
        45,
        45,
        0,
        0,
        found["here"],
        found["total"],
        found["size"],
        found["start"],
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, found["at"], found.get("disks", 1))
    last = head[end:]
    if not short:
        last = last[:8] + b"\xff" * 12 + last[20:]
    return head[:end] + record + locator + last


def _user_zip(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for one in names:
            archive.writestr(one, b"something")
    return file.getvalue()


def _bomb() -> bytes:
    """data.pkl claims to inflate to 2 GB."""
    return _with(method=8, size=2 << 30, local_size=2 << 30)


FILES: tuple[tuple[str, bytes | Callable[[], bytes], int, str], ...] = (
    ("honest", GOOD, READ, "torch-zip"),
    ("honest, deflated", _with(method=8), READ, "torch-zip"),
    ("honest, zip64", _zip64(), READ, "torch-zip"),
    ("honest, zip64 and short", _zip64(True), READ, "torch-zip"),
    ("two end records that disagree", _zip64(True, here=1, total=1), REFUSED, "end records disagree"),
    ("data.pkl twice", _more(Member("archive/data.pkl", _EVIL)), REFUSED, "twice"),
    ("a storage twice", _more(Member("archive/data/0", FLOATS)), REFUSED, "twice"),
    ("data.pkl in two folders", _more(Member("other/data.pkl", _EVIL)), REFUSED,
     "holds several data.pkl"),
    ("data.pkl in no folder and in one", _more(Member("data.pkl", _EVIL)), REFUSED,
     "holds several data.pkl"),
    ("DATA.PKL as well", _more(Member("archive/DATA.PKL", _EVIL)), REFUSED,
     "differ only in upper and lower case"),
    ("a name that climbs out", _more(Member("archive/../../evil", b"x")), REFUSED,
     "would leave its folder"),
    ("an absolute name", _more(Member("/etc/cron.d/evil", b"x")), REFUSED,
     "would leave its folder"),
    ("a drive's name", _more(Member("C:\\evil", b"x")), REFUSED, "would leave its folder"),
    ("a backslash", _more(Member("archive\\..\\evil", b"x")), REFUSED, "would leave its folder"),
    ("a null byte in a name", _more(Member(b"archive/data.pkl\0.txt", b"x")), REFUSED,
     "would leave its folder"),
    ("an empty name", _more(Member("", b"x")), REFUSED, "would leave its folder"),
    ("a symbolic link", _more(Member("archive/link", b"/etc/passwd", attributes=0o120777 << 16)),
     REFUSED, "is a link"),
    ("control characters in a name", _more(Member("archive/\x1b[31m\n", b"x")), READ, "torch-zip"),
    ("another program's files", _more(Member("readme.txt", b"x")), READ,
     "files that torch did not write"),
    ("another local name", _with(local_name=b"archive/date.pkl"), REFUSED, "two headers"),
    ("a longer local name", _with(local_name=b"archive/data.pkl2"), REFUSED, "two headers"),
    ("a local name of nothing", _with(local_name=b""), REFUSED, "overlap"),
    ("another local method", _with(local_method=8), REFUSED, "two headers"),
    ("other local flags", _with(local_flags=8), REFUSED, "two headers"),
    ("another local size", _with(local_size=5), REFUSED, "two headers"),
    ("a flag for encryption", _with(flags=1), REFUSED, "encrypted"),
    ("a flag for encryption, locally", _with(local_flags=1), REFUSED, "two headers"),
    ("a flag for patches", _with(flags=32), REFUSED, "flag"),
    ("a flag for strong encryption", _with(flags=64), REFUSED, "encrypted"),
    ("a hidden directory", _with(flags=8192), REFUSED, "encrypted"),
    ("method 12", _with(method=12), REFUSED, "method 12"),
    ("method 9", _with(method=9), REFUSED, "method 9"),
    ("method 99", _with(method=99), REFUSED, "method 99"),
    ("a wrong checksum", _with(crc=1), REFUSED, "checksum"),
    ("stored in two sizes", _with(size=len(STATE) + 1), REFUSED, "sizes of"),
    ("deflated nonsense", zip_bytes([Member("a/data.pkl", STATE, method=8)]).replace(
        Member("x", STATE, method=8).packed, b"\xff" * len(Member("x", STATE, method=8).packed)),
     REFUSED, "a/data.pkl doesn't inflate"),
    ("inflates to more", _with(method=8, size=10), REFUSED, "another size"),
    ("inflates to less", _with(method=8, size=len(STATE) + 5), REFUSED, "another size"),
    ("inflates to 2 GB", _bomb(), REFUSED, "limit 67,108,864"),
    ("inflates 1,000:1", lambda: torch_zip(pickled(b"N" + b"0N" * 2_000_000), method=8), REFUSED,
     "inflates more than 200:1"),
    ("a member at 4 GB", _with(header=0xFFFFFFF0), REFUSED, "no member owns"),
    ("a member in the directory", zip_bytes([*members(), Member("archive/data/2", FLOATS,
     header=_END - 200)]), REFUSED, "reaches into the directory"),
    ("members that overlap", zip_bytes(
        [*members(), Member("archive/data/2", FLOATS, header=10)]), REFUSED, "overlap"),
    ("one member under two names", zip_bytes(
        [Member("a/data.pkl", STATE), Member("a/data.bkp", STATE, header=0)]), REFUSED, "overlap"),
    ("bytes before", zip_bytes(members(), before=b"PK\x03\x04" + b"\0" * 60), REFUSED,
     "before its first member"),
    ("bytes between", zip_bytes(members(), between=b"x" * 70_000), REFUSED, "no member owns"),
    ("bytes after", zip_bytes(members(), after=b"x" * 30), REFUSED, "end of the archive is missing"),
    ("a comment", zip_bytes(members(), comment=b"hello"), REFUSED, "ends in a comment"),
    ("a comment that is a zip", zip_bytes(members(), comment=GOOD[_END:]), REFUSED,
     "bytes follow its directory"),
    ("a second end", GOOD + GOOD[_END:], REFUSED, "bytes follow its directory"),
    ("an end record cut", GOOD[:-5], REFUSED, "cut-off PyTorch or zip file"),
    ("no directory", GOOD[: len(GOOD) // 2], REFUSED, "cut-off PyTorch or zip file"),
    ("only the beginning", b"PK\x03\x04", REFUSED, "cut-off PyTorch or zip file"),
    ("only an end", GOOD[_END:], REFUSED, "zip"),
    ("nothing in it", zip_bytes([]), REFUSED, "an empty zip"),
    ("a directory beyond the end", zip_bytes(members(), directory_start=1 << 30), REFUSED,
     "outside the file"),
    ("a directory too short", zip_bytes(members(), directory_size=40), REFUSED,
     "bytes follow its directory"),
    ("a directory of one byte more", zip_bytes(members(), directory_start=1), REFUSED, "zip"),
    ("more members than it has", zip_bytes(members(), count=9), REFUSED, "damaged zip"),
    ("fewer members than it has", zip_bytes(members(), count=1), REFUSED, "damaged zip"),
    ("65,534 members", zip_bytes(members(), count=65_534), REFUSED, "damaged zip"),
    ("the second of two parts", zip_bytes(members(), disk=1), REFUSED, "several parts"),
    ("zip64: 2**60 members", _zip64(here=1 << 60, total=1 << 60), REFUSED, "limit 201,000"),
    ("zip64: a directory of 2**60", _zip64(size=1 << 60), REFUSED, "outside the file"),
    ("zip64: two counts", _zip64(here=1), REFUSED, "several parts"),
    ("zip64: elsewhere", _zip64(at=0), REFUSED, "zip64 end record"),
    ("zip64: of another length", _zip64(length=1 << 40), REFUSED, "zip64 end record"),
    ("zip64: on three disks", _zip64(disks=3), REFUSED, "zip64 end record"),
    ("an encrypted member", _more(Member("archive/x", b"x", flags=1)), REFUSED, "encrypted"),
    ("a bad CRC of byteorder", zip_bytes([*members()[:1], Member("archive/byteorder", b"little",
     crc=5), *members()[2:]]), REFUSED, "checksum of archive/byteorder"),
    ("a byteorder of a megabyte", zip_bytes([*members()[:1], Member("archive/byteorder",
     b" " * 1_000_000)]), REFUSED, "archive/byteorder holds 1,000,000 bytes"),
    ("a storage with a lying local header", zip_bytes([*members()[:2], Member("archive/data/0",
     FLOATS, local_name=b"archive/data/9"), *members()[3:]]), REFUSED, "two headers"),
    ("storages cut short", zip_bytes([*members()[:2], Member("archive/data/0", FLOATS[:8])]), READ,
     "claims 24 bytes of 8"),
    ("a picture of a cat", _user_zip("cat.png"), REFUSED, "a zip that contains cat.png"),
    ("a file to unpack", _user_zip("resnet.pth"), REFUSED, "a zip that contains resnet.pth; unpack it first"),
    ("a file with a bad name", _user_zip("\x1b[31m.pth"), REFUSED, "\\x1b[31m.pth"),
    ("a document", _user_zip("[Content_Types].xml"), REFUSED, "an Office document"),
    ("a Java archive", _user_zip("META-INF/MANIFEST.MF"), REFUSED, "a Java or Android archive"),
    ("a pickle of nothing", torch_zip(pickled(b"}")), REFUSED, "no tensors"),
    ("a state dict of one cell", torch_zip(pickled(mapping(w=tensor(size=(), stride=())))), READ,
     "1 tensors"),
)  # fmt: skip

ZIPS: list[Case] = [
    Case(f"zip/{name}", holding(data), code, says, code == READ and "claims" in says)
    for name, data, code, says in FILES
]
