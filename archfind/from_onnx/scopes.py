"""The names that a graph's constants had in the state dict, by the modules that its nodes are of.

Exporters fold transposes into weights and keep one of several equal constants, and give what they
made names of their own. Both of torch's note of each node which module it came from: the older one
in the node's name (`/encoder/layer.0/query/MatMul`), the newer one in its metadata.
"""

from __future__ import annotations

import ast
from collections import Counter

import numpy as np
import onnx

from archfind.exporters.torch_onnx import SCOPES
from archfind.from_onnx.slots import Array, constants

# What a module calls the constants at these places of its operator.
_PLACES = {
    "MatMul": {1: "weight"},
    "Gemm": {1: "weight", 2: "bias"},
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "BatchNormalization": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "InstanceNormalization": {1: "weight", 2: "bias"},
    "LayerNormalization": {1: "weight", 2: "bias"},
    "RMSNormalization": {1: "weight"},
    "Gather": {0: "weight"},
}


def named_constants(model: onnx.ModelProto) -> dict[str, Array]:
    """The float constants under the names that they have, or had: those of modules whose nodes
    don't agree on one are left out."""
    held = {k: v for k, v in constants(model).items() if np.issubdtype(v.dtype, np.floating)}
    own = {t.name for t in model.graph.initializer}
    own |= {n.output[0] for n in model.graph.node if n.op_type == "Identity"}
    uses = Counter(name for node in model.graph.node for name in node.input)
    found = {k: v for k, v in held.items() if k in own and _is_name(k)}
    made: dict[str, Array | None] = {}
    for node in model.graph.node:
        scope = _scope(node)
        places = _PLACES.get(node.op_type, {})
        if node.op_type == "Add" and made.get(f"{scope}.weight") is not None:
            places = {place: "bias" for place, one in enumerate(node.input) if one in held}
        elif node.op_type == "Mul" and f"{scope}.weight" not in made:  # norms that are spelt out
            places = {p: "weight" for p, one in enumerate(node.input) if _is_vector(held.get(one))}
        for place, leaf in places.items() if scope else ():
            array = held.get(node.input[place]) if place < len(node.input) else None
            if array is None:
                continue
            name = node.input[place]
            if name in found and (name.startswith(f"{scope}.") or uses[name] == 1):
                continue  # it has its own name; only what was merged has one of several
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            linear = node.op_type == "MatMul" or (node.op_type == "Gemm" and leaf == "weight")
            value = array.T if linear and not turned and array.ndim == 2 else array
            key = f"{scope}.{leaf}"
            if key in made:
                before = made[key]
                if before is None or (before is not value and not np.array_equal(before, value)):
                    made[key] = None
            else:
                made[key] = value
    return {**{k: v for k, v in made.items() if v is not None}, **found}


def _is_vector(array: Array | None) -> bool:
    return array is not None and array.ndim == 1 and array.size > 1


def _is_name(name: str) -> bool:
    """Whether a name is one of a state dict's, not one that an exporter made up."""
    return "::" not in name and "/" not in name and not name.startswith(("val_", "_val_"))


def _scope(node: onnx.NodeProto) -> str:
    """The module that a node is of: "encoder.layer.0.query"; "" where nothing says it."""
    said = next((p.value for p in node.metadata_props if p.key == SCOPES), "")
    if said:
        try:
            scopes = ast.literal_eval(said)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return ""
        good = isinstance(scopes, list) and len(scopes) > 1 and isinstance(scopes[-2], str)
        return scopes[-2] if good else ""
    if not node.name.startswith("/"):
        return ""
    path: list[str] = []
    for part in node.name.split("/")[1:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()  # a child of a Sequential is named with the whole way from its parent's
        path.append(part)
    return ".".join(path)
