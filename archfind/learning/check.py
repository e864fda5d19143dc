"""Signatures against the libraries they came from: built again, guessed back."""

from __future__ import annotations

import random

import torch

from archfind.database.entries import default
from archfind.matching.identify import guess_checkpoint
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.types import Checkpoint, Storage, TensorSpec

_NOWHERE = Storage("", "", -1, 0)


def checkpoint_of(state: dict[str, torch.Tensor], path: str = "") -> Checkpoint:
    """A checkpoint in memory with the keys, shapes and dtypes of a state dict, and no data."""
    index = {
        key: TensorSpec(str(t.dtype).removeprefix("torch."), tuple(t.shape), _NOWHERE)
        for key, t in state.items()
    }
    return Checkpoint(path, "memory", index)


def check_entries(ids: list[str], sample: int, seed: int) -> tuple[list[str], int]:
    """One line for each entry that isn't guessed back as itself or a twin, and how many were. Class
    counts are drawn from the seed."""
    draw = random.Random(seed)
    if sample:
        ids = draw.sample(ids, min(sample, len(ids)))
    failures: list[str] = []
    for name in progress(ids, len(ids), "check"):
        library, _, architecture = name.partition("/")
        source = provider(library)
        fields = {}
        if "num_classes" in source.fields(architecture):
            fields["num_classes"] = draw.randint(2, 30_000)
        module = create_on_meta(source, architecture, **fields)
        found = guess_checkpoint(checkpoint_of(module.state_dict()), default())
        best = found.matches[0] if found.matches else None
        names = {m.entry.id for m in found.matches}
        names |= {f"{t.provider}/{t.architecture}" for m in found.matches for t in m.twins}
        if found.status not in ("exact", "ambiguous") or name not in names or best is None:
            failures.append(f"{name}: {found.status}, {best.entry.id if best else 'nothing near'}")
            continue
        solved = {field: setting.value for field, setting in best.config.items()}
        if any(solved.get(field) != value for field, value in fields.items()):
            failures.append(f"{name}: read as {solved}, built with {fields}")
    return failures, len(ids) - len(failures)
