"""A pickle without torch's container: numpy weights, as detectron2 keeps them, or no weights."""

from __future__ import annotations

from archfind.dtypes import ITEMSIZE
from archfind.errors import LimitExceeded, NotACheckpoint, NoTensors
from archfind.escape import escape
from archfind.formats.pickles.nodes import PickledCall, StorageRef
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


def read(source: ByteSource, report: Report) -> Checkpoint:
    """Reads the one pickle; NoTensors says what else it holds."""
    reader = Reader(source.path)
    machine = machine_at(source, report, reader, "the pickle")
    try:
        tree = machine.run()
    except LimitExceeded:
        raise
    except NotACheckpoint as error:
        raise _joblib(machine, source) or error from None
    if machine.pos < source.size:
        report.warnings.append(f"{source.size - machine.pos:,} bytes follow the pickle")

    if type(tree) is PickledCall and tree.name.endswith(".metadata.Metadata"):
        from archfind.formats.many_files import dcp

        if dcp.is_metadata(tree):
            return dcp.read(source, report, tree)

    def absent(ref: StorageRef) -> Storage:
        return Storage(source.path, ref.key, -1, max(ref.numel, 0) * ITEMSIZE.get(ref.dtype, 1))

    flat = Flat(source.path, Specs(source.path, absent, 0))
    flatten_pickle(tree, flat)
    return report.checkpoint(source, "pickle", flat, tree)


def _joblib(machine: Machine, source: ByteSource) -> NoTensors | None:
    """What joblib wrote is a pickle with the arrays' bytes in its middle, where reading ends: whose
    object it is, is told by the classes named until then."""
    if not any(name.startswith("joblib.numpy_pickle.") for name in machine.globals):
        return None
    known = ("joblib.", "numpy.", "builtins.", "collections.", "_codecs.", "copyreg.", "copy_reg.")
    classes = [name for name in machine.globals if not name.startswith(known)]
    what = f"an object of class {escape(classes[0])}" if classes else "numpy arrays"
    return NoTensors(f"no state dict: joblib's file of {what}", source.path)
