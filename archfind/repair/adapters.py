"""LoRA adapters: what they are for, and merging them into their base.

A LoRA (Hu et al. 2021, arXiv:2106.09685) adds scale * B A to a weight, B [out, rank] and A
[rank, in]; scale is alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv:2312.03732).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import archfind
from archfind import database as databases
from archfind.errors import CheckpointError, RepairError
from archfind.formats.escape import escape
from archfind.formats.side_files import beside, number, read_object
from archfind.repair.edits import Edit, Plan
from archfind.tensors import TensorReader
from archfind.types import Guess, TensorSpec

# what stands for A and for B, by who writes it
_PAIRS = (
    ("PEFT", ".lora_A.default.weight", ".lora_B.default.weight"),
    ("PEFT", ".lora_A.weight", ".lora_B.weight"),
    ("kohya", ".lora_down.weight", ".lora_up.weight"),
    ("diffusers", ".lora.down.weight", ".lora.up.weight"),
    ("diffusers", "_lora.down.weight", "_lora.up.weight"),
)
_KOHYA = "ss_network_alpha"
_PREFIXES = ("base_model.model.", "unet.", "transformer.", "text_encoder.", "diffusion_model.")
_FLAT = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_")


@dataclass(frozen=True)
class Target:
    """One adapted layer: the keys of A, B and alpha, and the weight's shape."""

    name: str
    down: str
    up: str
    alpha: str
    rank: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Adapter:
    """A LoRA file. `alpha` is None where it is neither in the file nor beside it; `rslora` says how
    it scales; `doubts` name what says so and can't be believed."""

    kind: str
    targets: tuple[Target, ...]
    alpha: float | None
    rslora: bool
    left: tuple[str, ...]
    doubts: tuple[str, ...] = ()

    @property
    def ranks(self) -> list[int]:
        """Every rank in it."""
        return sorted({target.rank for target in self.targets})

    def describe(self) -> str:
        """One line for people."""
        ranks = ", ".join(map(str, self.ranks))
        alpha = "unknown" if self.alpha is None else f"{self.alpha:g}"
        return f"a LoRA ({self.kind}): rank {ranks}, alpha {alpha}, {len(self.targets)} layers"


def adapter(guess: Guess) -> Adapter | None:
    """The adapter in a file; None where it is none."""
    checkpoint = guess.canonical.checkpoint
    index = checkpoint.index
    targets: list[Target] = []
    used: set[str] = set()
    kind = ""
    for one, down, up in _PAIRS:
        for key in index:
            if not key.endswith(down):
                continue
            stem = key[: -len(down)]
            other = f"{stem}{up}"
            if other not in index:
                continue
            a, b = index[key].shape, index[other].shape
            if len(a) < 2 or len(b) < 2 or a[0] != b[1] or not a[0]:
                continue
            alpha = f"{stem}.alpha" if f"{stem}.alpha" in index else ""
            name = _bare(stem)
            targets.append(Target(name, key, other, alpha, a[0], (b[0], *a[1:])))
            used |= {key, other, alpha}
            kind = kind or one
    if not targets:
        return None
    alpha, rslora, doubts = _config(checkpoint.path)
    if targets[0].alpha:
        alpha = _number(index[targets[0].alpha])
        doubts += ["the file's own alpha is no number"] * (alpha is None)
    elif _KOHYA in checkpoint.metadata:
        alpha = number(checkpoint.metadata[_KOHYA])
        doubts += [f"{_KOHYA} in its metadata is no number"] * (alpha is None)
    left = tuple(key for key in index if key not in used)
    return Adapter(kind, tuple(targets), alpha, rslora, left, tuple(doubts))


def _bare(stem: str) -> str:
    for prefix in _PREFIXES:
        stem = stem.removeprefix(prefix)
    for prefix in _FLAT:
        if stem.startswith(prefix) and "." not in stem:
            return stem[len(prefix) :]
    return stem


def _config(path: str) -> tuple[float | None, bool, list[str]]:
    """alpha and rsLoRA from PEFT's adapter_config.json beside the file; what is wrong with it."""
    place = beside(path, "adapter_config.json")
    if not os.path.lexists(place):
        return None, False, []
    try:
        found = read_object(place)
    except CheckpointError as error:
        return None, False, [f"the adapter_config.json beside it is left aside: {error.message}"]
    alpha, rslora = number(found.get("lora_alpha")), found.get("use_rslora")
    doubts = ["lora_alpha in adapter_config.json is no number"] * (alpha is None)
    if not isinstance(rslora, bool | None):
        doubts.append("use_rslora in adapter_config.json is neither true nor false")
    if found.get("alpha_pattern"):
        doubts.append("adapter_config.json gives layers an alpha of their own (alpha_pattern)")
    return alpha, rslora is True, doubts


