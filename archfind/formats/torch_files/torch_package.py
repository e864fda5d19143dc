"""torch.package archives: pickles and the Python source that they need, in one zip.

The source is shown, never compiled.
"""

from __future__ import annotations

from archfind.dtypes import ITEMSIZE
from archfind.errors import NoTensors
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.pickles.machine import Machine
from archfind.formats.pickles.nodes import StorageRef
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.formats.torch_files.flatten import Flat, flatten_pickle
from archfind.formats.torch_files.tensor_specs import Specs
from archfind.formats.torch_files.torch_objects import Reader
from archfind.types import Checkpoint, Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.archives.zip_directory import ZipDirectory, ZipMember

_SOURCES = 200  # files of source that are shown
_PICKLES = 1000


def read(source: ByteSource, report: Report, directory: ZipDirectory) -> Checkpoint:
    """Every pickled resource, each below its package and name where there are several."""
    members = directory.members
    root = next(name for name in members if name.endswith(".data/version"))[: -len(".data/version")]
    # A resource has the name that its author gave it: "model" as often as "model.pkl".
    pickles = [
        name
        for name in members
        if name.startswith(root)
        and not name.startswith(f"{root}.data/")
        and not name.endswith((".py", "/"))
        and (name.endswith(".pkl") or _is_pickle(directory, members[name]))
    ][:_PICKLES]

    def resolve(ref: StorageRef) -> Storage:
        name = f"{root}.data/{ref.key}.storage"
        member = members.get(name)
        if member is None:
            line = f'the data of the storage "{escape(ref.key)}" is missing'
            if line not in report.warnings and len(report.warnings) < limits.DANGER_LINES:
                report.warnings.append(line)
            return Storage(source.path, name, -1, max(ref.numel, 0) * ITEMSIZE.get(ref.dtype, 1))
        if member.method != 0:
            return Storage(source.path, name, -1, member.size, ("deflate", name, 0))
        return Storage(source.path, name, directory.data_start(member), member.size)

    flat = Flat(source.path, Specs(source.path, resolve))
    reader = Reader(source.path)
    trees: dict[object, object] = {}
    for name in pickles:
        data = directory.read(members[name], limits.PICKLE_BYTES)
        machine = Machine(source.path, escape(name), data, reader.calls, reader.load)
        report.begin(machine, reader)
        trees[name[len(root) :].removesuffix(".pkl").replace("/", ".")] = machine.run()
    flatten_pickle(trees if len(trees) != 1 else next(iter(trees.values())), flat)
    if not trees:
        raise NoTensors("no tensors: a torch.package archive without pickles", source.path)
    sources = {
        name[len(root) :]: directory.read(members[name], limits.TEXT_BYTES)[
            : limits.METADATA_TEXT
        ].decode("utf-8", "replace")
        for name in [one for one in members if one.endswith(".py")][:_SOURCES]
        if members[name].size <= limits.TEXT_BYTES
    }
    report.warnings.append("contains Python source that runs when loaded with torch.package")
    made = report.checkpoint(source, "torch-package", flat, trees)
    from archfind.frozen import replace

    extern = members.get(f"{root}.data/extern_modules")
    outside = directory.read(extern, limits.TEXT_BYTES).decode("utf-8", "replace") if extern else ""
    container = {"pickles": len(pickles), "imports": outside.split()[: limits.SHORT_LIST]}
    return replace(made, sources=sources, container=container)


def _is_pickle(directory: ZipDirectory, member: ZipMember) -> bool:
    """Whether a resource begins as a pickle of any protocol that torch.package writes."""
    if not 2 < member.size <= limits.PICKLE_BYTES:
        return False
    head = directory.read(member, limits.PICKLE_BYTES)[:2]
    return head[:1] == b"\x80" and 2 <= head[1] <= 5
