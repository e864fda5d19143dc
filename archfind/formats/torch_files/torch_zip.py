"""torch's zip container (torch 1.6 and later), and TorchScript, which shares it."""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter

from archfind.dtypes import ITEMSIZE
from archfind.errors import CheckpointError
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.archives.zip_directory import ZipDirectory
from archfind.formats.pickles.machine import Machine
from archfind.formats.pickles.nodes import StorageRef
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.formats.torch_files.flatten import Flat, flatten_pickle
from archfind.formats.torch_files.modules import add_script
from archfind.formats.torch_files.tensor_specs import Specs
from archfind.formats.torch_files.torch_objects import Reader
from archfind.frozen import rows
from archfind.types import Checkpoint, Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.formats.archives.zip_directory import ZipMember

_BESIDE = frozenset(  # what torch writes beside the storages, little of each but the pickle
    ("byteorder", "version", ".format_version", ".storage_alignment", ".data/serialization_id")
)
_SHORT = 64
_method, _size = attrgetter("method"), attrgetter("size")


def read(source: ByteSource, report: Report) -> Checkpoint:
    """Reads `<root>/data.pkl`; the tensors' bytes stay where they are."""
    directory = ZipDirectory(source)
    root = _root(source, directory)
    if root is None:
        from archfind.formats.torch_files import other_zips

        return other_zips.read(source, report, directory)
    members = directory.members
    if directory.comment:
        raise CheckpointError(
            "a doctored zip: it ends in a comment, which torch never writes", source.path
        )
    script = f"{root}constants.pkl" in members
    warnings = report.warnings
    if script:
        warnings.append("contains TorchScript code that runs when loaded")
    order = members.get(f"{root}byteorder")
    big = order is not None and directory.read(order, 64).strip() == b"big"
    if big:
        warnings.append("big-endian")
    report.container = {"root": root.rstrip("/"), "byteorder": "big" if big else "little"}
    version = members.get(f"{root}version")
    if version is not None and version.size < 100:
        text = directory.read(version, 100).decode("ascii", "replace").strip()
        report.container["version"] = int(text) if text.isascii() and text.isdigit() else text
    if script:
        code = sum(name.startswith(f"{root}code/") and name.endswith(".py") for name in members)
        report.container["code_files"] = code
    if not all(map(str.startswith, members, repeat(root))):
        warnings.append("the zip holds files that torch did not write")

    pickled = members[f"{root}data.pkl"]
    data = directory.read(pickled, limits.PICKLE_BYTES)
    base = directory.data_start(pickled) if pickled.method == 0 else -1
    missing: list[str] = []

    path, place = source.path, f"{root}data/"

    def resolve(ref: StorageRef) -> Storage:
        name = place + ref.key
        member = members.get(name)
        if member is None:
            name = f"{root}tensors/{ref.key}"  # TorchScript of torch 1.2
            member = members.get(name)
        if member is not None:
            if member.method != 0:
                return Storage(path, name, -1, member.size, ("deflate", name, 0))
            start = directory.data_start(member)
            if big:
                return Storage(path, name, -1, member.size, ("swap", "", start))
            return Storage(path, name, start, member.size)
        missing.append(ref.key)
        nbytes = max(ref.numel, 0) * ITEMSIZE.get(ref.dtype, 1)
        return Storage(path, place + ref.key, -1, nbytes)

    def resolve_all(refs: Sequence[StorageRef]) -> list[Storage]:
        names = [place + ref.key for ref in refs]
        found = list(map(members.get, names))
        if big or None in found or any(map(_method, found)):  # pyright: ignore
            return list(map(resolve, refs))
        starts = directory.data_starts(found)  # pyright: ignore
        sizes = map(_size, found)  # pyright: ignore
        none = repeat(None)
        return rows(Storage, zip(repeat(path), names, starts, sizes, none, none, strict=False))

    reader = Reader(source.path)
    machine = Machine(
        source.path, "data.pkl", data, reader.calls, reader.load, None, reader.storages
    )
    report.begin(machine, reader, base)
    tree = machine.run()
    if machine.pos < len(data):
        warnings.append(f"data.pkl goes on for {len(data) - machine.pos:,} bytes after its end")
    others = _others(members, root, place, reader)
    if others:
        from archfind.formats.torch_files.second_pickles import name_second_pickles

        name_second_pickles(directory, others, root, script, report)
    flat = Flat(source.path, Specs(source.path, resolve, base, resolve_all))
    if script:
        add_script(tree, flat)
    if not flat.index:  # a zip with constants.pkl may still hold a plain state dict
        flatten_pickle(tree, flat)
    if missing:
        warnings.append(
            f'the data of {len(missing)} storages is missing, the first is "{escape(missing[0])}"'
        )
    return report.checkpoint(source, "torchscript" if script else "torch-zip", flat, tree)


def _others(members: dict[str, ZipMember], root: str, place: str, reader: Reader) -> list[str]:
    """The members that neither torch.load reads nor torch writes beside what it reads."""
    beside = [name for name in members if not name.startswith(place)]
    found = [
        name
        for name in beside
        if name != f"{root}data.pkl"
        and not (name.removeprefix(root) in _BESIDE and members[name].size <= _SHORT)
    ]
    if len(members) - len(beside) > len(reader.by_key):
        named = {place + key for key in reader.by_key}
        found += [name for name in members if name.startswith(place) and name not in named]
    return found


def tree_in_zip(
    source: ByteSource, report: Report, reader: Reader, where: str
) -> tuple[object, dict[str, tuple[int, int]]]:
    """The value of a zip that a pickle holds as bytes, and where its storages lie in it: those that
    lie there as they are."""
    directory = ZipDirectory(source)
    root = _root(source, directory)
    if root is None:
        raise CheckpointError("no data.pkl", source.path)
    members = directory.members
    data = directory.read(members[f"{root}data.pkl"], limits.PICKLE_BYTES)
    machine = Machine(source.path, where, data, reader.calls, reader.load)
    report.begin(machine, reader)
    tree = machine.run()
    order = members.get(f"{root}byteorder")
    if order is not None and directory.read(order, 64).strip() == b"big":
        return tree, {}
    held = {key: members.get(f"{root}data/{key}") for key in reader.by_key}
    return tree, {
        key: (directory.data_start(one), one.size)
        for key, one in held.items()
        if one is not None and one.method == 0
    }


def _root(source: ByteSource, directory: ZipDirectory) -> str | None:
    """The folder that holds data.pkl, with its slash; None in another kind of zip."""
    names = directory.members
    roots = [
        name[: -len("data.pkl")]
        for name in names
        if name.endswith("data.pkl") and name.count("/") <= 1 and name[-9:-8] in ("/", "")
    ]
    if len(roots) == 1:
        return roots[0]
    if roots:
        raise CheckpointError("a doctored zip: it holds several data.pkl", source.path)
    return None
