"""torch's older container (0.1.10 to 1.5): five pickles in a row, then the storages' bytes."""

from __future__ import annotations

import struct

from archfind.dtypes import ITEMSIZE
from archfind.errors import CheckpointError, NotACheckpoint, Truncated
from archfind.escape import escape
from archfind.formats.magic import LEGACY
from archfind.formats.pickles.nodes import StorageRef
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.formats.torch_files.flatten import Flat, flatten_pickle
from archfind.formats.torch_files.pickles_in_place import machine_at
from archfind.formats.torch_files.tensor_specs import Specs
from archfind.formats.torch_files.torch_objects import Reader
from archfind.types import Checkpoint, Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.pickles.machine import Machine

_PROTOCOL = 1001
_COUNT = struct.Struct("<q").unpack_from
_SMALL, _NEAR = 4096, 1 << 16  # bytes of a small storage, and of what is read around it


def read(source: ByteSource, report: Report) -> Checkpoint:
    """Reads the pickles and finds where each storage lies."""
    reader = Reader(source.path)
    machine = machine_at(source, report, reader, "the pickle")
    tree, keys, big = _pickles(machine, source)
    if big:
        report.warnings.append("big-endian")
    report.container = {"version": _PROTOCOL, "byteorder": "big" if big else "little"}
    report.sources = reader.sources
    found = _locate(source, report, reader, keys, machine.pos)

    def resolve(ref: StorageRef) -> Storage:
        storage = found.get(ref.key)
        if storage is None:
            raise CheckpointError(
                f'damaged: the storage "{escape(ref.key)}" is not in the file', source.path
            )
        if big:
            return Storage(
                source.path, storage.name, -1, storage.nbytes, ("swap", "", storage.start)
            )
        return storage

    flat = Flat(source.path, Specs(source.path, resolve, 0))
    flatten_pickle(tree, flat)
    return report.checkpoint(source, "torch-legacy", flat, tree)


def tree_in_legacy(
    source: ByteSource, report: Report, reader: Reader, where: str
) -> tuple[object, dict[str, tuple[int, int]]]:
    """The value of such a file that a pickle holds as bytes, and where its storages lie in it."""
    machine = machine_at(source, report, reader, where, base=-1)
    tree, keys, big = _pickles(machine, source)
    found = {} if big else _locate(source, Report(), reader, keys, machine.pos)
    return tree, {key: (one.start, one.nbytes) for key, one in found.items()}


def _pickles(machine: Machine, source: ByteSource) -> tuple[object, list[object], bool]:
    """The five pickles: the tree, the storages' keys, and whether they are big-endian."""
    if machine.run() != LEGACY:
        raise NotACheckpoint("damaged: torch's magic number is wrong", source.path)
    if machine.run() != _PROTOCOL:
        raise CheckpointError("made by an unknown version of torch's format", source.path)
    system = machine.run()
    big = type(system) is dict and system.get("little_endian") is False
    tree = machine.run()
    keys = machine.run()
    if type(keys) is not list:
        raise NotACheckpoint("damaged: the list of its storages is missing", source.path)
    return tree, keys, big


def _locate(
    source: ByteSource, report: Report, reader: Reader, keys: list[object], pos: int
) -> dict[str, Storage]:
    """Where each storage lies: in the order of `keys`, each an 8-byte count and its elements."""
    found: dict[str, Storage] = {}
    sizes: list[tuple[str, int, int]] = []
    listed: set[str] = set()
    need = pos
    for key in keys:
        name = key if type(key) is str else str(key) if type(key) is int else ""
        ref = reader.by_key.get(name)
        if ref is None or ref.numel < 0:
            raise CheckpointError(
                f'damaged: it lists a storage "{escape(name)}" that nothing uses', source.path
            )
        if name in listed:
            raise CheckpointError(
                f'damaged: it lists the storage "{escape(name)}" twice', source.path
            )
        listed.add(name)
        nbytes = ref.numel * ITEMSIZE.get(ref.dtype, 1)
        sizes.append((name, ref.numel, nbytes))
        need += 8 + nbytes
    if need > source.size:
        raise Truncated(
            f"cut off: its tensors end at byte {need:,}, the file has {source.size:,}. "
            "Download it again.",
            source.path,
        )
    if need < source.size:
        report.warnings.append(f"{source.size - need:,} bytes follow the last tensor")
    near, start = b"", 0
    for name, numel, nbytes in sizes:
        if not 0 <= pos - start <= len(near) - 8:
            # where storages are small, one read fetches the counts of many
            near = source.read(pos, min(_NEAR, source.size - pos) if nbytes < _SMALL else 8)
            start = pos
        if _COUNT(near, pos - start)[0] != numel:
            raise CheckpointError(
                f'damaged: the storage "{escape(name)}" has another size than the pickle says',
                source.path,
            )
        found[name] = Storage(source.path, name, pos + 8, nbytes)
        pos += 8 + nbytes
    return found
