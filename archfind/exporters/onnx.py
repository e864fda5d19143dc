"""An .onnx file: torch's exporters in turn, until the result agrees with the module."""

from __future__ import annotations

import contextlib
import copy
import errno
import io
import logging
import re
import shutil
import warnings
from collections.abc import Generator
from pathlib import Path

import onnx
import onnx_ir
import onnxruntime
import torch
from torch import nn

from archfind.errors import ExportError
from archfind.exporters import parity
from archfind.exporters.job import Job, Written
from archfind.exporters.torch_onnx import ONE_FILE, newer, older
from archfind.formats.escape import escape
from archfind.providers.example import Axes, Example, tensors
from archfind.types import Built

# exporter, sizes that are free: the newer exporter and the freer graph first
ATTEMPTS = (
    ("dynamo", "free sizes"),
    ("dynamo", "dynamic batch"),
    ("dynamo", "static batch"),
    ("torchscript", "free sizes"),
    ("torchscript", "dynamic batch"),
    ("torchscript", "static batch"),
)
OLDEST = 7  # opset
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
HALF = 2e-2  # of an output's largest value: ten bits, and rounding that adds up
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def write(built: Built, job: Job) -> Written:
    """The built network, as `write_module` writes it."""
    return write_module(built.module, job)


def write_module(module: nn.Module, job: Job) -> Written:
    """Try `ATTEMPTS` in order, and keep the first whose outputs onnxruntime reproduces.

    Notes: "exporter", "batch", "opset"; "free" (the axes whose size the graph leaves open),
    "fallback" (why the attempts before failed), "warning" (why the check proves little),
    "unchecked" (how far an output that was kept regardless differs).
    """
    example = job.example
    newest = onnx.defs.onnx_opset_version()
    if job.opset is not None and not OLDEST <= job.opset <= newest:
        raise ExportError(f"no exporter writes opset {job.opset}: they are {OLDEST} to {newest}")
    try:
        with quiet():
            traced = parity.case(module, example.args)
    except Exception as error:  # the network is anyone's code
        why = reason(error)
        raise ExportError(f"the network doesn't run on its example input: {why}") from error
    if not job.keep_unchecked:
        parity.expect_numbers(traced)
    failures: list[str] = []
    kept: tuple[float, Path, dict[str, str]] | None = None
    for exporter, sizes in _attempts(module, job):
        path = job.path.parent / f"{exporter}-{sizes.replace(' ', '-')}" / job.path.name
        path.parent.mkdir()
        try:
            with quiet():
                # A copy each: tracing leaves its own tensors in whatever the network caches.
                copied = _copied(module)
                convert = newer if exporter == "dynamo" else older
                convert(copied, path, job, list(traced.outputs), _freed(example, sizes))
                del copied
                if job.opset is not None and _opset(path) != str(job.opset):
                    failures.append(f"{exporter}, {sizes}: it writes opset {_opset(path)}")
                    shutil.rmtree(path.parent)
                    continue
                free = _free(path, example)
                others = _others(example, free)
                tried = [traced, *(parity.case(module, args) for args in others)]
                difference = _check(path, example.names, tried)
        except Exception as error:  # exporters raise anything
            if isinstance(error, OSError) and error.errno in _DISK:
                raise  # no other exporter finds more room
            failures.append(f"{exporter}, {sizes}: {reason(error)}")
            shutil.rmtree(path.parent)
            continue
        batch = "static" if sizes == "static batch" else "dynamic"
        notes = {"exporter": exporter, "batch": batch, "opset": _opset(path)}
        words = list(dict.fromkeys(name for axes in free for name in axes.values()))
        notes |= {"free": ", ".join(words)} if words else {}
        notes |= {"fallback": "; ".join(failures)} if failures else {}
        notes |= parity.doubts(tried)
        if not difference.why and job.half:
            difference = _halve(path, job, tried)
            notes["half"] = "weights and arithmetic in float16, inputs and outputs in float32"
        if not difference.why:
            return Written(path, difference.largest, notes)
        failures.append(f"{exporter}, {sizes}: {difference.why}")
        if not job.keep_unchecked or (kept and kept[0] <= difference.largest):
            shutil.rmtree(path.parent)
        else:
            kept = (difference.largest, path, {**notes, "unchecked": difference.why})
    if kept:
        return Written(kept[1], kept[0], kept[2])
    raise ExportError(failures[-1] if len(failures) == 1 else "; ".join(failures))


def _attempts(module: nn.Module, job: Job) -> list[tuple[str, str]]:
    """Those of `ATTEMPTS` that the network and the caller's arguments allow."""
    example, wanted = job.example, job.options.get("dynamo")
    found = [(e, s) for e, s in ATTEMPTS if wanted is None or wanted == (e == "dynamo")]
    if not example.dynamic_batch:
        return [(e, s) for e, s in found if s == "static batch"]
    if example.axes:
        try:
            with quiet():
                parity.case(module, parity.resized(example.args, example.axes))
            return found
        except Exception:  # most networks of patches are of one size
            pass
    return [(e, s) for e, s in found if s != "free sizes"]


def _freed(example: Example, sizes: str) -> tuple[Axes, ...]:
    """For each tensor the axes to be left open, by name."""
    count = len(tensors(example.args))
    if sizes == "static batch":
        return ({},) * count
    axes = example.axes if sizes == "free sizes" else ({},) * count
    return tuple({0: "batch", **one} for one in axes)


def _free(path: Path, example: Example) -> tuple[Axes, ...]:
    """The axes that the graph did leave open; inputs that it dropped have none."""
    graph = onnx.load(path, load_external_data=False).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    every = example.axes or ({},) * len(example.names)
    return tuple(
        {
            axis: word
            for axis, word in {0: "batch", **axes}.items()
            if name in shapes and shapes[name][axis].HasField("dim_param")
        }
        for name, axes in zip(example.names, every, strict=True)
    )


def _others(example: Example, free: tuple[Axes, ...]) -> list[tuple[object, ...]]:
    """What the graph is tried on besides what was traced: batches of three, which is not the traced
    two, and of one, since people run one image at a time; other sizes where they are free."""
    if not any(0 in axes for axes in free):
        return [parity.other(example.args)]
    sizes = tuple({axis: word for axis, word in axes.items() if axis} for axes in free)
    larger = parity.resized(example.args, sizes)
    return [parity.other(larger, 3), parity.other(example.args, 1)]


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except RuntimeError:  # a tensor with a gradient history among its attributes
        return module


def _opset(path: Path) -> str:
    model = onnx.load(path, load_external_data=False)
    return str(next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))


def _halve(path: Path, job: Job, tried: list[parity.Case]) -> parity.Difference:
    """The file in float16, held against the module in float32 with a half's tolerance."""
    with quiet():
        model = halved(onnx.load(path))
        onnx.helper.set_model_props(model, dict(job.metadata))
        large = _nbytes_of(model) > ONE_FILE
        for stray in path.parent.iterdir():
            stray.unlink()
        onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data")
    return _check(path, job.example.names, tried, HALF)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with weights and arithmetic in float16, its inputs and outputs as they were."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    ordered = onnx_ir.from_proto(convert_float_to_float16(model, keep_io_types=True))
    ordered.graph.sort()  # its casts stand at the end
    return onnx_ir.to_proto(ordered)


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
