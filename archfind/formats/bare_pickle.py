"""A pickle without torch's container: numpy weights, as detectron2 keeps them, or no weights."""

from __future__ import annotations

from archfind.types import Checkpoint, Storage

from .dtypes import ITEMSIZE
from .flatten import Flat, flatten
from .nodes import Call, StorageRef
from .pickle_source import machine_at
from .report import Report
from .source import Source
from .tensor_specs import Specs
from .torch_objects import Reader


def read(source: Source, report: Report) -> Checkpoint:
    """Reads the one pickle; NoTensors says what else it holds."""
    reader = Reader(source.path)
    machine = machine_at(source, report, reader, "the pickle")
    tree = machine.run()
    if machine.pos < source.size:
        report.warnings.append(f"{source.size - machine.pos:,} bytes follow the pickle")

    if type(tree) is Call and tree.name.endswith(".metadata.Metadata"):
        from . import dcp

        if dcp.is_metadata(tree):
            return dcp.read(source, report, tree)

    def absent(ref: StorageRef) -> Storage:
        return Storage(source.path, ref.key, -1, max(ref.numel, 0) * ITEMSIZE.get(ref.dtype, 1))

    flat = Flat(source.path, Specs(source.path, absent, 0))
    flatten(tree, flat)
    return report.checkpoint(source, "pickle", flat, tree)
