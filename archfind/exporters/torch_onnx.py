"""torch's two exporters to ONNX, behind one signature."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxscript  # noqa: F401  # pyright: ignore  (torch needs it: missing, it is named at once)
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from archfind.exporters.job import Job
from archfind.providers.example import Axes, Example

SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that it is of

# protobuf ends at 2 GiB, graph included; a file with more in weights becomes two
ONE_FILE = 2**31 - 2**26

_ATEN = torch.ops.aten
# Operators that make a tensor as large as another, which those below do by themselves.
_EXPAND = {_ATEN.expand.default, _ATEN.expand_as.default}
_BROADCAST = {_ATEN.mul.Tensor, _ATEN.add.Tensor, _ATEN.sub.Tensor, _ATEN.div.Tensor}


def captured_program(module: nn.Module, job: Job, freed: tuple[Axes, ...]) -> ExportedProgram:
    """The network as torch.export's program. The batch must come out free; other axes may."""
    shapes: Any = _shapes(job.example, freed) if any(freed) else None
    shapes = job.options.get("dynamic_shapes", shapes)
    named = job.options.get("kwargs")
    module = copied(module)  # tracing leaves its own tensors in whatever the network caches
    args = _fresh(job.example.args)  # and what it was told of them with tensors

    def follow(strict: bool) -> ExportedProgram:
        # As torch.onnx.export itself does: guards on sizes of one aren't made.
        with torch.fx.experimental._config.patch(backed_size_oblivious=True):  # pyright: ignore
            return torch.export.export(module, args, named, dynamic_shapes=shapes, strict=strict)

    try:
        program = follow(strict=False)
    except Exception as error:
        try:
            program = follow(strict=True)
        except Exception:
            raise error from error.__cause__
    _broadcast(program)
    return program


def _fresh(args: tuple[object, ...]) -> tuple[Any, ...]:
    return tuple(
        [_fresh((item,))[0] for item in arg]  # pyright: ignore[reportUnknownVariableType]
        if isinstance(arg, list)
        else arg.detach() if isinstance(arg, Tensor) else arg
        for arg in args
    )  # fmt: skip


def is_freer(program: ExportedProgram, freed: tuple[Axes, ...]) -> bool:
    """Whether an axis besides the batch came out free."""
    names = set(program.graph_signature.user_inputs)
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    shapes = [node.meta["val"].shape for node in inputs if node.name in names and _is_tensor(node)]
    return any(
        not isinstance(shape[axis], int)
        for shape, axes in zip(shapes, freed, strict=False)
        for axis in axes
        if axis
    )


def _is_tensor(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _shapes(example: Example, freed: tuple[Axes, ...]) -> tuple[Any, ...]:
    given = iter(freed)
    return tuple(_hints(next(given)) if isinstance(arg, Tensor) else None for arg in example.args)


def _hints(axes: Axes) -> dict[int, Any] | None:
    return {at: Dim.DYNAMIC if at == 0 else Dim.AUTO for at in axes} or None


def _broadcast(program: ExportedProgram) -> None:
    """Without the `expand_as` of gates that are multiplied right after: a size would be in it."""
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target not in _EXPAND or not node.users:
            continue
        shape = node.meta["val"].shape
        others = [
            [arg for arg in user.args if arg is not node]
            for user in node.users
            if user.target in _BROADCAST and not user.kwargs
        ]
        alike = (
            len(rest) == 1 and isinstance(rest[0], torch.fx.Node)
            and rest[0].meta["val"].shape == shape
            for rest in others
        )  # fmt: skip
        if len(others) == len(node.users) and all(alike):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    program.graph_module.recompile()


def translated(
    program: ExportedProgram, job: Job, outputs: list[str], freed: tuple[Axes, ...]
) -> torch.onnx.ONNXProgram:
    """A captured program as a graph of ONNX, optimised, with the metadata of `job`."""
    options = {k: v for k, v in _given(job).items() if k not in ("dynamic_shapes", "kwargs")}
    made = torch.onnx.export(
        program, dynamo=True, verbose=False, optimize=False,
        input_names=list(job.example.names), output_names=outputs, opset_version=job.opset,
        **options,
    )  # fmt: skip
    assert made is not None
    with contextlib.suppress(Exception):  # it trips over splits that depend on the batch (raft)
        made.optimize()
    _named(made.model.graph.inputs, freed, made)
    made.model.metadata_props.update(job.metadata)
    for node in made.model.graph.all_nodes():
        scope = node.metadata_props.get(SCOPES)
        node.metadata_props.clear()  # stack traces: this machine's paths, larger than the graph
        # The names of weights that are folded stay with the nodes that take them.
        if scope and any(value is not None and value.const_value for value in node.inputs):
            node.metadata_props[SCOPES] = scope
    return made


def newer(
    module: nn.Module, path: Path, job: Job, outputs: list[str], freed: tuple[Axes, ...]
) -> None:
    """The newer exporter from the module to a file."""
    program = captured_program(module, job, freed)
    saved(translated(program, job, outputs, freed), module, path)


def saved(made: torch.onnx.ONNXProgram, module: nn.Module, path: Path) -> None:
    """Writes a graph, in two files where one can't hold the module's weights."""
    made.save(path, external_data=nbytes(module) > ONE_FILE)


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


def export_by_tracing(
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


def copied(module: nn.Module) -> nn.Module:
    """A copy; the module itself where it can't be copied."""
    try:
        return copy.deepcopy(module)
    except RuntimeError:  # a tensor with a gradient history among its attributes
        return module
