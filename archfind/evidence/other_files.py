"""Files that hold tensors and no network of their own: an adapter, an embedding, a ControlNet, an
optimizer's state, one shard of many. What each is, for which base, and what to do with it."""

from __future__ import annotations

import os

from archfind.escape import escape
from archfind.evidence.vectors import TEXTS, embedding, hypernetwork, soft_prompt
from archfind.state_dicts.key_names import number_in_key
from archfind.types import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from archfind.types import Checkpoint

    Shapes = Mapping[str, tuple[int, ...]]

# One of these is in some key of every file that may be an adapter.
_LOW_RANK = (
    "lora", "hada_w", "lokr_", "oft_", ".diff\n", ".on_input", "ia3_", "vera_lambda",
)  # fmt: skip
_FLAT = frozenset(("flat_param", "_flat_param", "flat_params", "flat_parameter"))
_SHARED = ("ShardedTensor", "distributed.tensor", "distributed._tensor", "FlatParameter")
_ZERO = (
    "fp32_flat_groups",
    "single_partition_of_fp32_groups",
    "base_optimizer_state",
    "partition_count",
    "zero_stage",
)


def kind_of_checkpoint(checkpoint: Checkpoint) -> Kind | None:
    """What the file is where it's no network; None for the usual one, which is told in one look at
    its keys."""
    keys = "\n".join(checkpoint.index) + "\n"
    if any(mark in keys for mark in _LOW_RANK):
        found = _adapter(checkpoint)
        if found is not None:
            return found
    readers = [read for mark, read in _MARKED if mark in keys]
    if len(checkpoint.index) < 8:
        readers.append(embedding)
    shapes = (
        {key.replace("/", "."): spec.shape for key, spec in checkpoint.index.items()}
        if (readers)
        else {}
    )
    for read in readers:
        found = read(shapes)
        if found is not None:
            return found
    return _of_others(checkpoint, keys)


def missing_shards_note(checkpoint: Checkpoint) -> str:
    """What is missing beside one of several files, ""; told by its name."""
    stem = os.path.basename(checkpoint.path).rpartition(".")[0]
    head, of, total = stem.rpartition("-of-")
    shard, shards = number_in_key(head.rpartition("-")[2]), number_in_key(total)
    if not of or shard < 0 or shards < 2:
        return ""
    return (
        f"shard {shard} of {shards}: the other shards and the .index.json beside them "
        "make the model; open the index"
    )


def _adapter(checkpoint: Checkpoint) -> Kind | None:
    from archfind.evidence.adapters import base_words, low_rank  # late: of few files

    found = low_rank(checkpoint)
    if found is None:
        return None
    base = base_words(found)
    article = "an" if found.form[:1] in "AIO" else "a"
    words = f"{article} {found.form} adapter ({found.written})"
    if found.ranks:
        low, high = found.ranks[0], found.ranks[-1]
        words += f", rank {low}" if low == high else f", ranks {low} to {high}"
    if found.alphas:
        low, high = found.alphas[0], found.alphas[-1]
        words += f", alpha {low:g}" if low == high else f", alphas {low:g} to {high:g}"
    if base:
        words += f", of {base}"
    if found.claimed:
        words += f"{' ' if base else ', '}(made for {escape(found.claimed, 60)}, it says)"
    if found.full:
        count = len(found.full)
        words += f", with {count} whole tensor{'s' * (count > 1)} beside"
    details = {
        "form": found.form,
        "format": found.written,
        "rank": list(found.ranks),
        "alpha": list(found.alphas),
        "layers": len(found.layers),
        "base": base or None,
        "base_claimed": found.claimed or None,
        "whole_tensors": list(found.full),
    }
    advice = "no network by itself: load its base model first, then this"
    if found.form == "LoRA" and not found.pairs:
        advice = "half of an adapter: the other matrix of each pair is in another file"
    if found.pairs and not found.unpaired:
        advice += "; or merge it:  archfind repair {path} --base BASE -o merged.safetensors"
    return Kind("lora", words, details, advice)


def _text_width(shapes: Shapes, *ends: str) -> int:
    found = [shape[1] for key, shape in shapes.items() if key.endswith(ends) and len(shape) == 2]
    return max(set(found), key=found.count) if found else 0


def _of_base(name: str, title: str, width: int, advice: str, **details: object) -> Kind:
    base = TEXTS.get(width, f"a base with text of width {width}" if width else "")
    words = title + (f", for {base}" if base else "")
    return Kind(name, words, {"base": base or None, "text_width": width or None, **details}, advice)


def _ip_adapter(shapes: Shapes) -> Kind | None:
    own = [key for key in shapes if "ip_adapter" in key or "image_proj" in key or "_ip." in key]
    if 2 * len(own) < len(shapes) or not any("ip_adapter" in key or "_ip." in key for key in own):
        return None
    width = _text_width(shapes, "to_k_ip.weight")
    plus = any(".latents" in key for key in own)
    title = "an IP-Adapter Plus" if plus else "an IP-Adapter"
    return _of_base("ip-adapter", title, width, "loaded beside its base's UNet", plus=plus)


