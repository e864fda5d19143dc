"""Restorers that no family explains, whose arguments the library's own loader reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import archfind
from archfind.database.entries import default
from archfind.learning.twins import randomise_seeded
from archfind.probing.probe import on_meta
from archfind.searching.attempt import attempt

# What these classes write of their arguments in a buffer, and rows whose lengths go together.
DRAWN = {
    "spandrel/FDAT": {
        "scale": 3,
        "embed_dim": 48,
        "num_groups": 2,
        "depth_per_group": 1,
        "window_size": 12,
        "upsampler_type": "pixelshuffle",
    },
    "spandrel/MMRealSR": {
        "scale": 4,
        "num_in_ch": 3,
        "num_out_ch": 3,
        "num_feat": 16,
        "num_block": 2,
        "num_grow_ch": 8,
        "num_feats": [16, 32],
        "num_blocks": [1, 3],
        "downscales": [2, 1],
    },
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_library_s_own_loader_reads_the_arguments(name: str, tmp_path: Path) -> None:
    cls = type(archfind.variant(name, {}))
    module = cls(**DRAWN[name]).eval()
    randomise_seeded(module)
    path = tmp_path / "net.pth"
    torch.save(module.state_dict(), path)
    loaded = archfind.load(path, accept_ambiguous=True)
    image = torch.rand(1, 3, 48, 48)
    with torch.inference_mode():
        expected, got = module(image), loaded(image)
    assert type(loaded) is cls
    assert torch.equal(*(one[0] if isinstance(one, tuple) else one for one in (expected, got)))


def test_a_file_that_the_loader_refuses_is_searched_for_without_it(tmp_path: Path) -> None:
    database = default()
    signature = database.signature(database.named("spandrel/FDAT")[0])
    (member,) = (m for m in signature.members if m.entry.id == "spandrel/FDAT")
    torch.save({"other.weight": torch.zeros(3, 3)}, tmp_path / "net.pth")
    index = archfind.guess(tmp_path / "net.pth").canonical.index
    started = attempt({"other.weight": ((3, 3), "float")}, index, signature, member, None, 1.0)
    assert started is not None and started.published() == {}


class _Frozen(nn.Module):
    """A network that freezes a part of itself, and forgets gradients, while it is made."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.inner.weight.requires_grad = False
        self.inner.bias.grad = None


def test_a_constructor_may_freeze_its_weights() -> None:
    assert on_meta(_Frozen, {"width": 5}).state_dict()["inner.weight"].shape == (5, 5)
