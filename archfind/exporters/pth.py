"""A .pth file: a plain state dict of tensors under canonical keys and nothing else.

The metadata is in the attribute that torch itself adds to every state dict, `_metadata`, beside the
modules' version numbers, as `_metadata["archfind"]`. So the file has no entry that isn't a tensor,
`torch.load` reads it with weights_only=True, and `load_state_dict` carries the attribute along.
"""

from __future__ import annotations

from archfind.exporters.job import Job, Written
from archfind.exporters.pieces import Piece
from archfind.exporters.state import check, state_dict, tied_note
from archfind.exporters.torch_file import write_torch
from archfind.types import Built


def write(built: Built, job: Job) -> Written:
    """Write and read back. Tied tensors stay tied."""
    state, tied = state_dict(built)
    versions = getattr(built.module.state_dict(), "_metadata", {})
    pieces: list[Piece] = []
    for key, tensor in state.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        same = id(tensor) if tensor.numel() else object()
        pieces.append(Piece(key, dtype, tuple(tensor.shape), same, make=lambda t=tensor: t))
    # not by torch.save, which ends the process where the disk is full
    write_torch(str(job.path), pieces, {**versions, "archfind": dict(job.metadata)})
    check(job.path, built)
    return Written(job.path, 0.0, tied_note(tied))
