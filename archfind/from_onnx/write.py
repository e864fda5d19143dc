"""A graph whose network isn't known, written as it is: its tensors, or the graph again."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import version_converter

from archfind.errors import ArchfindError, ExportError
from archfind.exporters import beside
from archfind.exporters.convert import TARGETS, write
from archfind.exporters.onnx import reason
from archfind.exporters.parity import compare
from archfind.exporters.pieces import Piece
from archfind.exporters.provenance import sha256
from archfind.formats.escape import escape
from archfind.from_onnx.recover import graph_module, inputs, load, run
from archfind.from_onnx.slots import constants
from archfind.types import Exported, Guess


def write_graph(
    guess: Guess,
    out: str | os.PathLike[str],
    why: str,
    *,
    force: bool = False,
    opset: int | None = None,
) -> Exported:
    """Write the graph's float tensors under their own names to .pth or .safetensors, or the graph
    itself to .onnx, in another `opset` if one is asked for. Checked and moved into place as every
    export is; `why` no network was found goes into the notes. Raises ExportError."""
    path = Path(os.fspath(out))
    suffix = path.suffix.lower()
    checkpoint = guess.canonical.checkpoint
    if suffix != ".onnx" and suffix not in TARGETS:
        text = f"no network is known that {suffix} could be made of: {why}"
        raise ExportError(text, escape(str(path)))
    beside.refuse(checkpoint, [path], force)
    model = load(checkpoint.path)
    said = {"archfind.version": version("archfind")}
    said["archfind.source"] = escape(Path(checkpoint.path).name)
    notes = {"network": f"not known ({escape(why, 160)})"}
    with beside.folder(path) as folder:
        made = folder / path.name
        if suffix == ".onnx":
            kind = "onnx"
            largest = _graph(model, str(made), opset, said, checkpoint.path)
        else:
            kind, largest = TARGETS[suffix], 0.0
            write(str(made), kind, _pieces(model), {"format": "pt", **said})
            try:
                graph_module(checkpoint.path)
                notes["module"] = "archfind.load of the .onnx gives the graph as one that trains"
            except ArchfindError as error:
                notes["module"] = f"none: {escape(error.message, 160)}"
        digest = sha256(made)
        beside.refuse(checkpoint, [path], force)
        made.replace(path)
    return Exported(None, str(path), kind, digest, largest, notes)


def _pieces(model: onnx.ModelProto) -> list[Piece]:
    """The graph's initializers."""
    names = {t.name for t in model.graph.initializer}
    found: list[Piece] = []
    for key, array in constants(model).items():
        if key not in names:
            continue
        tensor = torch.from_numpy(np.ascontiguousarray(array).copy()).reshape(array.shape)
        dtype = str(tensor.dtype).removeprefix("torch.")
        found.append(Piece(key, dtype, tuple(tensor.shape), key, make=lambda t=tensor: t))
    return found


def _graph(
    model: onnx.ModelProto, path: str, opset: int | None, said: dict[str, str], source: str
) -> float:
    try:
        if opset is not None:
            model = version_converter.convert_version(model, opset)
        known = {p.key: p.value for p in model.metadata_props}
        onnx.helper.set_model_props(model, {**known, **said})
        onnx.checker.check_model(model)
        onnx.save_model(model, path)
    except Exception as error:  # onnx's own, and protobuf's
        raise ExportError(f"onnx refuses it: {reason(error)}") from error
    args = inputs(model)
    if args is None:
        raise ExportError("its inputs have types that nothing can be made up for")
    try:
        expected, found = run(source, args), run(path, args)
    except Exception as error:  # onnxruntime's own
        raise ExportError(f"onnxruntime doesn't run it: {reason(error)}") from error
    named = {f"output {n}": value for n, value in enumerate(expected)}
    difference = compare(named, found)
    if difference.why:
        raise ExportError(difference.why)
    return difference.largest
