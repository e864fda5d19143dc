"""A .pth file: a plain state dict of tensors under canonical keys and nothing else.

The metadata is in the attribute that torch itself adds to every state dict, `_metadata`, beside the
modules' version numbers, as `_metadata["archfind"]`. So the file has no entry that isn't a tensor,
`torch.load` reads it with weights_only=True, and `load_state_dict` carries the attribute along.
"""

from __future__ import annotations

from collections import OrderedDict

import torch

from archfind.errors import ExportError
from archfind.exporters.job import Job, Written
from archfind.exporters.state import check, state_dict, tied_note
from archfind.formats.escape import escape
from archfind.types import Built


def write(built: Built, job: Job) -> Written:
    """Write and read back. Tied tensors stay tied."""
    state, tied = state_dict(built)
    versions = getattr(built.module.state_dict(), "_metadata", {})
    # torch pickles an OrderedDict's attributes, and its weights_only loader restores them.
    state._metadata = OrderedDict({**versions, "archfind": dict(job.metadata)})  # pyright: ignore
    try:
        torch.save(state, job.path)
    except RuntimeError as error:  # what torch's own writer makes of a full disk
        raise ExportError(f"torch.save failed: {escape(str(error))}") from error
    check(job.path, built)
    return Written(job.path, 0.0, tied_note(tied))
