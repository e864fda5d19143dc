"""The graph of one size as a graph of every size.

Where a network does the same whatever the size of its input, so does its graph: sizes stand only in
the shapes that are noted beside it. That is a guess about the graph, which the check has to bear
out on inputs of other sizes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence

import onnx_ir
from torch import Tensor

from archfind.exporters.parity import Case
from archfind.providers.example import Axes, tensors_of_call


@contextlib.contextmanager
def with_open_axes(
    model: onnx_ir.Model, axes: Sequence[Axes], traced: Case, larger: Case
) -> Generator[None]:
    """Inside, `model` leaves open the axes of its inputs that `axes` names; `traced` and `larger`
    are runs on two sizes, which show what sizes its outputs have."""
    graph = model.graph
    values = [*graph.inputs, *graph.outputs]
    values += [value for node in graph.all_nodes() for value in node.outputs]
    before = [(value, value.shape) for value in values]
    initial = set(graph.initializers.values())
    words = _words(axes, traced, larger)
    try:
        for value, _ in before:
            if value not in initial:
                value.shape = None
        shapes = {id(value): shape for value, shape in before}
        for value, names in zip(graph.inputs, axes, strict=True):
            dims = list(shapes[id(value)] or ())
            value.shape = onnx_ir.Shape([names.get(at, dim) for at, dim in enumerate(dims)])
        outputs = zip(graph.outputs, traced.outputs.values(), larger.outputs.values(), strict=True)
        for value, small, large in outputs:
            dims = list(shapes[id(value)] or ())
            value.shape = onnx_ir.Shape(
                [_dim(dim, at, small, large, words) for at, dim in enumerate(dims)]
            )
        yield
    finally:
        for value, shape in before:
            value.shape = shape


def _words(axes: Sequence[Axes], traced: Case, larger: Case) -> dict[tuple[int, int], str]:
    """A size in the one run and in the other: its name."""
    pairs = zip(axes, tensors_of_call(traced.args), tensors_of_call(larger.args), strict=True)
    return {
        (small.shape[axis], large.shape[axis]): word
        for names, small, large in pairs
        for axis, word in names.items()
    }


def _dim(
    dim: int | onnx_ir.SymbolicDim,
    at: int,
    small: Tensor,
    large: Tensor,
    words: dict[tuple[int, int], str],
) -> int | onnx_ir.SymbolicDim | str | None:
    """An output's dim: a name, a multiple of one ("4*height"), or, where neither is, nothing."""
    if not isinstance(dim, int):
        return dim
    sizes = small.shape[at], large.shape[at]
    if sizes[0] == sizes[1]:
        return dim
    for (one, two), word in words.items():
        times = sizes[0] // one
        if times and sizes == (times * one, times * two):
            return word if times == 1 else f"{times}*{word}"
    return None
