"""What flows between modules, and what a layer makes of it: the algebra of channels."""

from __future__ import annotations

import re

from archfind.frozen import row
from archfind.sourcing.parts import RECURRENT, ModulePart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.sourcing.unseen import Asked

MAP, VECTOR, SEQUENCE, TOKENS, INPUT = "map", "vector", "sequence", "tokens", "input"
_KEEPS = re.compile(
    r"(ReLU|Dropout|Identity|Sigmoid|Tanh|GELU|ELU|SiLU|Softmax|LogSoftmax|Softplus|Mish|SELU|"
    r"LeakyReLU|Hard(tanh|swish|sigmoid)|CELU|Softsign|LogSigmoid|ReLU6|Alpha\w+)\d?d?\Z"
)
_POOLS = re.compile(r"(Adaptive)?(Avg|Max)Pool[123]d\Z|Upsample|UpsamplingNearest2d|ZeroPad2d")


@row
class Value:
    """A tensor by its `kind`: map [N, width, ...] over `dims` dimensions, vector [N, width],
    sequence [N, T, width], tokens [N, T], or input, of which nothing is known yet."""

    kind: str
    width: int = 0
    dims: int = 0


def is_activation(kind: str) -> bool:
    """Whether a layer without tensors is an activation, by its class."""
    return bool(_KEEPS.match(kind)) and not kind.startswith(("Dropout", "Identity", "Alpha"))


def layer_output(part: ModulePart, value: Value, asked: Asked) -> Value | None:
    """What a layer of torch.nn gives when `value` is fed to it; None where its sizes don't fit. A
    norm becomes that of the value's dimensions, a convolution gets groups by its width."""
    kind = part.kind
    if part.is_conv:
        return _convolved(part, value, asked)
    if kind in ("Linear", *RECURRENT, "TransformerEncoder", "TransformerEncoderLayer"):
        if value.kind == INPUT:
            value = Value(VECTOR if kind == "Linear" else SEQUENCE, part.ins)
        wanted = (VECTOR, SEQUENCE) if kind == "Linear" else (SEQUENCE,)
        ok = value.kind in wanted and value.width == part.ins
        return Value(value.kind, part.outs) if ok else None
    if kind == "Embedding":
        return Value(SEQUENCE, part.outs) if value.kind in (INPUT, TOKENS) else None
    if part.is_norm or kind == "PReLU":
        return _normed(part, value, asked)
    if kind == "Flatten":
        return Value(VECTOR, value.width) if value.kind in (VECTOR, MAP) else None
    if kind.startswith("Adaptive") and part.arguments.get("output_size") in (1, (1, 1), (1,)):
        return value if value.kind == MAP else None
    if _KEEPS.match(kind):
        return value
    return value if _POOLS.match(kind) and value.kind == MAP else None


