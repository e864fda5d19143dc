"""The demo: a small network trained on scikit-learn's digits, saved the way people save theirs.

benchmarks/train_demo.py makes `001.pth`; nothing here says which network it is.
"""

from __future__ import annotations

import os
import shutil

from archfind.errors import ExportError


def write_checkpoint(folder: str) -> str:
    """Copy the demo's checkpoint into `folder`, made if need be; return the copy's path."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "001.pth")
    target = os.path.join(folder, "001.pth")
    try:
        os.makedirs(folder, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise ExportError(f"can't write the demo there: {error.strerror}", folder) from error
    return target
