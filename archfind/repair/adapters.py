"""LoRA adapters: what they are for, and merging them into their base.

A LoRA (Hu et al. 2021, arXiv:2106.09685) adds scale * B A to a weight, B [out, rank] and A
[rank, in]; scale is alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv:2312.03732).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from archfind import pipeline
from archfind.database import entries as databases
from archfind.errors import RepairError
from archfind.escape import escape
from archfind.evidence.adapters import LowRank, Pair, bare_layer_name, low_rank
from archfind.formats.side_files import claimed_number
from archfind.repair.edits import Edit, Plan
from archfind.types import Choice, Guess, TensorSpec
from archfind.values.reader import TensorReader

# What PEFT puts around a module of which the whole is trained, and its untrained original.
_SAVED = (".modules_to_save.default", ".modules_to_save", ".base_layer")
_ORIGINAL = ".original_module."


def bases(found: LowRank, limit: int = 6) -> list[str]:
    """Networks of the database that have a weight for every target, by name and shape; the fewest
    others first."""
    database = databases.default()
    fitting: list[tuple[int, str]] = []
    flat = any("." not in target.name for target in found.pairs)
    for place in range(len(database)):
        if database.sizes[place] < len(found.pairs):
            continue
        signature = database.signature(place)
        shapes: Mapping[str, tuple[int, ...]] = signature.fixed
        if flat:
            shapes = {k.replace(".", "_").removesuffix("_weight"): v for k, v in shapes.items()}
        else:
            shapes = {k.removesuffix(".weight"): v for k, v in shapes.items()}
        if all(shapes.get(target.name) == target.shape for target in found.pairs):
            fitting.append((database.sizes[place], signature.members[0].entry.id))
    return [name for _, name in sorted(fitting)[:limit]]


def adapter_plan(guess: Guess, found: LowRank) -> Plan:
    """What is said of an adapter without its base."""
    known = bases(found) if found.pairs else []
    named = f"its layers are those of {', '.join(known)}" if known else "no known network has them"
    return Plan(
        guess.canonical.checkpoint.path,
        (),
        status=guess.status,
        tensors=len(guess.canonical.checkpoint.index),
        problems=("an adapter is no network by itself; --base FILE merges it",),
        notes=(guess.kind.words if guess.kind else found.form, named, *found.doubts),
    )


def merge_plan(guess: Guess, base: str | os.PathLike[str]) -> Plan:
    """The adapter merged into the base file, whole tensors included. RepairError where the file is
    no adapter."""
    path = os.fspath(base)
    checkpoint = guess.canonical.checkpoint
    found = low_rank(checkpoint)
    if found is None or not found.pairs:
        what = f"a {found.form}: only pairs of matrices are" if found else "no LoRA that could be"
        raise RepairError(f"holds {what} merged into a base", checkpoint.path)
    whole = pipeline.guess(path, Choice()).canonical
    places = _places(whole.index)
    edits: list[Edit] = []
    problems = list(found.doubts)  # another scale would give other weights
    notes = [guess.kind.words if guess.kind else found.form]
    if found.alpha is None and not found.doubts:
        notes.append("alpha is in no file: taken as the rank, so that the scale is 1")
    for pair in found.pairs:
        keys = places.get(pair.name) or places.get(pair.name.replace(".", "_")) or []
        fits = [k for k in keys if _fits(whole.index[k].shape, pair.shape)]
        if len(fits) != 1:
            why = "which the base hasn't" if not keys else "whose weight has another shape"
            problems.append(f"adapts {escape(pair.name)}, {why}")
            continue
        scale = _scale(found, pair, checkpoint.index)
        if scale is None:
            problems.append(f"the alpha of {escape(pair.name)} is no number")
            continue
        options: dict[str, Any] = {"how": "lora", "scale": scale}
        options |= {"turned": True} if whole.index[fits[0]].shape != pair.shape else {}
        parts = (fits[0], f"adapter/{pair.down}", f"adapter/{pair.up}")
        edits.append(Edit("merge", parts, (fits[0],), options, lossless=False))
    spare = found.unpaired
    if spare:
        problems.append(f"{len(spare)} tensors are no LoRA pair, as {escape(spare[0])}")
    replaced = [key for key in found.full if _ORIGINAL not in key]
    edits += _whole_tensors(replaced, whole.index)
    kept = {*replaced, *(key for pair in found.pairs for key in (pair.down, pair.up))}
    gone = tuple(f"adapter/{key}" for key in checkpoint.index if key not in kept)
    if gone and not spare:
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


def _scale(found: LowRank, pair: Pair, index: Mapping[str, TensorSpec]) -> float | None:
    """alpha / rank: the layer's own alpha, one for layers of its name, or the one for all. None
    where the layer's own is no number."""
    key = f"{pair.stem}.alpha"
    alpha = found.alpha
    for name, value in found.patterns.items():
        if f".{pair.name}".endswith(f".{name}"):
            alpha = value
    if key in index:
        alpha = _number(index[key])
        if alpha is None:
            return None
    alpha = float(pair.rank) if alpha is None else alpha
    return alpha / (pair.rank**0.5 if found.rslora else pair.rank)


def _number(spec: TensorSpec) -> float | None:
    """The value of a tensor of one finite number; None for anything else."""
    if any(size != 1 for size in spec.shape):
        return None
    return claimed_number(TensorReader().read(spec).to(torch.float64).item())


def _whole_tensors(keys: list[str], index: Mapping[str, TensorSpec]) -> list[Edit]:
    """Trained whole: a new head, a resized embedding. Each takes the place of the base's tensor of
    its name, or stands beside the others."""
    edits: list[Edit] = []
    for key in keys:
        name = bare_layer_name(key)
        for wrapped in _SAVED:
            name = name.replace(f"{wrapped}.", ".")
        ends = [name] if name in index else [k for k in index if k.endswith(f".{name}")]
        at = ends[0] if len(ends) == 1 else name
        if at in index:
            edits.append(Edit("drop", (at,), lossless=False, note="the adapter has its own"))
        note = "whole" if at in index else "whole; the base has none"
        edits.append(Edit("rename", (f"adapter/{key}",), (at,), note=note))
    return edits


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


def weight_with_adapter(parts: list[Tensor], options: Mapping[str, Any]) -> Tensor:
    """weight + scale * B A, in the weight's dtype."""
    weight, down, up = parts
    down, up = down.to(torch.float32), up.to(torch.float32)
    # convolutions have [rank, in, h, w] and [out, rank, 1, 1]
    delta = (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])
    delta = delta.T if options.get("turned") else delta
    return (weight.to(torch.float32) + float(options["scale"]) * delta).to(weight.dtype)
