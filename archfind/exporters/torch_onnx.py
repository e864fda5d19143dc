"""torch's two exporters to ONNX, behind one signature."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxscript  # noqa: F401  # pyright: ignore  (torch needs it: missing, it is named at once)
import torch
from torch import Tensor, nn

from archfind.exporters.job import Job
from archfind.providers.example import Axes

SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that it is of

# protobuf ends at 2 GiB, graph included; a file with more in weights becomes two
ONE_FILE = 2**31 - 2**26


def newer(
    module: nn.Module,
    path: Path,
    job: Job,
    outputs: list[str],
    freed: tuple[Axes, ...],
) -> None:
    """torch.export, then its translation. The batch must come out free; other axes may."""
    given = iter(freed)
    shapes = tuple(
        _hints(next(given)) if isinstance(arg, Tensor) else None for arg in job.example.args
    )
    options: dict[str, Any] = {"dynamic_shapes": shapes if any(freed) else None, **_given(job)}
    program = torch.onnx.export(
        module, job.example.args, dynamo=True, verbose=False, optimize=False,
        input_names=list(job.example.names), output_names=outputs, opset_version=job.opset,
        **options,
    )  # fmt: skip
    assert program is not None
    with contextlib.suppress(Exception):  # it trips over splits that depend on the batch (raft)
        program.optimize()
    _named(program.model.graph.inputs, freed, program)
    program.model.metadata_props.update(job.metadata)
    for node in program.model.graph.all_nodes():
        scope = node.metadata_props.get(SCOPES)
        node.metadata_props.clear()  # stack traces: this machine's paths, larger than the graph
        # The names of weights that are folded stay with the nodes that take them.
        if scope and any(value is not None and value.const_value for value in node.inputs):
            node.metadata_props[SCOPES] = scope
    program.save(path, external_data=nbytes(module) > ONE_FILE)


def _hints(axes: Axes) -> dict[int, Any] | None:
    return {at: name if at == 0 else torch.export.Dim.AUTO for at, name in axes.items()} or None


def _named(inputs: Sequence[Any], freed: tuple[Axes, ...], program: Any) -> None:
    """Free axes under the names that people know in place of the exporter's numbers."""
    names: dict[str, str] = {}
    for value, axes in zip(inputs, freed, strict=False):
        for axis, word in axes.items():
            dim = value.shape[axis]
            if not isinstance(dim, int) and str(dim.value).isidentifier():
                names.setdefault(str(dim.value), word)
    changed = {old: new for old, new in names.items() if old != new}
    if changed:
        program.rename_axes(changed)


def older(
    module: nn.Module,
    path: Path,
    job: Job,
    outputs: list[str],
    freed: tuple[Axes, ...],
) -> None:
    """The older exporter, which follows one run of the network."""
    inputs = list(job.example.names)
    axes: Any = None
    if any(freed):
        axes = {name: dict(one) for name, one in zip(inputs, freed, strict=True)}
        axes |= {name: {0: "batch"} for name in outputs}
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
    large = nbytes(module) > ONE_FILE
    onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data")


def _given(job: Job) -> dict[str, Any]:
    """The caller's own arguments for torch's exporter."""
    return {name: value for name, value in job.options.items() if name != "dynamo"}


def nbytes(module: nn.Module) -> int:
    return sum(t.nbytes for t in module.state_dict().values() if isinstance(t, Tensor))