def _controlnet(shapes: Shapes) -> Kind | None:
    marks = ("control_model.", "controlnet_", "zero_convs.", "input_hint_block.")
    if not any(key.startswith(marks) for key in shapes):
        return None
    with_base = any(key.startswith("model.diffusion_model.") for key in shapes)
    width = _text_width(shapes, "attn2.to_k.weight")
    low_rank = "lora_controlnet" in shapes
    title = ("a Control-LoRA" if low_rank else "a ControlNet") + (
        " with its base model" if with_base else ""
    )
    hints = [shape[1] for key, shape in shapes.items() if len(shape) == 4 and _reads_hint(key)]
    details = {"with_base": with_base, "hint_channels": hints[0] if hints else None}
    return _of_base("controlnet", title, width, "loaded beside its base's UNet", **details)


def _reads_hint(key: str) -> bool:
    return key.endswith(("input_hint_block.0.weight", "controlnet_condembedding.conv_in.weight"))


def _lllite(shapes: Shapes) -> Kind | None:
    own = sum(key.startswith("lllite_") for key in shapes)
    if 2 * own < len(shapes):
        return None
    return Kind("controlnet", "a ControlNet-LLLite", {"layers": own}, "loaded beside its base")


def _t2i_adapter(shapes: Shapes) -> Kind | None:
    known = ("adapter.", "body.", "conv_in.", "unshuffle.", "xl.", "layer")
    blocks = [key for key in shapes if key.endswith((".block1.weight", ".in_conv.weight"))]
    first = next((s for key, s in shapes.items() if key.endswith("conv_in.weight")), ())
    plain = all(key.startswith(known) for key in shapes)
    if not plain or not blocks or len(first) != 4 or first[1] % 64:
        return None
    pixels = 256 if first[1] % 256 == 0 and first[1] <= 1024 else 64  # those of a square of 16 or 8
    base = "SDXL" if pixels == 256 else "Stable Diffusion 1.x (1.5)"
    words = f"a T2I-Adapter, {first[1] // pixels} channels of hints, for {base}"
    details = {"hint_channels": first[1] // pixels, "base": base}
    return Kind("t2i-adapter", words, details, "loaded beside its base's UNet")


_MARKED: tuple[tuple[str, Callable[[Shapes], Kind | None]], ...] = (
    ("prompt_embeddings\n", soft_prompt),
    ("/linear.0.weight\n", hypernetwork),
    ("string_to_param", embedding),
    ("ip_adapter", _ip_adapter),
    ("to_k_ip", _ip_adapter),
    ("lllite_", _lllite),
    ("control_model.", _controlnet),
    ("controlnet_", _controlnet),
    ("input_hint_block.", _controlnet),
    (".block1.weight", _t2i_adapter),
)


def _of_others(checkpoint: Checkpoint, keys: str) -> Kind | None:
    """What others and training keep, by names that only they give."""
    index = checkpoint.index
    own = checkpoint.objects.get("")
    if own and not any(name.startswith("torch") for name in checkpoint.foreign):
        words = f"a pickled object of class {escape(own, 80)} with numpy arrays, no state dict"
        return Kind("object", words, {"class": own}, "what wrote it reads it")
    every = keys + "\n".join(checkpoint.metadata)
    if any(word in every for word in _ZERO):
        words = {part for key in every.split("\n") for part in key.split("/")}
        if not words.isdisjoint(_ZERO):
            return Kind(
                "zero-shard",
                "a shard of a ZeRO optimizer: flat pieces of all ranks' weights",
                advice="zero_to_fp32.py, which DeepSpeed writes beside it, joins them",
            )
    shared = any(mark in name for name in checkpoint.foreign for mark in _SHARED)
    if shared or "flat_param" in keys:
        flat = [key for key in index if _leaf(key) in _FLAT]
        matrices = any(len(spec.shape) > 1 for spec in index.values())
        if 2 * len(flat) >= len(index) or (shared and not matrices):
            return Kind(
                "fsdp-shard",
                "one rank's shard of an FSDP checkpoint: pieces of flattened weights",
                {"flat": len(flat)},
                "torch.distributed.checkpoint joins the ranks (dcp_to_torch_save for a folder)",
            )
    if "shadow_params/" in keys and all(
        "shadow_params" in key.split("/") or "/" not in key for key in index
    ):
        return Kind(
            "averaged",
            "averaged weights as a list without names (torch_ema)",
            advice="its network's parameters, in their order, give the names",
        )
    if "grad" in keys and all(_leaf(key) == "grad" or key.startswith("grad") for key in index):
        return Kind("gradients", "gradients of the weights, which aren't in the file")
    return None


def training_state(checkpoint: Checkpoint) -> Kind | None:
    """What a file is in which all tensors are training's: an optimizer's state, mostly."""
    if not checkpoint.index:
        return None
    from archfind.evidence.training import optimizers  # late: nearly all files have a network

    made = optimizers(checkpoint)
    kinds = ", ".join(dict.fromkeys(str(one["kind"]) for one in made if one["kind"] != "unknown"))
    named = f" ({kinds})" if kinds else ""
    return Kind(
        "optimizer",
        f"an optimizer's state{named}: moments of the weights, which aren't in the file",
        {"optimizers": [one["kind"] for one in made]},
    )


def _leaf(key: str) -> str:
    """The last name in a key, less a number: "flat_param_0" is a flat_param."""
    return key.replace("/", ".").rpartition(".")[2].rstrip("0123456789").rstrip("_")
