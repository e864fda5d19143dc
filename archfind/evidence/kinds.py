"""Files that hold tensors and no network of their own: an adapter, an optimizer's state, one shard
of many. What a file is, and what is missing, in words."""

from __future__ import annotations

import os

from archfind.key_names import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Checkpoint

_ADAPTERS = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lora_embedding_", ".hada_w")
_MOMENTS = frozenset(("exp_avg", "exp_avg_sq", "momentum_buffer", "max_exp_avg_sq"))
_ZERO = (
    "fp32_flat_groups",
    "single_partition_of_fp32_groups",
    "base_optimizer_state",
    "partition_count",
    "zero_stage",
)


def kinds(checkpoint: Checkpoint) -> list[str]:
    """What the file is besides a network's weights; nothing for the usual one."""
    found: list[str] = []
    keys = checkpoint.index
    adapters = sum(any(mark in key for mark in _ADAPTERS) for key in keys)
    if adapters and adapters > len(keys) // 3:
        found.append(
            "a LoRA adapter: changes to some layers of a base model, which isn't in the file; "
            "load the base model first, then this with peft"
        )
    words = {part for key in [*keys, *checkpoint.metadata] for part in key.split("/")}
    if any(word in words for word in _ZERO):
        found.append(
            "a shard of a ZeRO optimizer: flat pieces of all ranks' weights; "
            "zero_to_fp32.py, which DeepSpeed writes beside it, joins them"
        )
    elif keys and sum(key.rpartition("/")[2] in _MOMENTS for key in keys) > len(keys) // 3:
        found.append("an optimizer's state: moments of the weights, which aren't in the file")
    name = os.path.basename(checkpoint.path)
    shard = _shard(name)
    if shard:
        found.append(
            f"shard {shard[0]} of {shard[1]}: the other shards and the .index.json beside them "
            "make the model; open the index"
        )
    return found


def _shard(name: str) -> tuple[int, int] | None:
    """The numbers in `model-00002-of-00005.safetensors`."""
    stem = name.rpartition(".")[0]
    head, of, total = stem.rpartition("-of-")
    shard, shards = number(head.rpartition("-")[2]), number(total)
    return (shard, shards) if of and shard >= 0 and shards > 1 else None
