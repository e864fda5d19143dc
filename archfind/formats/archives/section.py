"""A file within a file: a member of a zip or tar, read in place or from its inflated bytes."""

from __future__ import annotations

from archfind.formats.source import ByteSource
from archfind.frozen import replace
from archfind.types import Checkpoint, Storage, TensorSpec


class Section(ByteSource):
    """`size` bytes of another source from `start`, read where they are."""

    __slots__ = ("outer", "start")

    def __init__(self, outer: ByteSource, start: int, size: int) -> None:
        self.fd, self.path = -1, outer.path
        self.outer, self.start, self.size = outer, start, size

    @property
    def origin(self) -> int:
        """Where the section starts in the file."""
        outer = self.outer
        return self.start + (outer.origin if isinstance(outer, Section) else 0)

    def _read(self, start: int, length: int) -> bytes:
        return self.outer.read(self.start + start, length)


class Inflated(ByteSource):
    """The bytes of a deflated member, all in memory; the caller has bounded them."""

    __slots__ = ("data",)

    def __init__(self, path: str, data: bytes) -> None:
        self.fd, self.path = -1, path
        self.data, self.size = data, len(data)

    def _read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


def offset_in_file(source: ByteSource) -> int:
    """Where a source starts in its file."""
    return source.origin if isinstance(source, Section) else 0


class Moved:
    """Turns what was read from a section into what the whole file holds. Ties are kept."""

    def __init__(self, start: int, member: str = "") -> None:
        self.start = start
        self.member = member  # of the deflated member, where the section is one
        self._made: dict[Storage, Storage] = {}

    def spec(self, spec: TensorSpec) -> TensorSpec:
        """The same tensor, its bytes counted from the file's start."""
        storage = spec.storage
        made = self._made.get(storage)
        if made is None:
            made = self._made[storage] = self._storage(storage)
        return replace(spec, storage=made)

    def _storage(self, storage: Storage) -> Storage:
        start, nbytes = storage.start, storage.nbytes
        if storage.start < 0:  # kept in another form, or absent
            inside = storage.inside
            if inside and inside[0] == "absent":
                pass
            elif inside and inside[0] in ("swap", "latin-1", "varint") and not self.member:
                inside = (inside[0], "", inside[2] + self.start)
            elif inside:
                inside = ("unknown", "", 0)  # a zip within a zip, both deflated
            return Storage(storage.file, storage.name, -1, nbytes, inside, storage.data)
        if self.member:
            inside = ("deflate", self.member, start)
            return Storage(storage.file, storage.name, -1, nbytes, inside)
        return Storage(storage.file, storage.name, start + self.start, nbytes)

    def checkpoint(self, found: Checkpoint) -> Checkpoint:
        """The same checkpoint, counted from the file's start."""
        return replace(found, index={key: self.spec(spec) for key, spec in found.index.items()})
