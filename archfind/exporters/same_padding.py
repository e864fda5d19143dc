"""Padding that follows from the size, as TensorFlow's convolutions have it ("same").

Python computes it from a picture's size, and a graph has what came out for one size: nothing before
and one after, where the stride is two and the size even. ONNX has a word for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import onnx_ir


def is_padded(model: onnx_ir.Model) -> bool:
    """Whether a convolution looks as if its padding had been computed: more after than before, by
    just as much as "same" makes of the size that the graph is for."""
    return any(_is_lopsided(node) for node in _padded(model))


@contextlib.contextmanager
def padded_by_size(model: onnx_ir.Model) -> Generator[None]:
    """Inside, the convolutions of `model` whose padding is what "same" makes of the size have it as
    a rule. The check has to bear that out."""
    nodes = _padded(model)
    before = [(node.attributes["pads"], node.attributes["auto_pad"]) for node in nodes]
    try:
        for node in nodes:
            del node.attributes["pads"]
            node.attributes["auto_pad"] = onnx_ir.AttrString("auto_pad", "SAME_UPPER")
        yield
    finally:
        for node, (pads, auto_pad) in zip(nodes, before, strict=True):
            node.attributes["pads"] = pads
            node.attributes["auto_pad"] = auto_pad


def _padded(model: onnx_ir.Model) -> list[onnx_ir.Node]:
    """Convolutions with a stride whose padding is what "same" makes of the size."""
    return [node for node in model.graph.all_nodes() if node.op_type == "Conv" and _is_same(node)]


def _is_same(node: onnx_ir.Node) -> bool:
    if not {"pads", "auto_pad", "strides", "dilations"} <= set(node.attributes):
        return False
    picture, kernel = (_sizes(value) for value in node.inputs[:2])
    strides, dilations = _numbers(node, "strides"), _numbers(node, "dilations")
    if len(picture) != len(strides) or len(kernel) != len(strides) or max(strides) == 1:
        return False
    wanted = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(picture, kernel, strides, dilations, strict=True)
    ]
    return _numbers(node, "pads") == [n // 2 for n in wanted] + [n - n // 2 for n in wanted]


def _sizes(value: onnx_ir.Value | None) -> list[int]:
    """The dims after the first two that are known."""
    dims = list(value.shape)[2:] if value is not None and value.shape is not None else []
    return [dim for dim in dims if isinstance(dim, int)]


def _is_lopsided(node: onnx_ir.Node) -> bool:
    pads = _numbers(node, "pads")
    return pads[: len(pads) // 2] != pads[len(pads) // 2 :]


def _numbers(node: onnx_ir.Node, name: str) -> list[int]:
    return list(node.attributes[name].as_ints())
