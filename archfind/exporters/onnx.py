"""An .onnx file: torch's exporters in turn, until the result agrees with the module."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import onnx
import onnx_ir
from torch import nn

from archfind.errors import ExportError, Stopped
from archfind.exporters import parity
from archfind.exporters.attempts import ExportedNetwork, attempts
from archfind.exporters.job import Job, WrittenFile
from archfind.exporters.onnx_check import cases, check_graph, graph_of
from archfind.exporters.quiet import quiet_exporters, reason
from archfind.exporters.sizes import observed, run_on_other_sizes
from archfind.exporters.torch_onnx import ONE_FILE
from archfind.matching.torch_quantised import quantisation_words
from archfind.progress import step
from archfind.steps import done
from archfind.types import Built

OLDEST = 7  # opset
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
HALF = 2e-2  # of an output's largest value: ten bits, and rounding that adds up


def write(built: Built, job: Job) -> WrittenFile:
    """The built network, as `write_module` writes it. ExportError that says so where torch
    quantised it, and no graph computes the same."""
    made = built.guess.canonical.quantisation
    if made is None:
        return write_module(built.module, job)
    others = "write .ts, which holds it, or copy its tensors into .safetensors or .pth"
    if made.kind != "static":
        raise ExportError(
            f"{quantisation_words(made)}: ONNX has no operators that compute it; {others}"
        )
    try:
        return write_module(built.module, job)
    except ExportError as error:
        last = error.message.rpartition("; ")[2]
        text = f"{quantisation_words(made)}: no graph computes the same ({last})"
        raise ExportError(f"{text}; {others}, or keep the .onnx with --keep-unchecked") from error


def write_module(module: nn.Module, job: Job) -> WrittenFile:
    """Make the `attempts` in order, and keep the first whose outputs onnxruntime reproduces.

    Notes: "exporter", "batch", "opset"; "free" (the axes whose size the graph leaves open),
    "refuses" (a size that the network takes and the graph doesn't), "fallback" (why the attempts
    before failed), "warning" (why the check proves little), "unchecked" (how far an output that
    was kept regardless differs).
    """
    network = _run(module, job)
    failures: list[str] = []
    kept: tuple[float, WrittenFile] | None = None
    for attempt in attempts(network):
        path = job.path.parent / attempt.name.replace(", ", "-").replace(" ", "-") / job.path.name
        path.parent.mkdir()
        limit = f", at most {attempt.limit:.0f} s" if attempt.limit else ""
        try:
            with (
                step(f"export: {attempt.name}{limit}", attempt.limit is not None),
                quiet_exporters(),
            ):
                attempt.write(path)
            done("exported")
            with quiet_exporters():
                written, why = _checked(path, network, attempt.batch)
        except Stopped:
            raise
        except Exception as error:  # exporters raise anything
            if isinstance(error, OSError) and error.errno in _DISK:
                raise  # no other exporter finds more room
            failures.append(f"{attempt.name}: {reason(error)}")
            shutil.rmtree(path.parent)
            continue
        notes = {"exporter": attempt.exporter, **written.notes}
        notes |= {"fallback": "; ".join(failures)} if failures else {}
        written = WrittenFile(path, written.max_abs_diff, notes)
        if not why:
            return written
        network.differs = True
        failures.append(f"{attempt.name}: {why}")
        largest = written.max_abs_diff
        if not job.keep_unchecked or (kept and kept[0] <= largest):
            shutil.rmtree(path.parent)
        else:
            kept = (largest, WrittenFile(path, largest, {**notes, "unchecked": why}))
    if kept:
        return kept[1]
    raise ExportError(failures[-1] if len(failures) == 1 else "; ".join(failures))


def _run(module: nn.Module, job: Job) -> ExportedNetwork:
    """The network on its example input, and on another size."""
    newest = onnx.defs.onnx_opset_version()
    if job.opset is not None and not OLDEST <= job.opset <= newest:
        raise ExportError(f"no exporter writes opset {job.opset}: they are {OLDEST} to {newest}")
    try:
        with quiet_exporters():
            traced, calls = observed(module, job.example.args)
    except Exception as error:  # the network is anyone's code
        why = reason(error)
        raise ExportError(f"the network doesn't run on its example input: {why}") from error
    if not job.keep_unchecked:
        parity.expect_numbers(traced)
    with quiet_exporters():
        return ExportedNetwork(module, job, traced, run_on_other_sizes(module, job.example, calls))


def _checked(path: Path, network: ExportedNetwork, batch: str) -> tuple[WrittenFile, str]:
    """The file with what is to be said of it, and how it differs from the module, "" if nowhere."""
    job, example = network.job, network.job.example
    graph = graph_of(path, example)
    if job.opset is not None and graph.opset != str(job.opset):
        raise ExportError(f"it writes opset {graph.opset}")
    others, odd = cases(network.module, example, graph.free, network.sizes)
    padded = parity.padded(network.module, example)
    tried = [network.traced, *others, *([padded] if padded is not None else [])]
    difference, refused = check_graph(path, example.names, tried, odd)
    notes = {"batch": batch, "opset": graph.opset}
    notes |= {"free": ", ".join(graph.words)} if graph.words else {}
    notes |= {"refuses": f"{refused}, which the network takes"} if refused else {}
    notes |= {"padding": "checked, where its mask says there is text"} if padded is not None else {}
    notes |= parity.doubts([network.traced, *others])
    if not difference.why and job.half:
        _halve(path, job)
        difference, _ = check_graph(path, example.names, tried, odd, HALF)
        notes["half"] = "weights and arithmetic in float16, inputs and outputs in float32"
    notes |= difference.note(HALF if "half" in notes else parity.RELATIVE)
    return WrittenFile(path, difference.largest, notes), difference.why


def _halve(path: Path, job: Job) -> None:
    """The file in float16, to be held against the module in float32 with a half's tolerance."""
    model = halved(onnx.load(path))
    onnx.helper.set_model_props(model, dict(job.metadata))
    large = _nbytes_of(model) > ONE_FILE
    for stray in path.parent.iterdir():
        stray.unlink()
    onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data")


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with weights and arithmetic in float16, its inputs and outputs as they were."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    ordered = onnx_ir.from_proto(convert_float_to_float16(model, keep_io_types=True))
    ordered.graph.sort()  # its casts stand at the end
    return onnx_ir.to_proto(ordered)


def _nbytes_of(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)
