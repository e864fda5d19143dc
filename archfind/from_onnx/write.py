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
from archfind.escape import escape
from archfind.exporters.convert import write
from archfind.exporters.onnx import HALF, halved, reason
from archfind.exporters.parity import RELATIVE, compare
from archfind.exporters.pieces import TensorToWrite
from archfind.exporters.provenance import sha256
from archfind.from_onnx.inputs import inputs, run_graph
from archfind.from_onnx.recover import graph_module, load_graph
from archfind.from_onnx.slots import constants
from archfind.types import Exported, Guess
from archfind.writing import beside, target
from archfind.writing.target import STATE_DICTS


def write_graph(
    guess: Guess,
    out: str | os.PathLike[str],
    why: str,
    *,
    force: bool = False,
    opset: int | None = None,
    half: bool = False,
    allow_expansion: bool = False,
) -> Exported:
    """Write the graph's float tensors under their own names to .pth or .safetensors, or the graph
    itself to .onnx, in another `opset` or in float16 if that is asked for. Checked and moved into
    place as every export is; `why` no network was found goes into the notes. Raises ExportError."""
    path = Path(os.fspath(out))
    suffix = path.suffix.lower()
    checkpoint = guess.canonical.checkpoint
    sources = target.sources_of(guess)
    target.refuse_export(out, sources, force=force, opset=opset, half=half)
    if suffix != ".onnx" and suffix not in STATE_DICTS:
        text = f"no network is known that {suffix} could be made of: {why}"
        raise ExportError(text, escape(str(path)))
    files = () if allow_expansion else checkpoint.files
    model = load_graph(checkpoint.path, files)
    said = {"archfind.version": version("archfind")}
    said["archfind.source"] = escape(Path(checkpoint.path).name)
    notes = {"network": f"not known ({escape(why, 160)})"}
    with beside.folder_beside(path) as folder:
        made = folder / path.name
        if suffix == ".onnx":
            kind = "onnx"
            largest = _graph(model, str(made), opset, half, said, checkpoint.path)
        else:
            kind, largest = STATE_DICTS[suffix], 0.0
            write(str(made), kind, _pieces(model), {"format": "pt", **said})
            try:
                graph_module(checkpoint.path, files)
                notes["module"] = "archfind.load of the .onnx gives the graph as one that trains"
            except ArchfindError as error:
                notes["module"] = f"none: {escape(error.message, 160)}"
        digest = sha256(made)
        target.refuse_file(out, sources, force)
        beside.move([(made, path)], force)
    return Exported(None, str(path), kind, digest, largest, notes)


def _pieces(model: onnx.ModelProto) -> list[TensorToWrite]:
    """The graph's initializers."""
    names = {t.name for t in model.graph.initializer}
    found: list[TensorToWrite] = []
    for key, array in constants(model).items():
        if key not in names:
            continue
        tensor = torch.from_numpy(np.ascontiguousarray(array).copy()).reshape(array.shape)
        dtype = str(tensor.dtype).removeprefix("torch.")
        found.append(TensorToWrite(key, dtype, tuple(tensor.shape), key, make=lambda t=tensor: t))
    return found


def _graph(
    model: onnx.ModelProto,
    path: str,
    opset: int | None,
    half: bool,
    said: dict[str, str],
    source: str,
) -> float:
    try:
        if opset is not None:
            model = version_converter.convert_version(model, opset)
        model = halved(model) if half else model
        known = {p.key: p.value for p in model.metadata_props}
        onnx.helper.set_model_props(model, {**known, **said})
        onnx.checker.check_model(model)
        onnx.save_model(model, path)
    except OSError:  # of the disk
        raise
    except Exception as error:  # onnx's own, and protobuf's
        raise ExportError(f"onnx refuses it: {reason(error)}") from error
    args = inputs(model)
    if args is None:
        raise ExportError("its inputs have types that nothing can be made up for")
    try:
        expected, found = run_graph(source, args), run_graph(path, args)
    except Exception as error:  # onnxruntime's own
        unknown = _unknown(model)
        if unknown:
            text = f"onnxruntime doesn't know its operators {escape(', '.join(unknown), 160)}"
            raise ExportError(text) from error
        raise ExportError(f"onnxruntime doesn't run it: {reason(error)}") from error
    named = {f"output {n}": value for n, value in enumerate(expected)}
    difference = compare(named, found, HALF if half else RELATIVE)
    if difference.why:
        raise ExportError(difference.why)
    return difference.largest


def _unknown(model: onnx.ModelProto) -> list[str]:
    """Operators of nobody's standard, which the file doesn't define either."""
    defined = {(function.domain, function.name) for function in model.functions}
    found = [
        ".".join(filter(None, (node.domain, node.op_type)))
        for node in model.graph.node
        if (node.domain, node.op_type) not in defined
        and node.domain != "com.microsoft"
        and not onnx.defs.has(node.op_type, node.domain)
    ]
    return list(dict.fromkeys(found))
