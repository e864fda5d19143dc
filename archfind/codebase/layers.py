"""torch's own layers: which tensors each has, and what their sizes say of its arguments."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shape = tuple[int, ...]
    Tensors = Mapping[str, Shape]

# Positional arguments in torch's order, up to those that tensors tell.
_ARGUMENTS = {
    "Linear": "in_features out_features bias",
    "LazyLinear": "out_features bias",
    "Bilinear": "in1_features in2_features out_features bias",
    "Embedding": "num_embeddings embedding_dim",
    "EmbeddingBag": "num_embeddings embedding_dim",
    "LayerNorm": "normalized_shape",
    "RMSNorm": "normalized_shape",
    "GroupNorm": "num_groups num_channels",
    "PReLU": "num_parameters",
    "MultiheadAttention": "embed_dim num_heads dropout bias",
    "TransformerEncoderLayer": "d_model nhead dim_feedforward",
    "TransformerDecoderLayer": "d_model nhead dim_feedforward",
}
_CONV = "in_channels out_channels kernel_size stride padding dilation groups bias"
_TRANSPOSED = "in_channels out_channels kernel_size stride padding output_padding groups bias"
_NORM = "num_features"
_RECURRENT = "input_size hidden_size num_layers bias batch_first dropout bidirectional"
_DIMENSIONS = ("1d", "2d", "3d")
_NORMS = {
    *(f"BatchNorm{d}" for d in _DIMENSIONS),
    *(f"InstanceNorm{d}" for d in _DIMENSIONS),
    "SyncBatchNorm",
}
_CONVS = {f"Conv{d}" for d in _DIMENSIONS} | {f"LazyConv{d}" for d in _DIMENSIONS}
_TRANSPOSES = {f"ConvTranspose{d}" for d in _DIMENSIONS}
_RECURRENTS = {"LSTM", "GRU", "RNN"}
_CELLS = {"LSTMCell", "GRUCell", "RNNCell"}
LAYERS = {*_ARGUMENTS, *_NORMS, *_CONVS, *_TRANSPOSES, *_RECURRENTS, *_CELLS}
# Layers without tensors: a place in a Sequential, or in a class, that no key shows.
BARE = frozenset(
    "ReLU ReLU6 LeakyReLU ELU SELU CELU GELU SiLU Mish Hardswish Hardsigmoid Hardtanh Sigmoid "
    "LogSigmoid Tanh Softmax Softmax2d LogSoftmax Softplus Softsign Identity Dropout Dropout1d "
    "Dropout2d Dropout3d AlphaDropout MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d "
    "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d "
    "AdaptiveMaxPool3d Flatten Unflatten Upsample UpsamplingNearest2d UpsamplingBilinear2d "
    "PixelShuffle PixelUnshuffle ZeroPad2d ReflectionPad1d ReflectionPad2d ReplicationPad2d Fold "
    "Unfold CosineSimilarity PairwiseDistance ChannelShuffle CrossEntropyLoss MSELoss L1Loss "
    "BCELoss BCEWithLogitsLoss NLLLoss SmoothL1Loss KLDivLoss CTCLoss GLU Threshold".split()
)


def arguments_of(kind: str) -> Sequence[str]:
    """The names of a layer's positional arguments."""
    if kind in _CONVS:
        return _CONV.split()
    if kind in _TRANSPOSES:
        return _TRANSPOSED.split()
    if kind in _NORMS:
        return _NORM.split()
    if kind in _RECURRENTS:
        return _RECURRENT.split()
    if kind in _CELLS:
        return ["input_size", "hidden_size"]
    return _ARGUMENTS.get(kind, "").split()


def arguments_shown_by(kind: str, tensors: Tensors) -> dict[str, object] | None:
    """The arguments that the tensors of a layer show; None where they aren't of such a layer."""
    weight = tensors.get("weight", ())
    if kind in ("Linear", "LazyLinear"):
        return {"out_features": weight[0], "in_features": weight[1]} if len(weight) == 2 else None
    if kind in ("Embedding", "EmbeddingBag"):
        fits = len(weight) == 2
        return {"num_embeddings": weight[0], "embedding_dim": weight[1]} if fits else None
    if kind in _CONVS or kind in _TRANSPOSES:
        return _convolution(kind, weight)
    if kind in _NORMS:
        names = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
        sizes = {shape for name, shape in tensors.items() if name in names and shape}
        fits = len(sizes) == 1 and len(next(iter(sizes))) == 1
        return {"num_features": next(iter(sizes))[0]} if fits else None
    if kind in ("LayerNorm", "RMSNorm"):
        return {"normalized_shape": weight[0] if len(weight) == 1 else weight} if weight else None
    if kind == "GroupNorm":
        return {"num_channels": weight[0]} if len(weight) == 1 else None
    if kind == "PReLU":
        return {"num_parameters": weight[0]} if len(weight) == 1 else None
    if kind == "Bilinear":
        named = ("out_features", "in1_features", "in2_features")
        return dict(zip(named, weight, strict=True)) if len(weight) == 3 else None
    if kind in _RECURRENTS or kind in _CELLS:
        return _recurrent(kind, tensors)
    if kind == "MultiheadAttention":
        joint = tensors.get("in_proj_weight", ())
        return {"embed_dim": joint[1]} if len(joint) == 2 else None
    joint, wide = tensors.get("self_attn.in_proj_weight", ()), tensors.get("linear1.weight", ())
    if len(joint) != 2 or len(wide) != 2:
        return None
    return {"d_model": joint[1], "dim_feedforward": wide[0]}


def _convolution(kind: str, weight: Shape) -> dict[str, object] | None:
    rank = int(kind[-2]) + 2
    if len(weight) != rank:
        return None
    kernel = weight[2:]
    size: object = kernel[0] if len({*kernel}) == 1 else kernel
    names = ("in_channels", "out_channels")
    first, second = names if kind in _TRANSPOSES else names[::-1]
    return {first: weight[0], second: weight[1], "kernel_size": size}


def _recurrent(kind: str, tensors: Tensors) -> dict[str, object] | None:
    end = "" if kind in _CELLS else "_l0"
    into, again = tensors.get(f"weight_ih{end}", ()), tensors.get(f"weight_hh{end}", ())
    gates = {"LSTM": 4, "GRU": 3}.get(kind.removesuffix("Cell"), 1)
    if len(into) != 2 or len(again) != 2 or again[0] != gates * again[1]:
        return None
    found: dict[str, object] = {"input_size": into[1], "hidden_size": again[1]}
    if end:
        forward = [n for n in tensors if n.startswith("weight_ih_l") and not n.endswith("reverse")]
        found["num_layers"] = len(forward)
    return found