def _convolved(part: ModulePart, value: Value, asked: Asked) -> Value | None:
    arguments = part.arguments
    turned = part.kind.startswith("ConvTranspose")
    if value.kind == INPUT:
        told = "groups" in part.said  # else what reads an input is no depthwise convolution
        groups = 1 if told or turned else arguments.get("groups", 1)
        value = Value(MAP, part.ins // groups, part.dims)
    if value.kind != MAP or value.dims != part.dims:
        return None
    if not turned and value.width != part.ins and "groups" not in part.said:
        each = part.ins // arguments.get("groups", 1)
        groups = value.width // each if value.width % each == 0 else 0
        if groups == 0 or part.outs % groups:
            return None
        arguments["in_channels"] = part.ins = value.width
        biased = arguments.pop("bias", True)
        arguments.pop("groups", None)
        if groups > 1:
            arguments["groups"] = groups
        if not biased:
            arguments["bias"] = False
    if value.width != part.ins:
        return None
    settle_convolution(part, asked)
    return Value(MAP, part.outs, part.dims)


def settle_convolution(part: ModulePart, asked: Asked) -> None:
    """Stride, padding and dilation of a convolution: what the file says, or what is usual for its
    kernel. An argument that is as torch has it by default isn't written."""
    if f"{part.path}.stride" in asked.unseen:
        return
    kernel = part.arguments["kernel_size"]
    turned = part.kind.startswith("ConvTranspose")
    size = kernel[0]
    step, around = part.usual or _usual(size, turned)
    usual = {
        "stride": step if part.usual or len(set(kernel)) == 1 else 1,
        "padding": around if part.usual or len(set(kernel)) == 1 else tuple(k // 2 for k in kernel),
        "dilation": 1,
    }
    if turned:
        usual["output_padding"] = int(step == 2 and size == 3)
    arguments = part.arguments
    biased = arguments.pop("bias", True)
    groups = arguments.pop("groups", 1)
    for name, value in usual.items():
        place = f"{part.path}.{name}"
        told = part.said.get(name)
        if name == "padding" and told in ("same", "valid"):
            arguments["padding"] = f'"{asked.file_says(place, told)}"'
            continue
        if _is_size(told):
            value = asked.file_says(place, tuple(told) if isinstance(told, list) else told)
        else:
            value = asked.value(place, value, part.reason or "usual for its kernel")
        if value not in (int(name in ("stride", "dilation")),) and set(
            value if isinstance(value, tuple) else (value,)
        ) != {int(name in ("stride", "dilation"))}:
            part.arguments[name] = value
    if groups > 1:
        part.arguments["groups"] = groups
    if not biased:
        part.arguments["bias"] = False
    if part.said.get("padding_mode") in ("reflect", "replicate", "circular"):
        part.arguments["padding_mode"] = f'"{part.said["padding_mode"]}"'


def settled_layers(top: ModulePart, asked: Asked) -> None:
    """Give the convolutions and norms below a module the arguments that a whole pickle says."""
    for part in top.walk():
        if part.is_conv:
            settle_convolution(part, asked)
        elif part.is_norm:
            stated, eps = part.stated.rpartition(".")[2], part.said.get("eps")
            if stated in (f"{part.kind[:-2]}{n}d" for n in (1, 2, 3)):
                part.kind = stated
            if isinstance(eps, float) and eps - eps == 0:
                told = asked.file_says(f"{part.path}.eps", eps)
                part.arguments |= {"eps": told} if told != 1e-5 else {}
        elif is_activation(part.kind) and part.said.get("inplace") is True:
            part.arguments = {**part.arguments, "inplace": True}


def _is_size(told: object) -> bool:
    """Whether a file tells a number, or a few, each of which could be a layer's."""
    numbers = told if isinstance(told, list | tuple) else (told,)
    return 0 < len(numbers) < 9 and all(type(n) is int and 0 <= n < 2**31 for n in numbers)


def _usual(size: int, turned: bool) -> tuple[int, int]:
    if turned:
        return {2: (2, 0), 3: (2, 1), 4: (2, 1)}.get(size, (1, size // 2))
    if size % 2:
        return 1, size // 2
    return {2: (2, 0), 4: (2, 1), 6: (2, 2), 8: (4, 0)}.get(size, (size, 0))


def _normed(part: ModulePart, value: Value, asked: Asked) -> Value | None:
    wide = next(
        (part.arguments[n] for n in ("num_features", "num_channels") if n in part.arguments), 0
    )
    if part.kind == "PReLU":
        return value if part.arguments["num_parameters"] in (1, value.width) else None
    shape = part.arguments.get("normalized_shape", (wide,))
    if value.width != shape[-1] or len(shape) > 1:
        return None
    eps = part.said.get("eps")
    stated = part.stated.rpartition(".")[2]
    if part.kind.startswith(("BatchNorm", "InstanceNorm")):
        if stated[:-2] != part.kind[:-2] or stated[-2:] not in ("1d", "2d", "3d"):
            dims = value.dims if value.kind == MAP else 1
            part.kind = f"{part.kind[:-2]}{dims}d"
        else:
            part.kind = stated
        if value.kind == SEQUENCE:
            return None
    elif part.kind in ("LayerNorm", "GroupNorm") and value.kind == MAP and stated != "LayerNorm":
        groups = part.said.get("num_groups")
        if isinstance(groups, int):
            groups = asked.file_says(f"{part.path}.num_groups", groups)
        else:
            usual = next(n for n in (8, 4, 2, 1) if value.width % n == 0)
            if value.width % 32 == 0 and value.width >= 64:
                usual = 32
            groups = asked.value(f"{part.path}.num_groups", usual, "usual for its width")
        part.kind, part.arguments = (
            "GroupNorm",
            {"num_groups": groups, "num_channels": value.width},
        )
    if isinstance(eps, float) and eps - eps == 0 and part.kind != "RMSNorm":
        if asked.file_says(f"{part.path}.eps", eps) != 1e-5:
            part.arguments["eps"] = eps
    else:
        eps = asked.value(f"{part.path}.eps", 1e-5, "torch's default")
        if eps != 1e-5:
            part.arguments["eps"] = eps
    return value
