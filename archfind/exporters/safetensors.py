"""A .safetensors file: the state dict under canonical keys, with `__metadata__`."""

from __future__ import annotations

from torch import Tensor

from archfind.errors import ExportError
from archfind.escape import escape
from archfind.exporters.job import Job, WrittenFile
from archfind.exporters.state import check_copy, module_tensors, tied_note
from archfind.types import Built


def write(built: Built, job: Job) -> WrittenFile:
    """Write and read back. Tied tensors are written once for each key: the format has no sharing,
    and a strict load asks for every key."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state, tied = module_tensors(built)
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for key, value in state.items():
        place = value.untyped_storage().data_ptr()
        apart[key] = value.clone() if place in seen and value.numel() else value
        seen.add(place)
    try:
        save_file(apart, job.path, metadata=dict(job.metadata))
    # KeyError: a dtype that it has no name for
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise ExportError(f"safetensors refuses it: {escape(str(error))}") from error
    check_copy(job.path, built)
    return WrittenFile(job.path, 0.0, tied_note(tied))
