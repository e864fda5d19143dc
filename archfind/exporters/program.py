"""A TorchScript or torch.export file as the program it is, for a user who trusts it.

The only place where something out of a file is run, and only when it was asked for: torch's own
loaders run the file's code.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from archfind.errors import ExportError
from archfind.escape import escape
from archfind.exporters import onnx
from archfind.exporters.inputs import called_with, example_from_shapes
from archfind.exporters.job import Job
from archfind.exporters.provenance import sha256
from archfind.types import Exported
from archfind.writing import beside, target

if TYPE_CHECKING:
    from archfind.types import Checkpoint


def write_program(
    checkpoint: Checkpoint,
    out: str | os.PathLike[str],
    inputs: Sequence[str] = (),
    *,
    force: bool = False,
    opset: int | None = None,
    keep_unchecked: bool = False,
    half: bool = False,
    allow_expansion: bool = False,
) -> Exported:
    """Run the program in `checkpoint` and write it to an .onnx, whose outputs are compared with the
    program's own.

    `inputs` say what it runs on, batch first: "1x3x224x224", or "1x128:int64" for numbers from 0
    to 9. A torch.export program brings its own. Raises ExportError.
    """
    path = Path(os.fspath(out))
    where = escape(checkpoint.path)
    sources = target.sources_of(checkpoint)
    target.refuse_program(out, sources, inputs, force, opset)
    try:
        given = example_from_shapes(inputs, allow_expansion) if inputs else None
    except ExportError as error:
        raise ExportError(error.message, where) from error
    try:
        with onnx.quiet_exporters():
            module, args = _loaded(checkpoint)
    except Exception as error:  # the file's own code, and torch's many complaints about it
        raise ExportError(f"torch can't load the program: {onnx.reason(error)}", where) from error
    if given is None and not args:
        raise ExportError(target.NO_INPUT, where)
    example = given or called_with(args)
    said = {"archfind.version": version("archfind"), "archfind.source": Path(where).name}
    said["archfind.source_sha256"] = sha256(checkpoint.path)
    with beside.folder_beside(path) as folder:
        # torch's newer exporter takes no TorchScript
        options = {} if checkpoint.format == "torch-export" else {"dynamo": False}
        job = Job(folder / path.name, said, example, opset, keep_unchecked, options, half)
        written = onnx.write_module(module, job)
        if written.path.with_name(path.name + ".data").exists():
            raise ExportError("over 2 GB: archfind guess may name its network", where)
        digest = sha256(written.path)
        target.refuse_file(out, sources, force)
        beside.move([(written.path, path)], force)
    notes = {"ran": "the program in the file, as --trust allows", **written.notes}
    return Exported(None, str(path), "onnx", digest, written.max_abs_diff, notes)


def _loaded(checkpoint: Checkpoint) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The program as a module, and the inputs that it brings."""
    if checkpoint.format != "torch-export":
        return torch.jit.load(checkpoint.path, map_location="cpu").eval(), ()
    program = torch.export.load(checkpoint.path)
    args, named = program.example_inputs or ((), {})
    plain = not named and all(isinstance(arg, Tensor) for arg in args)
    return program.module(), tuple(args) if plain else ()