def _number(spec: TensorSpec) -> float | None:
    """The value of a tensor of one finite number; None for anything else."""
    if any(size != 1 for size in spec.shape):
        return None
    return number(TensorReader().read(spec).to(torch.float64).item())


def bases(found: Adapter, limit: int = 6) -> list[str]:
    """Networks of the database that have a weight for every target, by name and shape; the fewest
    others first."""
    database = databases.default()
    fitting: list[tuple[int, str]] = []
    flat = any("." not in target.name for target in found.targets)
    for place in range(len(database)):
        if database.sizes[place] < len(found.targets):
            continue
        signature = database.signature(place)
        shapes: Mapping[str, tuple[int, ...]] = signature.fixed
        if flat:
            shapes = {k.replace(".", "_").removesuffix("_weight"): v for k, v in shapes.items()}
        else:
            shapes = {k.removesuffix(".weight"): v for k, v in shapes.items()}
        if all(shapes.get(target.name) == target.shape for target in found.targets):
            fitting.append((database.sizes[place], signature.members[0].entry.id))
    return [name for _, name in sorted(fitting)[:limit]]


def adapter_plan(guess: Guess, found: Adapter) -> Plan:
    """What is said of an adapter without its base."""
    known = bases(found)
    named = f"its layers are those of {', '.join(known)}" if known else "no known network has them"
    return Plan(
        guess.canonical.checkpoint.path,
        (),
        status=guess.status,
        tensors=len(guess.canonical.checkpoint.index),
        problems=("an adapter is no network by itself; --base FILE merges it",),
        notes=(found.describe(), named, *found.doubts),
    )


def merge_plan(guess: Guess, base: str | os.PathLike[str]) -> Plan:
    """The adapter merged into the base file. RepairError where the file is no adapter."""
    path = os.fspath(base)
    checkpoint = guess.canonical.checkpoint
    found = adapter(guess)
    if found is None:
        raise RepairError("holds no LoRA that could be merged into a base", checkpoint.path)
    whole = archfind.guess(path).canonical
    places = _places(whole.index)
    edits: list[Edit] = []
    problems = list(found.doubts)  # another scale would give other weights
    notes = [found.describe()]
    if found.alpha is None and not found.doubts:
        notes.append("alpha is in no file: taken as the rank, so that the scale is 1")
    for target in found.targets:
        keys = places.get(target.name) or places.get(target.name.replace(".", "_")) or []
        fits = [k for k in keys if _fits(whole.index[k].shape, target.shape)]
        if len(fits) != 1:
            why = "which the base hasn't" if not keys else "whose weight has another shape"
            problems.append(f"adapts {escape(target.name)}, {why}")
            continue
        alpha = _number(checkpoint.index[target.alpha]) if target.alpha else found.alpha
        if alpha is None and target.alpha:
            problems.append(f"the alpha of {escape(target.name)} is no number")
        alpha = target.rank if alpha is None else alpha
        scale = alpha / (target.rank**0.5 if found.rslora else target.rank)
        turned = whole.index[fits[0]].shape != target.shape
        options = {"how": "lora", "scale": scale, **({"turned": True} if turned else {})}
        parts = (fits[0], f"adapter/{target.down}", f"adapter/{target.up}")
        edits.append(Edit("merge", parts, (fits[0],), options, lossless=False))
    used = {key for t in found.targets for key in (t.down, t.up)}
    gone = tuple(f"adapter/{key}" for key in checkpoint.index if key not in used)
    trained = [key for key in found.left if not key.endswith(".alpha")]
    if trained:
        problems.append(f"{len(trained)} tensors are no LoRA pair, as {escape(trained[0])}")
    if gone and not trained:
        edits.append(Edit("drop", gone, note="scales, used"))
    return Plan(
        checkpoint.path,
        tuple(edits),
        base=path,
        status=guess.status,
        tensors=len(whole.index),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _fits(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return own == shape or (len(own) == len(shape) == 2 and own == shape[::-1])


def _places(index: Mapping[str, TensorSpec]) -> dict[str, list[str]]:
    """The base's weights by every suffix of their layer's path, dotted and flattened."""
    found: dict[str, list[str]] = {}
    for key in index:
        if not key.endswith(".weight"):
            continue
        words = key.removesuffix(".weight").split(".")
        for start in range(len(words)):
            for mark in "._" if len(words) - start > 1 else ".":
                found.setdefault(mark.join(words[start:]), []).append(key)
    return found


def merged(parts: list[Tensor], options: Mapping[str, Any]) -> Tensor:
    """weight + scale * B A, in the weight's dtype."""
    weight, down, up = parts
    down, up = down.to(torch.float32), up.to(torch.float32)
    # convolutions have [rank, in, h, w] and [out, rank, 1, 1]
    delta = (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])
    delta = delta.T if options.get("turned") else delta
    return (weight.to(torch.float32) + float(options["scale"]) * delta).to(weight.dtype)
