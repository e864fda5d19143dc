"""torch's first container (0.1.1 to 0.1.9): a tar of `storages`, `tensors` and `pickle`."""

from __future__ import annotations

import struct

from archfind.dtypes import ITEMSIZE
from archfind.errors import CheckpointError, NotACheckpoint, Truncated
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.pickles.nodes import StorageRef, Tensor
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.formats.torch_files.flatten import Flat, flatten_pickle
from archfind.formats.torch_files.pickles_in_place import machine_at
from archfind.formats.torch_files.tensor_specs import Specs
from archfind.formats.torch_files.torch_objects import Reader, dtype_of
from archfind.types import Checkpoint, Storage

_BLOCK = 512
_MEMBERS = 10_000
_EXTENDED = 1 << 16  # bytes of a header with a longer name
_PARTS = ("storages", "tensors", "pickle")


class _Tar:
    """One tar's parts, and the objects that its three pickles share by number."""

    def __init__(self, source: ByteSource, report: Report) -> None:
        self.source = source
        self.report = report
        self.reader = Reader(source.path)
        self.spans = _members(source)
        self.storages: dict[int | str, StorageRef] = {}
        self.tensors: dict[int | str, Tensor] = {}
        self.bytes: dict[str, Storage] = {}

    def damaged(self, part: str) -> CheckpointError:
        return CheckpointError(f'damaged: "{part}" in the tar makes no sense', self.source.path)

    def span(self, part: str) -> tuple[int, int]:
        if part not in self.spans:
            names = [escape(name, 60) for name in self.spans]
            shown = f"a tar that contains {names[0]}; unpack it first" if names else "an empty tar"
            raise NotACheckpoint(shown, self.source.path)
        return self.spans[part]

    def pickle(self, part: str, start: int, end: int) -> tuple[object, int]:
        """The value of the pickle at `start`, and where it ends."""
        machine = machine_at(
            self.source,
            self.report,
            self.reader,
            f'"{part}" in the tar',
            start,
            end,
            self.load,
            look=1 << 18 if part == "pickle" else 1 << 10,  # tensor data lies between the others
        )
        value = machine.run()
        if len(self.report.machines) > len(_PARTS):  # one for every storage: keep the names only
            self.report.machines.pop()
            for name, node in machine.globals.items():
                self.report.machines[0].globals.setdefault(name, node)
        return value, start + machine.pos

    def load(self, key: object) -> object:
        """A persistent id of the last pickle: a tensor's or storage's number, or a class."""
        if type(key) is tuple:
            if len(key) > 2:
                self.reader.keep_source(key[0], key[2])
            return key[0] if key else None
        number = int(key) if type(key) is str and key.isdecimal() and len(key) < 30 else key
        if type(number) is not int:
            return None
        return self.tensors.get(number) or self.storages.get(number)

    def read_storages(self) -> None:
        start, end = self.span("storages")
        count, at = self.pickle("storages", start, end)
        for _ in range(self._count(count, "storages")):
            value, at = self.pickle("storages", at, end)
            if type(value) is not tuple or len(value) != 3 or type(value[0]) is not int:
                raise self.damaged("storages")
            numel = struct.unpack("<q", self.source.read(at, 8))[0]
            dtype = dtype_of(value[2]) or "uint8"
            nbytes = numel * ITEMSIZE[dtype]
            at += 8
            if numel < 0 or at + nbytes > end:
                raise Truncated(
                    f"cut off: a storage ends at byte {at + nbytes:,}, its part of the file at "
                    f"{end:,}. Download it again.",
                    self.source.path,
                )
            name = str(value[0])
            self.storages[value[0]] = StorageRef(name, dtype, numel)
            self.bytes[name] = Storage(self.source.path, name, at, nbytes)
            at += nbytes
        views, _ = self.pickle("storages", at, end)
        for view in views if type(views) is list else ():
            if type(view) is not tuple or len(view) != 4 or set(map(type, view)) != {int}:
                raise self.damaged("storages")
            root = self.storages.get(view[1])  # pyright: ignore
            if root is None:
                raise self.damaged("storages")
            part = StorageRef(root.key, root.dtype, root.numel, view[2])  # pyright: ignore
            part.root = root
            self.storages[view[0]] = part  # pyright: ignore

    def read_tensors(self) -> None:
        start, end = self.span("tensors")
        count, at = self.pickle("tensors", start, end)
        for _ in range(self._count(count, "tensors")):
            value, at = self.pickle("tensors", at, end)
            if type(value) is not tuple or len(value) != 3 or set(map(type, value[:2])) != {int}:
                raise self.damaged("tensors")
            (rank,) = struct.unpack("<i", self.source.read(at, 4))
            if not 0 <= rank <= limits.DIMENSIONS:
                raise self.damaged("tensors")
            at += 8  # the rank is written as 8 bytes
            numbers = struct.unpack(f"<{2 * rank + 1}q", self.source.read(at, 16 * rank + 8))
            at += 16 * rank + 8
            storage = self.storages.get(value[1])
            if storage is None:
                raise self.damaged("tensors")
            self.tensors[value[0]] = Tensor(
                storage, numbers[-1], numbers[:rank], numbers[rank : 2 * rank], storage.dtype
            )

    def _count(self, count: object, part: str) -> int:
        if type(count) is not int or not 0 <= count <= limits.ZIP_MEMBERS:
            raise self.damaged(part)
        return count


