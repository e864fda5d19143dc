"""What the calls of a layer in a program say of its arguments."""

from __future__ import annotations

from archfind.sourcing.parts import ModulePart
from archfind.sourcing.program import Op, ProgramWeight, Ref, refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# Layers without tensors: the operation, its arguments beyond the input by the layer's names, and
# torch's defaults of these.
_LAYERS: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {
    "ReLU": (("relu", "relu_"), {}),
    "Sigmoid": (("sigmoid",), {}),
    "Tanh": (("tanh",), {}),
    "SiLU": (("silu", "silu_"), {}),
    "Mish": (("mish",), {}),
    "Hardswish": (("hardswish", "hardswish_"), {}),
    "LeakyReLU": (("leaky_relu", "leaky_relu_"), {"negative_slope": 0.01}),
    "ELU": (("elu", "elu_"), {"alpha": 1.0}),
    "Softmax": (("softmax",), {"dim": None}),
    "LogSoftmax": (("log_softmax",), {"dim": None}),
    "Flatten": (("flatten",), {"start_dim": 1, "end_dim": -1}),
    "PixelShuffle": (("pixel_shuffle",), {"upscale_factor": None}),
    "Dropout": (("dropout",), {"p": 0.5}),
}
_POOLS = {
    "max_pool": ("stride", "padding", "dilation", "ceil_mode"),
    "avg_pool": ("stride", "padding", "ceil_mode", "count_include_pad"),
}
_USUAL: dict[str, object] = {
    "padding": 0, "dilation": 1, "ceil_mode": False, "count_include_pad": True
}  # fmt: skip


def layer_called(part: ModulePart, ops: Sequence[Op], stated: str) -> tuple[str, Ref] | None:
    """Give the layer `part` the arguments that its operations say; the layer's kind and what it
    reads. None where they aren't those of one layer of torch.nn. `stated` is its class there."""
    kind = stated.rpartition(".")[2]
    ops = [op for op in ops if op.name not in ("alias",)]
    if len(ops) != 1 or not ops[0].args or len(ops[0].outs) != 1:
        return None
    op = ops[0]
    if not part.tensors and part.is_block and not part.children and stated.startswith("torch.nn."):
        return _plain(part, op, kind)
    weights = {name: f"{part.path}.{name}" if part.path else name for name in ("weight", "bias")}
    if part.kind.startswith("Conv"):
        return _convolution(part, op, weights)
    given = _by_name(op)
    reads = [ref for value in op.args for ref in refs(value)]
    if len(reads) != 1:
        return None
    bias = ProgramWeight(weights["bias"]) if part.arguments.get("bias", True) else None
    if given.get("weight") != ProgramWeight(weights["weight"]) and "affine" not in part.arguments:
        return None
    if part.kind == "Linear" and op.name == "linear" and given.get("bias") == bias:
        return "Linear", reads[0]
    if part.kind == "Embedding" and op.name == "embedding":
        return "Embedding", reads[0]
    if part.kind == "PReLU" and op.name == "prelu":
        return "PReLU", reads[0]
    if part.is_norm and given.get("bias", ProgramWeight(weights["bias"])) == ProgramWeight(
        weights["bias"]
    ):
        return _norm(part, op, given, reads[0], kind)
    return None


def _by_name(op: Op) -> dict[str, object]:
    """An operation's arguments by the names that torch's schema has for them."""
    names = {
        "linear": ("input", "weight", "bias"),
        "embedding": ("weight", "indices"),
        "prelu": ("input", "weight"),
        "batch_norm": ("input", "weight", "bias", "mean", "var", "training", "momentum", "eps"),
        "layer_norm": ("input", "shape", "weight", "bias", "eps"),
        "group_norm": ("input", "groups", "weight", "bias", "eps"),
    }.get(op.name, ())
    return (
        dict(zip(names, op.args, strict=False))
        | {"bias": None, **dict(op.kwargs)}
        | dict(zip(names, op.args, strict=False))
    )


def _norm(
    part: ModulePart, op: Op, given: dict[str, object], read: Ref, kind: str
) -> tuple[str, Ref] | None:
    eps = given.get("eps", 1e-5)
    arguments: dict[str, Any] = dict(part.arguments)
    wide = arguments.get("num_features") or arguments.get("num_channels") or 0
    shape = arguments.get("normalized_shape", (wide,))
    if op.name == "batch_norm" and part.kind.startswith("BatchNorm") and not given.get("training"):
        stated = kind if kind in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d") else part.kind
        means = [ProgramWeight(f"{part.path}.{name}") for name in ("running_mean", "running_var")]
        if [given.get("mean"), given.get("var")] != means:
            return None
        part.kind = stated
    elif op.name == "layer_norm" and list(shape) == given.get("shape"):
        part.kind, arguments = "LayerNorm", {"normalized_shape": tuple(shape)}
    elif op.name == "group_norm" and type(given.get("groups")) is int and len(shape) == 1:
        part.kind = "GroupNorm"
        arguments = {"num_groups": given["groups"], "num_channels": shape[0]}
    else:
        return None
    if not isinstance(eps, float):
        return None
    part.arguments = arguments | ({"eps": eps} if abs(eps - 1e-5) > 1e-12 else {})
    return part.kind, read


