"""An .onnx file: torch's exporters in turn, until the result agrees with the module."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import shutil
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import onnxruntime
import onnxscript  # noqa: F401  # pyright: ignore  (torch needs it: missing, it is named at once)
import torch
from torch import Tensor, nn

from archfind.errors import ExportError
from archfind.exporters import parity
from archfind.exporters.job import Job, Written
from archfind.formats.escape import escape
from archfind.providers.example import tensors
from archfind.types import Built

# exporter, batch: the newer exporter and the freer batch first
ATTEMPTS = (
    ("dynamo", "dynamic"),
    ("dynamo", "static"),
    ("torchscript", "dynamic"),
    ("torchscript", "static"),
)
# protobuf ends at 2 GiB, graph included; a file with more in weights becomes two
ONE_FILE = 2**31 - 2**26
HALF = 2e-2  # of an output's largest value: ten bits, and rounding that adds up
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def write(built: Built, job: Job) -> Written:
    """The built network, as `write_module` writes it."""
    return write_module(built.module, job)


def write_module(module: nn.Module, job: Job) -> Written:
    """Try `ATTEMPTS` in order, and keep the first whose outputs onnxruntime reproduces.

    Notes: "exporter", "batch", "opset"; "fallback" (why the attempts before failed), "warning" (why
    the check proves little), "unchecked" (how far an output that was kept regardless differs).
    """
    example = job.example
    try:
        with quiet():
            traced = parity.case(module, example.args)
    except Exception as error:  # the network is anyone's code
        why = reason(error)
        raise ExportError(f"the network doesn't run on its example input: {why}") from error
    failures: list[str] = []
    kept: tuple[float, Path, dict[str, str]] | None = None
    wanted = job.options.get("dynamo")
    for exporter, batch in ATTEMPTS:
        dynamic = batch == "dynamic"
        if wanted is not None and wanted != (exporter == "dynamo"):
            continue
        if dynamic and not example.dynamic_batch:
            continue
        path = job.path.parent / f"{exporter}-{batch}" / job.path.name
        path.parent.mkdir()
        # one, since people run one image at a time; three, which is neither that nor the traced two
        sizes = (3, 1) if dynamic else (0,)
        try:
            with quiet():
                others = (parity.other(example.args, size) for size in sizes)
                tried = [traced, *(parity.case(module, args) for args in others)]
                # A copy each: tracing leaves its own tensors in whatever the network caches.
                copied = _copied(module)
                names = list(traced.outputs)
                convert = _dynamo if exporter == "dynamo" else _torchscript
                convert(copied, path, job, names, dynamic)
                del copied
                difference = _check(path, example.names, tried)
        except Exception as error:  # exporters raise anything
            failures.append(f"{exporter}, {batch} batch: {reason(error)}")
            shutil.rmtree(path.parent)
            continue
        notes = {"exporter": exporter, "batch": batch, "opset": _opset(path)}
        notes |= {"fallback": "; ".join(failures)} if failures else {}
        notes |= parity.doubts(tried)
        if not difference.why and job.half:
            difference = _halve(path, job, tried)
            notes["half"] = "weights and arithmetic in float16, inputs and outputs in float32"
        if not difference.why:
            return Written(path, difference.largest, notes)
        failures.append(f"{exporter}, {batch} batch: {difference.why}")
        if not job.keep_unchecked or (kept and kept[0] <= difference.largest):
            shutil.rmtree(path.parent)
        else:
            kept = (difference.largest, path, {**notes, "unchecked": difference.why})
    if kept:
        return Written(kept[1], kept[0], kept[2])
    raise ExportError(failures[-1] if len(failures) == 1 else "; ".join(failures))


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except RuntimeError:  # a tensor with a gradient history among its attributes
        return module


def _dynamo(module: nn.Module, path: Path, job: Job, outputs: list[str], dynamic: bool) -> None:
    """torch.export, then its translation."""
    shapes = tuple({0: "batch"} for _ in job.example.args) if dynamic else None
    options: dict[str, Any] = {"dynamic_shapes": shapes, **_given(job)}
    program = torch.onnx.export(
        module, job.example.args, dynamo=True, verbose=False, optimize=False,
        input_names=list(job.example.names), output_names=outputs, opset_version=job.opset,
        **options,
    )  # fmt: skip
    assert program is not None
    with contextlib.suppress(Exception):  # it trips over splits that depend on the batch (raft)
        program.optimize()
    program.model.metadata_props.update(job.metadata)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces: this machine's paths, larger than the graph
    program.save(path, external_data=_nbytes(module) > ONE_FILE)


def _torchscript(
    module: nn.Module, path: Path, job: Job, outputs: list[str], dynamic: bool
) -> None:
    """The older exporter, which follows one run of the network."""
    inputs = list(job.example.names)
    axes = {name: {0: "batch"} for name in [*inputs, *outputs]} if dynamic else None
    options: dict[str, Any] = {"dynamic_axes": axes, **_given(job)}
    with torch.no_grad():
        torch.onnx.export(
            module, job.example.args, path, dynamo=False, verbose=False,
            input_names=inputs, output_names=outputs, opset_version=job.opset, **options,
        )  # fmt: skip
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(job.metadata))
    for stray in path.parent.iterdir():
        stray.unlink()  # past 2 GiB it writes a file for each tensor
    large = _nbytes(module) > ONE_FILE
    onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data")


def _given(job: Job) -> dict[str, Any]:
    """The caller's own arguments for torch's exporter."""
    return {name: value for name, value in job.options.items() if name != "dynamo"}


def _nbytes(module: nn.Module) -> int:
    return sum(t.nbytes for t in module.state_dict().values() if isinstance(t, Tensor))


def _opset(path: Path) -> str:
    model = onnx.load(path, load_external_data=False)
    return str(next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))


def _halve(path: Path, job: Job, tried: list[parity.Case]) -> parity.Difference:
    """The file in float16, held against the module in float32 with a half's tolerance."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():
        model = convert_float_to_float16(onnx.load(path), keep_io_types=True)
        ordered = onnx_ir.from_proto(model)
        ordered.graph.sort()  # its casts stand at the end
        model = onnx_ir.to_proto(ordered)
        onnx.helper.set_model_props(model, dict(job.metadata))
        large = _nbytes_of(model) > ONE_FILE
        for stray in path.parent.iterdir():
            stray.unlink()
        onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data")
    return _check(path, job.example.names, tried, HALF)


def _nbytes_of(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _check(
    path: Path, names: tuple[str, ...], tried: list[parity.Case], relative: float = parity.RELATIVE
) -> parity.Difference:
    """The checker's opinion, then every case through onnxruntime."""
    large = path.with_name(path.name + ".data").exists()
    onnx.checker.check_model(path, full_check=not large)  # in full it needs the model in one piece
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}  # unused inputs are dropped
    largest = 0.0
    for case in tried:
        fed = zip(names, tensors(case.args), strict=True)
        found = session.run(None, {name: t.numpy() for name, t in fed if name in wanted})
        outputs = [torch.from_numpy(array) for array in found]
        difference = parity.compare(case.outputs, outputs, relative)
        largest = max(largest, difference.largest)
        if difference.why:
            return parity.Difference(largest, difference.why)
    return parity.Difference(largest)


def reason(error: BaseException) -> str:
    """One line about an exporter's error: the innermost cause, since the outer ones are advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = (_COLOUR.sub("", line).strip() for line in str(error).splitlines())
    return escape(f"{type(error).__name__}: {next(filter(None, lines), '')}".rstrip(": "), 160)


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Without what torch's exporters print, warn and log."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
