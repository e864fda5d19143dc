"""A zip file's central directory, read strictly.

Python's zipfile and torch's own reader disagree on damaged or doctored archives (which of two
members with one name counts, whether a flag bit hides a file), and scanners have been fooled that
way. Anything on which two readers could disagree is refused here.
"""

from __future__ import annotations

import struct
import zlib
from operator import attrgetter

from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint, Truncated
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.source import ByteSource
from archfind.frozen import row, rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s4x2H4x3L4H2x2L")  # without versions and times
_LOCAL = struct.Struct("<4s5H3L2H")
_LENGTHS = struct.Struct("<2H").unpack_from  # its last two fields: of the name, of what follows it
_DEFLATED, _STORED = 8, 0
_DESCRIPTOR, _UTF8 = 0x8, 0x800
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # the members, strongly, or the directory itself
_UNUSUAL = ~(0x6 | _DESCRIPTOR | _UTF8)  # but for two bits of how well it was deflated
_FULL = 0xFFFFFFFF  # a field whose value is among the extra ones
_LINK, _KIND = 0xA000, 0xF000  # of a Unix mode, in the upper half of the attributes
_SMALL, _NEAR = 4096, 1 << 16  # bytes of a small member, and of what is read around it


@row
class ZipMember:
    """One member as the central directory describes it."""

    name: bytes
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    header: int


