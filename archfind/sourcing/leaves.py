"""The torch.nn layer that a group of tensors belongs to, by their names and shapes."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.evidence.layers import Layer
    from archfind.sourcing.parts import ModulePart

    Shapes = Mapping[str, tuple[int, ...]]

_COUNTER = "num_batches_tracked"
_GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}
_TRANSPOSED = re.compile(r"trans|deconv|(^|[._])t?up|upconv|upsample|convt|ct\d|tconv|dec\d*$")
_NORM_NAME = re.compile(r"norm|(^|[._])(ln|rms|bn|gn)")
_PRELU_NAME = re.compile(r"relu|act")


def recognise(part: ModulePart, layer: Layer | None, scattered: bool) -> bool:
    """Make `part` the layer that its tensors are those of; False where they are of none. `layer` is
    what the whole state dict says of it, `scattered`: the part has modules below it, too."""
    shapes = {name: spec.shape for name, spec in part.tensors.items()}
    if any(0 in shape for shape in shapes.values()):
        return False
    if scattered:
        return _attention(part, shapes)
    shapes = _unwrapped(part, shapes)
    names = set(shapes)
    if any(name.startswith("weight_hh") for name in names):
        kind = _recurrent(part, shapes)
    elif "running_mean" in names:
        kind = _batch_norm(part, shapes)
    elif names == {"weight", "bias"} and len(shapes["weight"]) == 1:
        kind = _norm(part, shapes)
    elif names == {"weight"} and len(shapes["weight"]) == 1:
        kind = _bare_vector(part, shapes["weight"])
    elif names <= {"weight", "bias"} and "weight" in names:
        kind = _weighted(part, shapes, layer)
    else:
        kind = ""
    if not kind or _expected(kind, part.arguments) != shapes:
        part.arguments, part.wrapped = {}, ""
        part.ins = part.outs = 0
        return False
    part.kind = kind
    return True


def _unwrapped(part: ModulePart, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes without what weight and spectral norm add."""
    plain = dict(shapes)
    if "weight_g" in plain and "weight_v" in plain:
        norm, weight = plain.pop("weight_g"), plain.pop("weight_v")
        if len(norm) == len(weight) and norm == (weight[0], *(1,) * (len(weight) - 1)):
            plain["weight"], part.wrapped = weight, "nn.utils.weight_norm"
    elif {"weight_orig", "weight_u"} <= set(plain):
        weight, rows = plain.pop("weight_orig"), plain.pop("weight_u")
        columns = plain.pop("weight_v", ())
        if rows == weight[:1] and columns:
            plain["weight"], part.wrapped = weight, "nn.utils.spectral_norm"
    return plain


