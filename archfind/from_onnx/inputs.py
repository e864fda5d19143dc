"""What a graph takes: inputs of its sizes, its network's example in them, and a run of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from archfind.providers import example_of
from archfind.providers.example import Axes, Example, images, tensors_of_call
from archfind.types import Match

# Inputs of a text that a graph may lack, those that most do first.
_WITHOUT = (
    "position_ids", "token_type_ids", "bbox", "decoder_attention_mask", "attention_mask",
    "decoder_input_ids",
)  # fmt: skip


def run_graph(path: str, inputs: list[Tensor], names: tuple[str, ...] = ()) -> list[Tensor]:
    """The graph's outputs on inputs in its own order, or by `names`, where it has these."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = [value.name for value in session.get_inputs()]
    given = names if len(names) == len(inputs) and set(wanted) <= set(names) else wanted
    fed = {n: t.numpy() for n, t in zip(given, inputs, strict=False) if n in wanted}
    return [torch.from_numpy(np.asarray(value)) for value in session.run(None, fed)]


def _shapes(model: onnx.ModelProto) -> list[tuple[str, list[int]]]:
    """The graph's own inputs with their sizes; 0 where one is free."""
    held = {t.name for t in model.graph.initializer}
    return [
        (v.name, [d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in model.graph.input
        if v.name not in held
    ]


def freed_in(model: onnx.ModelProto, example: Example) -> tuple[Axes, ...]:
    """The axes that the graph leaves open beside the batch, whose sizes it computes as it runs, so
    that it isn't the graph of fixed ones; () where there are none."""
    shapes = [shape for _, shape in _shapes(model)]
    if not example.axes or [len(t.shape) for t in tensors_of_call(example.args)] != list(
        map(len, shapes)
    ):
        return ()
    found = [
        {axis: name for axis, name in {0: "batch", **axes}.items() if not shape[axis]}
        for shape, axes in zip(shapes, example.axes, strict=True)
    ]
    return tuple(found) if any(axis for axes in found for axis in axes) else ()


def example_for(match: Match, module: nn.Module, model: onnx.ModelProto) -> Example:
    """The network's example in the sizes that the graph takes."""
    example = _taken(example_of(match, module), [name for name, _ in _shapes(model)])
    shapes = [shape for _, shape in _shapes(model)]
    alone = len(example.args) == len(shapes) == 1 and isinstance(example.args[0], Tensor)
    if not alone or len(shapes[0]) != len(example.size) + 1:
        return example
    size = tuple(n or m for n, m in zip(shapes[0][1:], example.size, strict=True))
    batch = shapes[0][0] or 2
    if size == example.size and batch == 2:
        return example
    made = images(size, batch=batch)  # pyright: ignore[reportArgumentType]
    made = made.sigmoid() if not example.mean else made
    return replace(example, args=(made,), size=size)


def _taken(example: Example, names: list[str]) -> Example:
    """The example without inputs that the graph doesn't take: those of other names where it has
    these, else as many as it has fewer, what a text does without first."""
    if len(names) >= len(example.names) or any(isinstance(arg, list) for arg in example.args):
        return example
    kept = set(names)
    if not kept <= set(example.names):
        surplus = [name for name in _WITHOUT if name in example.names]
        surplus = surplus[: len(example.names) - len(names)]
        kept = set(example.names).difference(surplus)
    given = iter(example.names)
    args = tuple(
        arg if not isinstance(arg, Tensor) or next(given) in kept else None for arg in example.args
    )
    places = [at for at, name in enumerate(example.names) if name in kept]
    axes = tuple(example.axes[at] for at in places) if example.axes else ()
    return replace(example, args=args, names=tuple(example.names[at] for at in places), axes=axes)


def inputs(model: onnx.ModelProto) -> list[Tensor] | None:
    """Inputs of the graph's own sizes, where they're images, sequences or vectors of floats."""
    found: list[Tensor] = []
    random = torch.Generator().manual_seed(0)
    for _, shape, kind in tried_sizes(model):
        if kind == onnx.TensorProto.FLOAT:
            found.append(torch.randn(shape, generator=random))
        elif kind in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            dtype = torch.int64 if kind == onnx.TensorProto.INT64 else torch.int32
            found.append(torch.ones(shape, dtype=dtype))
        else:
            return None
    return found


def tried_sizes(model: onnx.ModelProto) -> list[tuple[str, list[int], int]]:
    """The graph's own inputs by name, with the sizes that they are tried in and their type's
    number: a free batch is 2, other free sizes 64."""
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    return [
        (name, [n or (2 if at == 0 else 64) for at, n in enumerate(shape)], types[name])
        for name, shape in _shapes(model)
    ]
