"""What a file is good for, in one line each: resume training, be fine-tuned, take a LoRA, run."""

from __future__ import annotations

from math import prod

from archfind.types import Checkpoint, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SCRIPT = ("torchscript", "torchscript-1.0")
_LOW_RANK = ("lora_A", "lora_down", "lora_a", "lora_B", "hada_w1_a", "lokr_w1", "oft_blocks")
_PACKED = ("qweight", "weight_packed", "SCB", "absmax", "W_q", "quant_map", "_packed_params")
_FLOATS = ("float", "bfloat")


def uses(
    checkpoint: Checkpoint,
    weights: Mapping[str, TensorSpec],
    optimizers: list[dict[str, object]],
    counters: Mapping[str, object],
    schedulers: list[dict[str, object]],
    random_states: list[str],
) -> dict[str, str]:
    """`weights` are the tensors that belong to networks; the answers begin with yes, no or a
    condition."""
    rank = _rank(weights)
    readable = [one for one in weights.values() if has_data(one) or not prod(one.shape)]
    if weights and not readable:
        gone = "no: the values of its weights are not in this file"
        return {"resume": gone, "fine_tune": gone, "lora": gone, "run": gone}
    packed = _is_packed(weights)
    return {
        "resume": _resume(checkpoint, weights, optimizers, counters, schedulers, random_states),
        "fine_tune": _fine_tune(checkpoint, weights, packed, rank),
        "lora": _lora(checkpoint, weights, packed, rank),
        "run": _run(checkpoint),
    }


def has_data(spec: TensorSpec) -> bool:
    """Whether the tensor's values can be read from somewhere."""
    storage = spec.storage
    kept = storage.inside is not None and storage.inside[0] != "absent"
    return bool(storage.start >= 0 or kept or storage.data is not None or spec.pieces)


def _resume(
    checkpoint: Checkpoint,
    weights: Mapping[str, TensorSpec],
    optimizers: list[dict[str, object]],
    counters: Mapping[str, object],
    schedulers: list[dict[str, object]],
    random_states: list[str],
) -> str:
    if checkpoint.format == "onnx":
        return "no: ONNX holds no optimizer"
    kept = [one for one in optimizers if one["state"]]
    if not kept and optimizers:
        return "in part: the optimizer's settings are there, its state is not"
    if not kept:
        return "no: no optimizer state; training can start anew from its weights"
    if not weights:
        return "only beside its weights: this file holds optimizer state alone"
    parts = ["weights", *(f"{one['kind']} state" for one in kept)]
    parts += [f"{name.rpartition('/')[2]} {value:g}" for name, value in list(counters.items())[:2]]  # pyright: ignore
    parts += ["scheduler"] * bool(schedulers) + ["random states"] * bool(random_states)
    lacks = ["scheduler"] * (not schedulers) + ["random states"] * (not random_states)
    without = f"; without {' and '.join(lacks)}" if lacks else ""
    return f"yes, with the training code: {', '.join(parts)}{without}"


def _fine_tune(
    checkpoint: Checkpoint, weights: Mapping[str, TensorSpec], packed: str, rank: int
) -> str:
    if not weights:
        return "no: it holds no weights"
    if checkpoint.format == "onnx":
        return "not as it is: a graph must become a network first (archfind guess names it)"
    if packed:
        return f"no: its weights are quantised ({packed}); dequantise them or take the original"
    if rank:
        return "with its base model: it holds an adapter only"
    if not any(spec.dtype.startswith(_FLOATS) for spec in weights.values()):
        return "no: none of its weights is a float"
    dtypes = {spec.dtype for spec in weights.values() if spec.dtype.startswith(_FLOATS)}
    narrow = "" if dtypes & {"float32", "float64"} else f", in float32 ({dtypes.pop()} is widened)"
    return f"yes, once its network is known (archfind guess){narrow}"


def _lora(checkpoint: Checkpoint, weights: Mapping[str, TensorSpec], packed: str, rank: int) -> str:
    if not weights:
        return "no: it holds no weights"
    if rank:
        return f"it is one: rank {rank}; merge it into its base model first"
    matrices = [
        spec
        for key, spec in weights.items()
        if key.endswith("weight") and len(spec.shape) in (2, 4) and prod(spec.shape)
    ]
    if checkpoint.format == "onnx":
        return "not as it is: a graph must become a network first (archfind guess names it)"
    if packed:
        return f"only with a library that reads {packed} (QLoRA), or once dequantised"
    if not matrices:
        return "no: it has no matrix to adapt"
    return f"yes, once its network is known: {len(matrices)} matrices and convolutions"


def _run(checkpoint: Checkpoint) -> str:
    kind = checkpoint.format
    if kind == "onnx":
        if any("missing" in line for line in checkpoint.warnings):
            return "no: its data file is missing"
        return "yes, as it is: onnxruntime needs no code"
    if kind in _SCRIPT:
        return "yes, but loading runs its code: torch.jit.load, for files that you trust"
    if kind == "torch-export":
        return "yes: torch.export.load, in a torch of about the same version"
    if kind == "torch-package":
        return "yes, but loading runs its code: torch.package, for files that you trust"
    if kind == "gguf":
        return "yes, in llama.cpp and relatives, where they know its architecture"
    foreign = [
        name
        for name in checkpoint.objects.values()
        if not name.startswith(("torch.", "collections.", "builtins.", "argparse."))
    ]
    if any(name.startswith("torch.nn.") for name in checkpoint.objects.values()):
        needs = f" and {foreign[0].partition('.')[0]} installed" if foreign else ""
        return f"only by unpickling its classes, which runs code: with torch{needs}"
    return "no: weights alone; they need their network's code (archfind export makes an .onnx)"


def _rank(weights: Mapping[str, TensorSpec]) -> int:
    """The rank of an adapter; 0 where the file is none."""
    found = [
        min(spec.shape[:2])
        for key, spec in weights.items()
        if len(spec.shape) >= 2 and not {"lora_A", "lora_down", "lora_a"}.isdisjoint(key.split("."))
    ]
    adapters = sum(any(word in key for word in _LOW_RANK) for key in weights)
    if adapters * 4 < len(weights):
        return 0
    return max(found, default=1 if adapters else 0)


def _is_packed(weights: Mapping[str, TensorSpec]) -> str:
    """What packs the weights, "" where they are plain numbers."""
    for key, spec in weights.items():
        leaf = key.rpartition(".")[2]
        if leaf in _PACKED or "quant_state" in leaf:
            return leaf
        if spec.dtype.startswith(("q", "iq", "mxfp", "tq", "ggml")):
            return spec.dtype
    return ""