def _expected(kind: str, arguments: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors that a layer has, by torch's own rules: what makes a strict load certain."""
    a = arguments
    if kind.startswith("ConvTranspose"):
        weight = (a["in_channels"], a["out_channels"] // a.get("groups", 1), *a["kernel_size"])
    elif kind.startswith("Conv"):
        weight = (a["out_channels"], a["in_channels"] // a.get("groups", 1), *a["kernel_size"])
    elif kind == "Linear":
        weight = (a["out_features"], a["in_features"])
    elif kind == "Embedding":
        weight = (a["num_embeddings"], a["embedding_dim"])
    elif kind == "PReLU":
        return {"weight": (a["num_parameters"],)}
    elif kind == "RMSNorm":
        return {"weight": a["normalized_shape"]}
    elif kind in ("LayerNorm", "GroupNorm"):
        shape = a.get("normalized_shape") or (a["num_channels"],)
        return {"weight": shape, "bias": shape}
    elif kind.startswith("BatchNorm"):
        wide = (a["num_features"],)
        names = ("weight", "bias") if a.get("affine", True) else ()
        counted: dict[str, tuple[int, ...]] = {"running_mean": wide, "running_var": wide}
        return dict.fromkeys(names, wide) | counted | {_COUNTER: ()}
    else:
        return _recurrent_tensors(kind, a)
    outs = a.get("out_features", a.get("out_channels", 0))
    biased = kind != "Embedding" and a.get("bias", True)
    return {"weight": weight} | ({"bias": (outs,)} if biased else {})


def _recurrent_tensors(kind: str, a: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    cell = kind.endswith("Cell")
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind.removesuffix("Cell")]
    hidden, width = a["hidden_size"], a["input_size"]
    both = a.get("bidirectional", False)
    held: dict[str, tuple[int, ...]] = {}
    for level in range(a.get("num_layers", 1)):
        for back in ("", "_reverse")[: 1 + both]:
            end = "" if cell else f"_l{level}{back}"
            out = a.get("proj_size", 0) or hidden
            held[f"weight_ih{end}"] = (gates * hidden, width if not level else out * (1 + both))
            held[f"weight_hh{end}"] = (gates * hidden, out)
            if a.get("bias", True):
                held[f"bias_ih{end}"] = held[f"bias_hh{end}"] = (gates * hidden,)
            if a.get("proj_size", 0):
                held[f"weight_hr{end}"] = (out, hidden)
    return held


def _recurrent(part: ModulePart, shapes: Shapes) -> str:
    first = "weight_hh" if "weight_hh" in shapes else "weight_hh_l0"
    inner = shapes.get(first.replace("hh", "ih"), ())
    if first not in shapes or len(shapes[first]) != 2 or len(inner) != 2:
        return ""
    projected = shapes.get("weight_hr_l0", ())
    hidden = projected[1] if len(projected) == 2 else shapes[first][1]
    kind = _GATES.get(shapes[first][0] // max(hidden, 1), "")
    levels = sum(name.startswith("weight_hh_l") for name in shapes)
    both = "weight_hh_l0_reverse" in shapes
    arguments: dict[str, Any] = {"input_size": inner[1], "hidden_size": hidden}
    if first == "weight_hh_l0":
        levels //= 1 + both
        arguments |= {"num_layers": levels} if levels > 1 else {}
        arguments |= {"batch_first": True}
        arguments |= {"bidirectional": True} if both else {}
    if not any(name.startswith("bias") for name in shapes):
        arguments["bias"] = False
    if projected:
        arguments["proj_size"] = projected[0]
    part.arguments = arguments
    part.ins, part.outs = inner[1], (projected[0] if projected else hidden) * (1 + both)
    return kind + ("Cell" if first == "weight_hh" else "") if kind else ""


def _batch_norm(part: ModulePart, shapes: Shapes) -> str:
    wide = shapes["running_mean"]
    if len(wide) != 1:
        return ""
    part.arguments = {"num_features": wide[0]}
    if "weight" not in shapes:
        part.arguments["affine"] = False
    if _COUNTER not in shapes:  # before torch 0.4.1
        return ""
    return "BatchNorm2d"  # the dimensions are what flows through it


def _norm(part: ModulePart, shapes: Shapes) -> str:
    part.arguments = {"normalized_shape": shapes["weight"]}
    return "LayerNorm"  # or GroupNorm, by what flows through it


def _bare_vector(part: ModulePart, shape: tuple[int, ...]) -> str:
    if _NORM_NAME.search(part.name.lower()) and not _PRELU_NAME.search(part.name.lower()):
        part.arguments = {"normalized_shape": shape}
        return "RMSNorm"
    part.arguments = {"num_parameters": shape[0]}
    return "PReLU"


def _weighted(part: ModulePart, shapes: Shapes, layer: Layer | None) -> str:
    weight, biased = shapes["weight"], "bias" in shapes
    extra: dict[str, Any] = {} if biased else {"bias": False}
    if len(weight) == 2:
        if layer is not None and layer.kind == "embedding" and not biased:
            part.arguments = {"num_embeddings": weight[0], "embedding_dim": weight[1]}
            part.outs = weight[1]
            return "Embedding"
        part.arguments = {"in_features": weight[1], "out_features": weight[0], **extra}
        part.ins, part.outs = weight[1], weight[0]
        return "Linear"
    if shapes.get("bias") == weight == (shapes.get("bias") or ()):
        return ""
    if not 3 <= len(weight) <= 5:
        return ""
    dims = part.dims = len(weight) - 2
    stated = part.stated.rpartition(".")[2]
    turned = stated.startswith("ConvTranspose") if stated else _is_turned(part, shapes, layer)
    groups = part.said.get("groups", 1)
    groups = groups if type(groups) is int and 0 < groups <= weight[0] else 1
    if not turned and groups == 1 and layer is not None and layer.depthwise:
        groups = weight[0]
    first, second = weight[:2]
    ins, outs = (first, second * groups) if turned else (second * groups, first)
    if groups > 1:
        extra["groups"] = groups
    part.arguments = {
        "in_channels": ins,
        "out_channels": outs,
        "kernel_size": weight[2:],
        **extra,
    }
    part.ins, part.outs = ins, outs
    return f"Conv{'Transpose' * turned}{dims}d"


def _is_turned(part: ModulePart, shapes: Shapes, layer: Layer | None) -> bool:
    """Whether a convolution is transposed: its bias, or what stands beside it, has its second size;
    where both sizes are one, its name says so, or its kernel of even size and its place."""
    weight = shapes["weight"]
    if "bias" in shapes and weight[0] != weight[1]:
        return shapes["bias"] == (weight[1],)
    if layer is not None and layer.ins != layer.outs and not layer.depthwise:
        return layer.ins == weight[0]
    path = part.path.lower()
    named = _TRANSPOSED.search(path.rpartition(".")[2]) is not None
    upward = named or re.search(r"(^|[._])(dec|decoder|up\w*)([._]|$)", path) is not None
    return (upward and weight[-1] in (2, 4)) or (named and "conv" not in path.split(".")[-1])


def _attention(part: ModulePart, shapes: Shapes) -> bool:
    """nn.MultiheadAttention: its projections, and a module `out_proj` below it."""
    out = part.children.get("out_proj")
    packed = shapes.get("in_proj_weight", ())
    if out is None or len(part.children) != 1 or len(packed) != 2 or packed[0] != 3 * packed[1]:
        return False
    wide = packed[1]
    biased = {"in_proj_bias": (3 * wide,)} if "in_proj_bias" in shapes else {}
    if shapes != {"in_proj_weight": (3 * wide, wide)} | biased or out.kind != "Linear":
        return False
    if (out.ins, out.outs, out.arguments.get("bias", True)) != (wide, wide, bool(biased)):
        return False
    part.kind, part.ins, part.outs = "MultiheadAttention", wide, wide
    part.arguments = {"embed_dim": wide, "num_heads": 0, "batch_first": True}
    if not biased:
        part.arguments["bias"] = False
    part.tensors = {}
    part.children = {}
    return True