class ZipDirectory:
    """The members by name, in the order of the directory."""

    __slots__ = (
        "comment",
        "inflated",
        "members",
        "near",
        "near_start",
        "same",
        "same_kind",
        "source",
    )

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.near, self.near_start = b"", 0
        # the start of a header that was found right, and that says nothing of its own member
        self.same_kind, self.same = (-1, -1), b""
        self.inflated = 0
        end, count, size, start, self.comment = _find_end(source)
        if start + size > end:
            raise NotACheckpoint("a damaged zip: its directory lies outside the file", source.path)
        if start + size < end:
            raise CheckpointError("a doctored zip: bytes follow its directory", source.path)
        if count > limits.ZIP_MEMBERS:
            raise LimitExceeded(
                f"refused: a zip of {count:,} members (limit {limits.ZIP_MEMBERS:,})", source.path
            )
        if size > count * 1024 + 65_536:  # names of 200,000 honest members take about 30 bytes each
            raise LimitExceeded("refused: a zip directory of long names", source.path)
        self.members = _members(source, source.read(start, size), count)
        _refuse_overlap(source, self.members, start)

    def data_start(self, member: ZipMember) -> int:
        """Where the member's bytes begin, after checking that both its headers agree."""
        return self.data_starts((member,))[0]

    def data_starts(self, members: Sequence[ZipMember]) -> list[int]:
        """The same of many members."""
        starts: list[int] = []
        width, end = _LOCAL.size, self.source.size
        for member in members:
            name, method, flags, _, packed, _, header = member  # pyright: ignore
            near, at = self.near, header - self.near_start
            if (  # what is at hand, and as the last one was
                0 <= at < len(near) - width
                and near.startswith(self.same, at)
                and near.startswith(name, at + width)
                and self.same_kind == (flags, method)
            ):
                count, extra = _LENGTHS(near, at + width - 4)
                start = header + width + count + extra
                if count == len(name) and start + packed <= end:
                    starts.append(start)
                    continue
            starts.append(self._checked_start(member))
        return starts

    def _checked_start(self, member: ZipMember) -> int:
        name = member.name
        header, at = self._header(member)
        signature, _, flags, method, _, _, crc, packed, size, name_length, extra = (
            _LOCAL.unpack_from(header, at)
        )
        if (
            signature != b"PK\x03\x04"
            or flags != member.flags
            or method != member.method
            or name_length != len(name)
            or not header.startswith(name, at + _LOCAL.size)
            or not (
                (crc == member.crc and size == member.size and packed == member.packed)
                or _sizes_elsewhere(member, crc, packed, size)
            )
        ):
            raise CheckpointError(
                f'a doctored or damaged zip: the two headers of "{_shown(name)}" disagree',
                self.source.path,
            )
        if flags & _DESCRIPTOR and not (crc or packed or size):
            self.same_kind, self.same = (flags, method), header[at : at + _LOCAL.size - 4]
        start = member.header + _LOCAL.size + name_length + extra
        if _FULL in (packed, size) and _FULL not in (member.packed, member.size):
            self._check_wide(member, start - extra, extra, packed, size)
        if start + member.packed > self.source.size:
            raise Truncated(
                f'cut off: "{_shown(name)}" reaches beyond the file. Download it again.',
                self.source.path,
            )
        return start

    def _check_wide(self, member: ZipMember, at: int, length: int, packed: int, size: int) -> None:
        """The sizes in a local zip64 field are the directory's, or left to a record behind."""
        try:
            packed, size, _ = _wide(self.source.read(at, length), packed, size, 0)
        except struct.error:
            packed = size = -1
        if packed not in (0, member.packed) or size not in (0, member.size):
            raise CheckpointError(
                f'a doctored zip: the two headers of "{_shown(member.name)}" disagree',
                self.source.path,
            )

    def _header(self, member: ZipMember) -> tuple[bytes, int]:
        """Bytes in which a member's local header lies, and where. Where members are small, one read
        fetches many of them."""
        at, length = member.header, _LOCAL.size + len(member.name)
        if member.packed < _SMALL:
            start = at - self.near_start
            if not 0 <= start <= len(self.near) - length:
                size = self.source.size - at
                self.near = self.source.read(at, min(_NEAR, size) if size > length else length)
                self.near_start, start = at, 0
            return self.near, start
        return self.source.read(at, length), 0

    def read(self, member: ZipMember, limit: int) -> bytes:
        """The member's bytes, inflated if need be, of which there may be `limit`."""
        name = _shown(member.name)
        if member.size > limit:
            raise LimitExceeded(
                f"refused: {name} holds {member.size:,} bytes (limit {limit:,})", self.source.path
            )
        start = self.data_start(member)
        if member.method == _STORED:
            if member.packed != member.size:
                raise CheckpointError(f"a damaged zip: sizes of {name} differ", self.source.path)
            data = self.source.read(start, member.size)
        elif member.method == _DEFLATED:
            if member.size > member.packed * limits.ZIP_RATIO + 4096:
                raise LimitExceeded(
                    f"refused: {name} inflates more than {limits.ZIP_RATIO}:1", self.source.path
                )
            self._charge(member.size)
            inflate = zlib.decompressobj(-15)
            try:
                data = inflate.decompress(self.source.read(start, member.packed), member.size + 1)
            except zlib.error:
                raise CheckpointError(
                    f"damaged: {name} doesn't inflate", self.source.path
                ) from None
            if len(data) != member.size or not inflate.eof or inflate.unused_data:
                raise CheckpointError(
                    f"damaged: {name} inflates to another size than its header says",
                    self.source.path,
                )
        else:
            raise CheckpointError(
                f"{name} is compressed by method {member.method}, which torch never uses",
                self.source.path,
            )
        if zlib.crc32(data) != member.crc:
            raise CheckpointError(
                f"damaged: the checksum of {name} is wrong. Download it again.", self.source.path
            )
        return data

    def _charge(self, size: int) -> None:
        """Counts what is inflated: a zip may hold 200,000 members, each below its limit."""
        self.inflated += size
        if self.inflated > limits.ZIP_INFLATED:
            raise LimitExceeded(
                f"refused: its members inflate to more than {limits.ZIP_INFLATED >> 20} MB",
                self.source.path,
            )

    def head(self, member: ZipMember, length: int) -> bytes:
        """The first bytes of a member, stored or deflated; no checksum covers them."""
        if member.method == _DEFLATED:
            return self.start_of(member, length)
        return self.source.read(self.data_start(member), min(length, member.size))

    def start_of(self, member: ZipMember, length: int) -> bytes:
        """The first bytes of a deflated member; no checksum covers them."""
        if member.method != _DEFLATED:
            raise CheckpointError(
                f"{_shown(member.name)} is compressed by method {member.method}", self.source.path
            )
        self._charge(min(length, member.size))
        start = self.data_start(member)
        packed = self.source.read(start, min(member.packed, length))
        try:
            return zlib.decompressobj(-15).decompress(packed, min(length, member.size))
        except zlib.error:
            raise CheckpointError(
                f"damaged: {_shown(member.name)} doesn't inflate", self.source.path
            ) from None


