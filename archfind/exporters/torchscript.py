"""A .ts file: traced TorchScript, which runs without the library that built the network."""

from __future__ import annotations

import io
import json

import torch

from archfind import formats
from archfind.errors import ExportError
from archfind.exporters import parity
from archfind.exporters.job import Job, WrittenFile
from archfind.exporters.onnx import quiet_exporters, reason
from archfind.providers.example import Example
from archfind.types import Built


def write(built: Built, job: Job) -> WrittenFile:
    """Trace, and hold the traced program against the module on other inputs and batches: a trace
    follows one run. Notes: "batch", dynamic or static."""
    example = job.example
    try:
        with quiet_exporters(), torch.no_grad():
            program = torch.jit.trace(built.module, example.args, check_trace=False, strict=False)
    except Exception as error:  # the network is anyone's code
        raise ExportError(f"can't be traced: {reason(error)}") from error
    difference, batch = checked(built, job, program)
    extra = {"archfind.json": json.dumps(dict(job.metadata))}
    buffer = io.BytesIO()  # torch's own way to a file ends the process where the disk is full
    with quiet_exporters():
        torch.jit.save(program, buffer, _extra_files=extra)
    job.path.write_bytes(buffer.getbuffer())
    formats.open(job.path)
    return WrittenFile(job.path, difference.largest, {"batch": batch, **difference.note()})


def checked(built: Built, job: Job, program: object) -> tuple[parity.Difference, str]:
    """The largest difference between a program and the module, and whether the batch is free.
    ExportError where they differ on inputs of the traced sizes."""
    example = job.example
    if not job.keep_unchecked:
        with quiet_exporters():
            parity.expect_numbers(parity.case(built.module, example.args))
    worst = parity.Difference(0.0)
    with quiet_exporters():
        _check_padding(built, example, program)
    sizes = (0, 1, 3) if example.dynamic_batch else (0,)
    for size in sizes:
        args = parity.other(example.args, size)
        try:
            with quiet_exporters():
                expected = parity.case(built.module, args).outputs
                found = parity.case(program, args).outputs  # pyright: ignore[reportArgumentType]
            difference = parity.compare(expected, list(found.values()))
            why = difference.why
        except Exception as error:  # a program that was traced for one size says so in many ways
            why, difference = reason(error), parity.Difference(float("inf"))
        if why and not size:
            raise ExportError(why)
        if why:
            return worst, "static"
        share = max(worst.share, difference.share)
        worst = parity.Difference(max(worst.largest, difference.largest), share=share)
    return worst, "dynamic" if example.dynamic_batch else "static"


def _check_padding(built: Built, example: Example, program: object) -> None:
    """ExportError where a program gives something else for a padded text."""
    padded = parity.padded(built.module, example)
    if padded is None:
        return
    found = parity.case(program, padded.args).outputs  # pyright: ignore[reportArgumentType]
    difference = parity.compare(padded.outputs, padded.compared(list(found.values())))
    if difference.why:
        raise ExportError(f"on a padded text {difference.why}")
