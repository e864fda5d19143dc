"""The demo: a small network trained on scikit-learn's digits, saved the way people save theirs.

benchmarks/train_demo.py makes `001.pth`; nothing here says which network it is.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from archfind import formats
from archfind.errors import CheckpointError, ExportError
from archfind.writing import beside, target


def write_checkpoint(folder: str) -> tuple[str, str]:
    """Copy the demo's checkpoint into `folder`, made if need be; return the copy's path and that of
    the .onnx to be made of it. ExportError where files of these names are no demo's."""
    here = os.path.dirname(os.path.abspath(__file__))
    data = Path(here, "001.pth").read_bytes()
    path, out = os.path.join(folder, "001.pth"), os.path.join(folder, "001.onnx")
    try:
        os.makedirs(folder, exist_ok=True)
        is_there = os.path.isfile(path) and Path(path).read_bytes() == data
    except OSError as error:
        raise ExportError(f"can't write the demo there: {error.strerror}", folder) from error
    for file, is_ours in ((path, is_there), (out, _is_made_of(out, data))):
        target.refuse_file(file, [], force=True)
        if os.path.lexists(file) and not is_ours:
            raise ExportError("exists, and isn't the demo's: choose another --folder", file)
    target.refuse_unwritable(out)
    if not is_there:
        beside.write_small_file(Path(path), data)
    return path, out


def _is_made_of(out: str, data: bytes) -> bool:
    """Whether `out` is what an earlier run of the demo left."""
    try:
        said = formats.open(out).metadata.get("archfind.source_sha256")
    except CheckpointError:
        return False
    return said == hashlib.sha256(data).hexdigest()