def _sizes_elsewhere(member: ZipMember, crc: int, packed: int, size: int) -> bool:
    """Whether a local header leaves its sizes to a record behind the data, or to zip64."""
    if member.flags & _DESCRIPTOR:
        return crc in (0, member.crc) and size in (0, 0xFFFFFFFF, member.size)
    return crc == member.crc and 0xFFFFFFFF in (packed, size)


def _find_end(source: ByteSource) -> tuple[int, int, int, int, bytes]:
    """Where the end record is, and from it: member count, directory size and start, comment."""
    tail = source.tail(_END.size + 65_535)
    at = len(tail) - _END.size
    while at >= 0:  # only a comment can stand behind it
        at = tail.rfind(b"PK\x05\x06", 0, at + 4)
        if at < 0 or at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(
            tail
        ):
            break
        at -= 1
    if at < 0:
        raise Truncated(
            f"a cut-off PyTorch or zip file: the end of the archive is missing after "
            f"{source.size:,} bytes. Download it again.",
            source.path,
        )
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(tail, at)
    end = source.size - len(tail) + at
    comment = tail[at + _END.size :]
    short = (here, count, size, start)
    wide = 0xFFFF in short[:2] or 0xFFFFFFFF in short[2:]
    # where the longer record is, other readers go by it, even if the short one is enough
    if wide or tail[max(0, at - _LOCATOR.size) : at].startswith(b"PK\x06\x07"):
        end, disk, first_disk, here, count, size, start = _find_end64(source, end)
        full = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        if any(
            one not in (limit, other)
            for one, limit, other in zip(short, full, (here, count, size, start), strict=True)
        ):
            raise CheckpointError("a doctored zip: its two end records disagree", source.path)
    if disk or first_disk or here != count:
        raise NotACheckpoint("one part of a zip in several parts; join them first", source.path)
    return end, count, size, start, comment


def _find_end64(source: ByteSource, end: int) -> tuple[int, int, int, int, int, int, int]:
    damaged = NotACheckpoint("a damaged zip: its zip64 end record is wrong", source.path)
    if end < _LOCATOR.size + _END64.size:
        raise damaged
    magic, _, at, disks = _LOCATOR.unpack(source.read(end - _LOCATOR.size, _LOCATOR.size))
    if magic != b"PK\x06\x07" or disks > 1 or at + _END64.size > end - _LOCATOR.size:
        raise damaged
    magic, length, _, _, disk, first_disk, here, count, size, start = _END64.unpack(
        source.read(at, _END64.size)
    )
    if magic != b"PK\x06\x06" or at + 12 + length != end - _LOCATOR.size:
        raise damaged
    return at, disk, first_disk, here, count, size, start


