"""Each kind of file is settled by the explainer that docs/design.md names for it, and those before
it are said to have said nothing."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from archfind.database.entries import default
from archfind.learning.check import checkpoint_of
from archfind.matching.explainers import EXPLAINERS
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.report.answer import guess_document, guess_lines

NAMES = [explainer.__name__ for explainer in EXPLAINERS]
State = dict[str, torch.Tensor]


def state_of(entry: str, **fields: object) -> State:
    library, _, name = entry.partition("/")
    return dict(create_on_meta(provider(library), name, **fields).state_dict())


def with_head(state: State) -> State:
    body = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
    head = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 3))
    return body | {f"fc.{key}": tensor for key, tensor in head.state_dict().items()}


def renamed(state: State) -> State:
    return {
        re.sub(r"layer(\d)", r"stage_\1", key).replace("conv", "c"): t for key, t in state.items()
    }


def beside(state: State, other: State) -> State:
    parts = {f"first.{key}": tensor for key, tensor in state.items()}
    return parts | {f"second.{key}": tensor for key, tensor in other.items()}


def decoder() -> State:
    widths = (512, 200, 120, 60, 30, 3)
    layers = [nn.ConvTranspose2d(a, b, 4) for a, b in pairwise(widths)]
    return dict(nn.Sequential(*layers).state_dict())


KINDS = {
    "registered": lambda: state_of("torchvision/resnet18", num_classes=5),
    "other_arguments": lambda: variant("timm/vit_tiny_patch16_224", embed_dim=96, depth=5),
    "another_head": lambda: with_head(state_of("torchvision/resnet18")),
    "renamed_keys": lambda: renamed(state_of("torchvision/resnet50")),
    "parts": lambda: beside(state_of("timm/resnet18", num_classes=0), decoder()),
}


def variant(entry: str, **arguments: object) -> State:
    from timm import create_model

    with torch.device("meta"):
        return dict(create_model(entry.partition("/")[2], **arguments).state_dict())


@pytest.mark.parametrize("name", KINDS)
def test_the_order_of_trust_settles_each_kind_of_file(name: str) -> None:
    found = guess_checkpoint(checkpoint_of(KINDS[name]()), default())
    asked = [explainer for explainer, _, _ in found.explained]
    assert asked[-1] == name
    assert list(dict.fromkeys(asked)) == NAMES[: NAMES.index(name) + 1]
    document = guess_document(found)
    said = [one["explainer"] for one in document["explained"]]  # pyright: ignore
    assert said == asked
    lines = [line for line in guess_lines(document, verbose=True) if line.startswith("  asked")]
    assert len(lines) == len(asked)
    assert not any(line.startswith("  asked") for line in guess_lines(document))


def test_the_table_of_explainers_is_the_order() -> None:
    text = (Path(__file__).parents[2] / "docs" / "design.md").read_text()
    table = text.partition("## The order of trust")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == NAMES
