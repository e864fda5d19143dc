"""A .pt2 file: torch.export's program, a graph of ATen operators with its weights."""

from __future__ import annotations

import io
import json

import torch
from torch import Tensor

from archfind import formats
from archfind.errors import ExportError
from archfind.exporters.job import Job, WrittenFile
from archfind.exporters.onnx import quiet_exporters, reason
from archfind.exporters.torchscript import checked
from archfind.types import Built


def write(built: Built, job: Job) -> WrittenFile:
    """Export with a free batch, or a fixed one where the network doesn't allow that, and hold the
    program against the module. Notes: "batch"; "fallback", why it isn't free."""
    example = job.example
    notes: dict[str, str] = {}
    free = torch.export.Dim("batch", min=1, max=4096)
    batched = tuple({0: free} if isinstance(arg, Tensor) else None for arg in example.args)
    shapes = batched if example.dynamic_batch else None
    for dynamic in (shapes, None) if shapes else (None,):
        try:
            with quiet_exporters(), torch.no_grad():
                program = torch.export.export(built.module, example.args, dynamic_shapes=dynamic)
                difference, batch = checked(built, job, program.module())
            break
        except Exception as error:  # torch.export raises anything
            if dynamic is None:
                raise ExportError(f"torch.export refuses it: {reason(error)}") from error
            notes["fallback"] = reason(error)
    else:
        raise ExportError("torch.export refuses it")
    extra = {"archfind.json": json.dumps(dict(job.metadata))}
    buffer = io.BytesIO()  # torch's own way to a file ends the process where the disk is full
    with quiet_exporters():
        torch.export.save(program, buffer, extra_files=extra)
    job.path.write_bytes(buffer.getbuffer())
    if not formats.open(job.path).index:
        raise ExportError("read back, it holds no tensors")
    return WrittenFile(job.path, difference.largest, {"batch": batch, **notes, **difference.note()})
