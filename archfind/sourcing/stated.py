"""What a whole pickled module says of its layers: arguments for their constructors."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.sourcing.parts import ModulePart
    from archfind.sourcing.unseen import Asked

# The arguments of layers without tensors, with torch's defaults.
_ARGUMENTS: dict[str, dict[str, object]] = {
    "MaxPool": {"kernel_size": None, "stride": None, "padding": 0, "dilation": 1,
                "ceil_mode": False},
    "AvgPool": {"kernel_size": None, "stride": None, "padding": 0, "ceil_mode": False,
                "count_include_pad": True},
    "Adaptive": {"output_size": None},
    "Dropout": {"p": 0.5},
    "AlphaDropout": {"p": 0.5},
    "LeakyReLU": {"negative_slope": 0.01},
    "ELU": {"alpha": 1.0},
    "CELU": {"alpha": 1.0},
    "Softplus": {"beta": 1.0, "threshold": 20.0},
    "Softmax": {"dim": None},
    "LogSoftmax": {"dim": None},
    "Flatten": {"start_dim": 1, "end_dim": -1},
    "Upsampling": {"scale_factor": None, "size": None},
    "Upsample": {"scale_factor": None, "size": None, "align_corners": None},
    "Hardshrink": {"lambd": 0.5},
    "Softshrink": {"lambd": 0.5},
    "PixelUnshuffle": {"downscale_factor": None},
    "Softmin": {"dim": None},
    "FeatureAlphaDropout": {"p": 0.5},
    "PixelShuffle": {"upscale_factor": None},
    "ZeroPad": {"padding": None},
    "ReflectionPad": {"padding": None},
    "ReplicationPad": {"padding": None},
    "Hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "GLU": {"dim": -1},
    "InstanceNorm": {"num_features": None, "eps": 1e-5},
}  # fmt: skip


def stated_arguments(top: ModulePart, asked: Asked) -> None:
    """Give the layers of a tree the arguments that the file tells."""
    for part in top.walk():
        if not part.stated or part.is_block:
            continue
        usual = next((row for kind, row in _ARGUMENTS.items() if part.kind.startswith(kind)), None)
        if usual is not None and not part.arguments:
            part.arguments = _given(part, usual)
            for name, value in part.arguments.items():
                asked.file_says(f"{part.path}.{name}", value)
        if part.kind == "GELU" and part.said.get("approximate") == "tanh":
            part.arguments = {"approximate": '"tanh"'}
        told = part.said.get("batch_first")
        if part.kind in ("LSTM", "GRU", "RNN") and isinstance(told, bool):
            part.arguments["batch_first"] = asked.file_says(f"{part.path}.batch_first", told)
        if part.kind.startswith(("LayerNorm", "GroupNorm")):
            _norm(part)


def _norm(part: ModulePart) -> None:
    groups = part.said.get("num_groups")
    wide = part.arguments.get("normalized_shape", (0,))
    if part.stated.endswith("GroupNorm") and isinstance(groups, int) and len(wide) == 1:
        part.kind, part.arguments = "GroupNorm", {"num_groups": groups, "num_channels": wide[0]}


def _given(part: ModulePart, usual: dict[str, object]) -> dict[str, object]:
    held: dict[str, object] = {}
    for name, default in usual.items():
        value = part.said.get(name, default)
        value = tuple(value) if isinstance(value, list) else value
        numbers = value if isinstance(value, tuple) else (value,)
        plain = all(isinstance(n, int | float) and n - n == 0 and abs(n) < 2**31 for n in numbers)
        if plain and value != default:
            held[name] = value
    if held.get("stride") == held.get("kernel_size"):
        held.pop("stride", None)
    if part.kind.startswith("Upsample") and part.said.get("mode") in ("bilinear", "bicubic"):
        held["mode"] = f'"{part.said["mode"]}"'
    if part.kind.startswith("UpsamplingNearest"):
        part.kind = "Upsample"
    return held