def _convolution(part: ModulePart, op: Op, weights: dict[str, str]) -> tuple[str, Ref] | None:
    args = list(op.args)
    dims = part.dims
    turned = op.name == f"conv_transpose{dims}d"
    if op.name == "_convolution" and len(args) >= 9:
        turned = bool(args[6])
        stride, padding, dilation, outer, groups = *args[3:6], args[7], args[8]
    elif op.name == f"conv{dims}d":
        defaults: list[object] = [[1] * dims, [0] * dims, [1] * dims, 1]
        stride, padding, dilation, groups = [*args[3:7], *defaults[len(args[3:7]) :]]
        outer = [0] * dims
    elif turned:
        more: list[object] = [[1] * dims, [0] * dims, [0] * dims, 1, [1] * dims]
        stride, padding, outer, groups, dilation = [*args[3:8], *more[len(args[3:8]) :]]
    else:
        return None
    bias = args[2] if len(args) > 2 else None
    read, weight = args[0], args[1] if len(args) > 1 else None
    if not isinstance(read, Ref) or weight != ProgramWeight(weights["weight"]):
        return None
    has_bias = "bias" not in part.arguments
    if (bias is not None) != has_bias or (
        bias is not None and bias != ProgramWeight(weights["bias"])
    ):
        return None
    shape = part.arguments
    groups = groups if type(groups) is int and groups > 0 else 1
    first, second = _weight_sizes(part)
    ins, outs = (first, second * groups) if turned else (second * groups, first)
    arguments: dict[str, Any] = {
        "in_channels": ins, "out_channels": outs, "kernel_size": shape["kernel_size"]
    }  # fmt: skip
    rows = {"stride": stride, "padding": padding, "output_padding": outer, "dilation": dilation}
    for name, value in rows.items():
        usual = int(name in ("stride", "dilation"))
        if name == "padding" and value in ("same", "valid"):
            arguments[name] = f'"{value}"'
        elif not isinstance(value, list) or not all(type(n) is int for n in value):  # pyright: ignore
            return None
        elif set(value) != {usual}:  # pyright: ignore
            sizes = tuple(value) * (dims if len(value) == 1 else 1)  # pyright: ignore
            arguments[name] = sizes[0] if len(set(sizes)) == 1 else sizes  # pyright: ignore
    arguments |= {"groups": groups} if groups > 1 else {}
    arguments |= {} if has_bias else {"bias": False}
    part.kind = f"Conv{'Transpose' * turned}{dims}d"
    part.arguments, part.ins, part.outs = arguments, ins, outs
    return part.kind, read


def _weight_sizes(part: ModulePart) -> tuple[int, int]:
    """The first two sizes of a convolution's weight, as the tree read it."""
    a = part.arguments
    groups = a.get("groups", 1)
    if part.kind.startswith("ConvTranspose"):
        return a["in_channels"], a["out_channels"] // groups
    return a["out_channels"], a["in_channels"] // groups


def _plain(part: ModulePart, op: Op, kind: str) -> tuple[str, Ref] | None:
    read = op.args[0]
    rest, kwargs = list(op.args[1:]), dict(op.kwargs)
    if not isinstance(read, Ref) or refs(rest):
        return None
    pool = next((name for name in _POOLS if op.name in (f"{name}{n}d" for n in "123")), "")
    arguments: dict[str, Any] = {}
    if pool and kind == f"{'Max' if pool[0] == 'm' else 'Avg'}Pool{op.name[-2]}d" and rest:
        size = _short(rest[0])
        arguments["kernel_size"] = size
        for name, value in zip(_POOLS[pool], rest[1:], strict=False):
            value = _short(value)
            if name == "stride":
                if value not in (size, [], ()):
                    arguments[name] = value
            elif value != _USUAL[name]:
                arguments[name] = value
    elif op.name == "gelu" and kind == "GELU":
        how = kwargs.get("approximate", rest[0] if rest else "none")
        arguments = {"approximate": '"tanh"'} if how == "tanh" else {}
    elif op.name.startswith("adaptive_avg_pool") and kind == f"AdaptiveAvgPool{op.name[-2]}d":
        arguments["output_size"] = _short(rest[0])
    elif kind in _LAYERS and op.name in _LAYERS[kind][0]:
        names = _LAYERS[kind][1]
        if any(value not in (None, False, 1) for value in rest[len(names) :]) or any(
            value is not None for _, value in op.kwargs
        ):
            return None  # a dtype, a scale, training
        if kind == "Dropout" and rest[1:] != [False]:
            return None
        for (name, usual), value in zip(names.items(), rest, strict=False):
            if value != usual:
                arguments[name] = value
        arguments |= {"inplace": True} if op.name.endswith("_") else {}
    else:
        return None
    if not all(value == '"tanh"' or _is_plain(value) for value in arguments.values()):
        return None
    part.kind, part.arguments = kind, arguments
    return kind, read


def _is_plain(value: object) -> bool:
    """Whether it is a finite number, or a row of them."""
    numbers = value if isinstance(value, tuple) else (value,)
    return all(isinstance(n, int | float) and n - n == 0 for n in numbers)  # pyright: ignore


def _short(value: object) -> Any:
    if isinstance(value, list):
        sizes = tuple(value)  # pyright: ignore
        return sizes[0] if len(set(sizes)) == 1 else sizes  # pyright: ignore
    return value
