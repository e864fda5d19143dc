"""Networks that have a graph's constants under their names, and what the graph's values settle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import torch
from torch import Tensor

from archfind.database import entries as databases
from archfind.from_onnx.scopes import named_constants
from archfind.matching.identify import in_state_dict
from archfind.types import Canonical, Guess, Match, Storage, TensorSpec
from archfind.work import Work

_HEADS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 64)


def by_constant_names(
    guess: Guess, model: onnx.ModelProto, choose: str
) -> Iterator[tuple[Match, dict[str, Tensor]]]:
    """What the named constants make as a state dict: matches that fit, each with its tensors, and
    transformers' classes that only lack some, since exporters fold tables away; with {}."""
    held = named_constants(model)
    index = {
        key: TensorSpec(str(array.dtype), array.shape, Storage("", key, -1, array.nbytes))
        for key, array in held.items()
    }
    canonical = Canonical(guess.canonical.checkpoint, index, {key: key for key in index})
    work = Work(len(index))
    for found in in_state_dict(canonical, databases.default(), choose, work).values():
        if found.canonical.merged:
            continue
        if found.status not in ("exact", "ambiguous"):
            for match in found.matches[:1]:
                lacks = match.pretrained is not None and not match.mismatched
                if lacks and choose in ("", match.entry.id, match.entry.name):
                    yield match, {}
            continue
        origin = found.canonical.origin
        state = {
            key: torch.from_numpy(np.ascontiguousarray(held[at]).copy())
            for key, at in origin.items()
        }
        for match in found.matches:
            if choose in ("", match.entry.id, match.entry.name):
                yield match, state


def unseen(match: Match) -> Iterator[Mapping[str, object]]:
    """The settings to try, the match's own first: head counts are in no shape, but the outputs
    tell them."""
    yield {}
    paths = [
        path
        for path, setting in match.config.items()
        if path.endswith("heads") or path.rpartition(".")[2] in ("n_head", "num_attention_head")
        if setting.source == "default"
    ]
    for count in _HEADS if paths and match.pretrained is not None else ():
        if any(match.config[path].value != count for path in paths):
            yield dict.fromkeys(paths, count)