def _members(source: ByteSource, directory: bytes, count: int) -> dict[str, ZipMember]:
    names: list[str] = []
    members: list[tuple[bytes, int, int, int, int, int, int]] = []
    damaged = NotACheckpoint("a damaged zip: its directory can't be read", source.path)
    unpack, width = _CENTRAL.unpack_from, _CENTRAL.size
    at = 0
    for _ in range(count):
        if at + width > len(directory):
            raise damaged
        magic, flags, method, crc, packed, size, n, extra, comment, disk, mode, header = unpack(
            directory, at
        )
        if disk:
            raise NotACheckpoint("a zip in several parts", source.path)
        if magic != b"PK\x01\x02":
            raise damaged
        at += width
        raw = directory[at : at + n]
        at += n
        if packed == _FULL or size == _FULL or header == _FULL:
            try:
                packed, size, header = _wide(directory[at : at + extra], packed, size, header)
            except struct.error:
                raise damaged from None
        at += extra + comment
        try:
            name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
        except UnicodeDecodeError:
            name = raw.decode("cp437")
        if flags & _UNUSUAL:
            if flags & _ENCRYPTED:
                raise NotACheckpoint("an encrypted zip; decrypt it first", source.path)
            raise CheckpointError(
                f'a doctored zip: "{escape(name)}" has a flag that torch never sets', source.path
            )
        if mode >> 16 & _KIND == _LINK:
            raise CheckpointError(f'a doctored zip: "{escape(name)}" is a link', source.path)
        names.append(name)
        members.append((raw, method, flags, crc, packed, size, header))
    if at != len(directory):
        raise damaged
    found = dict(zip(names, rows(ZipMember, members), strict=True))
    if len(found) < len(names):
        seen: set[str] = set()
        name = next(name for name in names if name in seen or seen.add(name))
        raise CheckpointError(f'a doctored zip: it holds "{escape(name)}" twice', source.path)
    lines = "\n".join(names)
    for name in filter(_leaves, names) if _may_leave(lines) else ():
        raise CheckpointError(
            f'a doctored zip: "{escape(name)}" would leave its folder', source.path
        )
    if _may_equal(lines) and len(set(map(str.casefold, names))) < len(names):
        raise CheckpointError(
            "a doctored zip: two names differ only in upper and lower case", source.path
        )
    return found


def _may_leave(names: str) -> bool:
    """Whether any of these names, one a line, needs a closer look."""
    return (
        names[:1] in ("/", "\n", "")
        or names[-1] == "\n"
        or any(part in names for part in ("\n/", "\n\n", "\\", "\0", ":", ".."))
    )


def _may_equal(names: str) -> bool:
    """Whether two of these names, one a line, could differ only in upper and lower case."""
    return not (names.isascii() and names.islower())


def _leaves(name: str) -> bool:
    """Whether unpacking this name could write outside the folder, on any system."""
    if not name or name[0] == "/" or "\\" in name or "\0" in name or name[1:2] == ":":
        return True
    return ".." in name and ".." in name.split("/")


def _wide(extra: bytes, packed: int, size: int, header: int) -> tuple[int, int, int]:
    """The sizes and the place that the zip64 field has, where the plain ones are full. struct.error
    where it is cut or stands twice."""
    at, found = 0, False
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag == 1 and found:
            raise struct.error("two of them")
        if tag == 1:
            found = True
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            # only the fields that are full in the plain header follow, in this order
            size = next(values, size) if size == 0xFFFFFFFF else size
            packed = next(values, packed) if packed == 0xFFFFFFFF else packed
            header = next(values, header) if header == 0xFFFFFFFF else header
        at += 4 + length
    return packed, size, header


def _refuse_overlap(source: ByteSource, members: dict[str, ZipMember], directory: int) -> None:
    end = 0
    gap = 0  # what may stand between two members: the local header's extra field, a descriptor
    for member in sorted(members.values(), key=attrgetter("header")):
        header = member.header
        if header < end:
            raise CheckpointError("a doctored zip: its members overlap", source.path)
        if header > end + gap:
            where = "between its members" if gap else "before its first member"
            raise CheckpointError(
                f"a doctored zip: it holds bytes {where} that no member owns", source.path
            )
        end = header + 30 + len(member.name) + member.packed
        gap = 0xFFFF + 24
    if end > directory:
        raise CheckpointError("a damaged zip: a member reaches into the directory", source.path)


def _shown(name: bytes) -> str:
    return escape(name.decode("utf-8", "replace"))
