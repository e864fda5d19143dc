"""A .pth file: a plain state dict of tensors under canonical keys and nothing else.

The metadata is in the attribute that torch itself adds to every state dict, `_metadata`, beside the
modules' version numbers, as `_metadata["archfind"]`. So the file has no entry that isn't a tensor,
`torch.load` reads it with weights_only=True, and `load_state_dict` carries the attribute along.
"""

from __future__ import annotations

from archfind.exporters.job import Job, WrittenFile
from archfind.exporters.pieces import TensorToWrite
from archfind.exporters.state import check_copy, module_tensors, tied_note
from archfind.exporters.torch_file import write_torch
from archfind.types import Built


def write(built: Built, job: Job) -> WrittenFile:
    """Write and read back. Tied tensors stay tied."""
    state, tied = module_tensors(built)
    versions = getattr(built.module.state_dict(), "_metadata", {})
    pieces: list[TensorToWrite] = []
    for key, tensor in state.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        same = id(tensor) if tensor.numel() else object()
        pieces.append(TensorToWrite(key, dtype, tuple(tensor.shape), same, make=lambda t=tensor: t))
    # not by torch.save, which ends the process where the disk is full
    write_torch(str(job.path), pieces, {**versions, "archfind": dict(job.metadata)})
    check_copy(job.path, built)
    return WrittenFile(job.path, 0.0, tied_note(tied))