def read(source: ByteSource, report: Report) -> Checkpoint:
    """Reads the three parts in the order in which they refer to each other."""
    tar = _Tar(source, report)
    if not set(_PARTS).issubset(tar.spans):
        from archfind.formats import read_section
        from archfind.formats.archives import nested

        if nested.models(list(tar.spans)):
            return nested.read(nested.TarContainer(source, tar.spans), report, read_section)
    for part in _PARTS:
        tar.span(part)  # another kind of tar is named before anything is read
    tar.read_storages()
    tar.read_tensors()
    tree, _ = tar.pickle("pickle", *tar.span("pickle"))
    report.sources = tar.reader.sources
    flat = Flat(source.path, Specs(source.path, lambda ref: tar.bytes[ref.key]))
    flatten_pickle(tree, flat)
    return report.checkpoint(source, "torch-tar", flat, tree)


def _members(source: ByteSource) -> dict[str, tuple[int, int]]:
    """Name -> start and end of each plain member, found by walking the headers."""
    found: dict[str, tuple[int, int]] = {}
    at, longer = 0, ""  # the next member's name, where an extended header has it
    for _ in range(_MEMBERS):
        if at + _BLOCK > source.size:
            break
        header = source.read(at, _BLOCK)
        if not header.strip(b"\0"):
            break
        text = header[124:136].strip(b" \0")
        name = header[:100].partition(b"\0")[0].decode("utf-8", "backslashreplace")
        checksum = sum(header[:148]) + 256 + sum(header[156:])
        try:
            size = int(text or b"0", 8)
            stated = int(header[148:156].strip(b" \0") or b"0", 8)
        except ValueError:
            raise NotACheckpoint("a damaged tar: a header makes no sense", source.path) from None
        if stated != checksum or size < 0:
            raise NotACheckpoint("a damaged tar: a checksum is wrong", source.path)
        at += _BLOCK
        kind = header[156:157]
        if kind in b"xgLKS":
            longer = _extended(source, kind, at, size) or longer
            at += size + -size % _BLOCK
            continue
        name, longer = longer or name, ""
        if kind in (b"0", b"\0"):
            if name in found:
                raise CheckpointError(
                    f'a doctored tar: it holds "{escape(name)}" twice', source.path
                )
            if at + size > source.size:
                raise Truncated(
                    f'cut off: "{escape(name)}" in the tar ends at byte {at + size:,}, the file '
                    f"has {source.size:,}. Download it again.",
                    source.path,
                )
            found[name] = (at, at + size)
        elif name in _PARTS:
            raise CheckpointError(f'a doctored tar: "{name}" is a link', source.path)
        at += size + -size % _BLOCK
    return found


def _extended(source: ByteSource, kind: bytes, at: int, size: int) -> str:
    """The name that an extended header gives the next member, "" for none. CheckpointError where it
    says anything else about where members lie, on which readers disagree."""
    if kind == b"K":
        return ""  # of a link's target
    if kind == b"S" or size > _EXTENDED or at + size > source.size:
        raise CheckpointError("a doctored tar: a header that torch never writes", source.path)
    raw = source.read(at, size)
    if kind == b"L":
        return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    name = ""
    for record in raw.split(b"\n"):
        key, _, value = record.partition(b" ")[2].partition(b"=")
        if key == b"path" and kind == b"x":
            name = value.decode("utf-8", "backslashreplace")
        elif key in (b"path", b"size") or key.startswith(b"GNU.sparse"):
            raise CheckpointError("a doctored tar: a header that torch never writes", source.path)
    return name
