"""An ONNX graph itself as a module, by onnx2torch, once it is put into words that this knows."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import nn

from archfind.errors import BuildError
from archfind.exporters.onnx import quiet_exporters, reason

# The newest opset whose operators onnx2torch knows; later ones changed mostly types.
_OPSET = 17
_REDUCE = (
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip


def module_of_graph(model: onnx.ModelProto, path: str) -> nn.Module:
    """The graph as a torch.fx module in eval mode, its weights parameters. BuildError names the
    operators that can't be converted."""
    from onnx2torch import convert

    lowered = _lowered(model)
    try:
        with quiet_exporters():
            made = convert(lowered)
    except NotImplementedError as error:
        unknown = _unknown(lowered)
        what = f"operators {', '.join(unknown)}" if unknown else reason(error)
        raise BuildError(f"its graph can't be made a module: {what}", path) from error
    except Exception as error:  # onnx2torch raises anything on graphs that it doesn't expect
        raise BuildError(f"its graph can't be made a module: {reason(error)}", path) from error
    for parameter in made.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return made.eval()


def _unknown(model: onnx.ModelProto) -> list[str]:
    from onnx2torch.node_converters.registry import get_converter

    found: list[str] = []
    for node in model.graph.node:
        try:
            get_converter(node.op_type, _OPSET, node.domain)
        except NotImplementedError:
            found.append(node.op_type)
    return list(dict.fromkeys(found))


def _lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in opset 17: Gelu by its definition, axes as attributes."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    _without_gelu(out)
    if next((o.version for o in out.opset_import if o.domain in ("", "ai.onnx")), 0) <= _OPSET:
        return out
    held = {t.name: numpy_helper.to_array(t) for t in out.graph.initializer}
    for node in out.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            held[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    for node in out.graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type in _REDUCE and len(node.input) > 1:
            axes = held.get(node.input[1])
            if axes is not None:
                del node.input[1:]
                node.attribute.append(helper.make_attribute("axes", np.ravel(axes).tolist()))
        if node.op_type == "Reshape" and "allowzero" in attributes:
            shape = held.get(node.input[1])
            if shape is not None and 0 not in shape:
                node.attribute.remove(attributes["allowzero"])
        if node.op_type == "Split" and "num_outputs" in attributes:
            node.attribute.remove(attributes["num_outputs"])
    for entry in out.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = _OPSET
    return out


def _without_gelu(model: onnx.ModelProto) -> None:
    """Gelu, new in opset 20, as Hendrycks & Gimpel 2016 (arXiv:1606.08415) define it."""
    nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(model.graph.node):
        if node.op_type != "Gelu":
            nodes.append(node)
            continue
        tanh = any(a.name == "approximate" and a.s == b"tanh" for a in node.attribute)
        (x,), (y,), name = node.input, node.output, f"archfind_gelu_{number}"

        def put(op: str, *inputs: str, to: str = "", name: str = name) -> str:
            out = to or f"{name}_{len(nodes)}"
            nodes.append(helper.make_node(op, list(inputs), [out], name=f"{name}_{len(nodes)}"))
            return out

        def number_of(value: float) -> str:
            made = f"archfind_gelu_{value}"
            if all(t.name != made for t in model.graph.initializer):
                tensor = numpy_helper.from_array(np.array(value, np.float32), made)
                model.graph.initializer.append(tensor)
            return made

        if tanh:
            cube = put("Mul", put("Mul", x, x), x)
            inner = put("Add", x, put("Mul", cube, number_of(0.044715)))
            curve = put("Tanh", put("Mul", inner, number_of((2 / np.pi) ** 0.5)))
        else:
            curve = put("Erf", put("Mul", x, number_of(0.5**0.5)))
        half = put("Mul", x, number_of(0.5))
        put("Mul", half, put("Add", curve, number_of(1.0)), to=y)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
