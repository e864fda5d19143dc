"""What is said of a network that no library has: by its layers, and by the patterns that fit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from drawn_sources import drawn
from torch import nn
from written_sources import written_for

from archfind.cli import main


def _mlp(*widths: int) -> nn.Module:
    rows = (nn.Linear(a, b) for a, b in pairwise(widths))
    return nn.Sequential(*(layer for row in rows for layer in (row, nn.ReLU())))


class Tagger(nn.Module):
    """Words, a bidirectional LSTM, a tag for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5000, 32)
        self.lstm = nn.LSTM(32, 16, bidirectional=True)
        self.tags = nn.Linear(32, 300)


SAID = {
    "an MLP 80 -> 8 -> 8 -> 12": _mlp(80, 8, 8, 12),
    "an autoencoder 64 -> 8 -> 64": _mlp(64, 8, 64),
    "an MLP 9 -> 8 -> 7 -> ... -> 2 -> 1 (8 layers)": _mlp(9, 8, 7, 6, 5, 4, 3, 2, 1),
    "a bidirectional LSTM tagger, vocabulary 5,000, 1 layer of width 16, 300 out; "
    "input N x T words": Tagger(),
}


@pytest.mark.parametrize("words", SAID)
def test_networks_are_named_as_people_name_them(words: str) -> None:
    assert written_for(SAID[words].state_dict()).words == words


DRAWN = {
    "unet_lists": "a U-Net (2-D), 3 -> 2 channels, 3 levels from 8, BatchNorm; "
    "input N x 3 x H x W (H, W multiples of 4)",
    "actor_critic": "an MLP 9 -> 64 -> 64, heads of 9 and 1",
    "vae": "a variational autoencoder, 49 -> 8 -> 49",
    "frames": "a convolutional classifier (2-D), 4 channels -> 7; input N x 4 x 84 x 84",
    "vit": "a transformer over patches of 4x4, 1 channel, 4 layers of width 32, 6 out; "
    "input N x 1 x H x W",
}


@pytest.mark.parametrize("kind", DRAWN)
def test_what_patterns_recognise_is_said(kind: str) -> None:
    module, _, _ = drawn(kind, 3, 0)
    assert written_for(module.state_dict()).words == DRAWN[kind]


def test_guess_and_inspect_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, _ = drawn("unet_lists", 3, 0)
    path = str(tmp_path / "mystery.pth")
    torch.save(module.state_dict(), path)
    assert main(["guess", path]) == 1
    answer = capsys.readouterr().out
    assert f"kind      {DRAWN['unet_lists']}\n" in answer
    assert f"Write its module:  archfind source {path} -o model.py\n" in answer
    assert main(["inspect", path]) == 0
    said = capsys.readouterr().out
    assert "layers    out    Conv2d(8, 2, 1)\n" in said
