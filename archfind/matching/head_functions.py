"""What may stand in a head without leaving a tensor: its names in settings, its kinds in a Head.

A state dict shows no activation. Where one must stand, or a Sequential's numbers leave room, one is
assumed, and the others that people put there are named beside it. This module is on the cold path
of `archfind guess`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import HeadLayer

# Setting -> kind: torch.nn's class, but for L2Norm, which divides each row by its length.
KINDS = {
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "relu6": "ReLU6",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
    "hardtanh": "Hardtanh",
    "mish": "Mish",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "l2_norm": "L2Norm",
    "dropout": "Dropout",
    "none": "Identity",
}
SLOPED = ("LeakyReLU", "ELU", "CELU")  # those that take one number
BETWEEN = tuple("relu gelu silu tanh sigmoid leaky_relu elu hardswish none l2_norm".split())
BEFORE = tuple("dropout relu gelu silu tanh l2_norm".split())
AFTER = tuple("none sigmoid softmax log_softmax tanh relu gelu silu leaky_relu l2_norm".split())


def function_setting(layer: HeadLayer) -> str:
    """The setting that a function is: "relu", "leaky_relu(0.2)"."""
    name = next(name for name, kind in KINDS.items() if kind == layer.kind)
    return f"{name}({layer.sizes[0]})" if layer.sizes else name


def parsed_function(value: object) -> tuple[str, tuple[float, ...]] | None:
    """A setting's kind and numbers: ("LeakyReLU", (0.2,)) of "leaky_relu(0.2)"; torch.nn's own
    names do, too. None where there is no such function."""
    name, opened, rest = str(value).strip().partition("(")
    plain = name.replace("_", "").lower()
    kinds = {kind.lower(): kind for kind in KINDS.values()}
    kind = kinds.get(plain) or ("SiLU" if plain == "swish" else None)
    if plain == "none":
        kind = "Identity"
    if kind is None or not opened:
        return (kind, ()) if kind else None
    try:
        number = float(rest.rstrip(")"))
    except ValueError:
        return None
    return (kind, (number,)) if kind in SLOPED else None
