"""How much memory a graph would take, from its shapes alone, before anything runs it."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx

from archfind.errors import BuildError
from archfind.formats import expansion
from archfind.from_onnx.inputs import tried_sizes

_TIMES = 1000  # of the inputs' bytes, for a value that is computed from them
_SMALL = 1024  # numbers of a constant whose values may be a shape
_RANK = 64  # numbers of a shape that is asked for
_MOST = 1 << 16  # numbers that Concats may join
_WIDTH = 8  # bytes, of types that have no fixed width


def refuse_large(model: onnx.ModelProto, path: str, files: Iterable[str]) -> None:
    """BuildError where the constants that the graph computes, its inputs or a value on the way are
    out of proportion to the files: for constants and inputs `expansion.limit`, for another value
    1000 times the inputs' bytes more. Shapes that only show as it runs are not known here."""
    files = tuple(files)
    graph = model.graph
    constant = {t.name for t in graph.initializer} | {
        t.values.name for t in graph.sparse_initializer
    }
    made = sum(prod(t.dims) * _width(t.values.data_type) for t in graph.sparse_initializer)
    given = {name: prod(shape) * _width(kind) for name, shape, kind in tried_sizes(model)}
    found = _inferred(model)
    on_the_way = 0
    for node in graph.node:
        fixed = all(name in constant for name in node.input if name)
        for name in node.output:
            nbytes = found.get(name, 0)
            if fixed and name:
                constant.add(name)
                made += nbytes if node.op_type != "Constant" else 0
            else:
                on_the_way = max(on_the_way, nbytes)
    inputs = sum(given.values())
    for nbytes in (made, inputs, on_the_way - _TIMES * inputs):
        text = expansion.excess(nbytes, files)
        if text:
            raise BuildError(text, path)


def _inferred(model: onnx.ModelProto) -> dict[str, int]:
    """The bytes of each value whose shape follows from the inputs' sizes; {} where onnx can't
    tell."""
    bare = onnx.ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.name = "g"
    graph.node.extend(model.graph.node)
    for value in model.graph.output:  # by name: what it says of its shape may be a lie
        kind = value.type.tensor_type.elem_type or onnx.TensorProto.FLOAT
        graph.output.append(onnx.helper.make_tensor_value_info(value.name, kind, None))
    for tensor in model.graph.initializer:  # large ones by their shapes: data costs memory here
        if prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    for name, shape, kind in tried_sizes(model):
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    # onnx would write out what a Range makes, number after number, to see whether it is a shape
    follow = b"Range" not in bare.SerializeToString() and not _grows(graph)
    try:
        made = onnx.shape_inference.infer_shapes(bare, data_prop=follow)
    except Exception:  # of a graph that breaks the rules, which running it will say
        return {}
    values: dict[str, int] = {}
    for value in (*made.graph.value_info, *made.graph.output):
        kind = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else 1 for d in kind.shape.dim]
        values[value.name] = prod(shape) * _width(kind.elem_type)
    return values


def _grows(graph: onnx.GraphProto) -> bool:
    """Whether Concats of Concats make more numbers than any shape has: onnx would write them out,
    and each node can double them."""
    lengths = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        some = [lengths.get(name, _RANK) for name in node.input]
        length = sum(some) if node.op_type == "Concat" else max(some, default=_RANK)
        if length > _MOST:
            return True
        lengths.update(dict.fromkeys(node.output, length))
    return False


def _width(kind: int) -> int:
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    except (KeyError, TypeError, ValueError):
        return _WIDTH
