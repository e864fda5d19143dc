"""Keys that training put around weights: wrappers and averages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from layout_files import network

from archfind import formats
from archfind.state_dicts.canonical import networks


def test_flat_averages_of_latent_diffusion(tmp_path: Path) -> None:
    raw = {f"model.diffusion_model.{key}": one for key, one in network().state_dict().items()}
    flat = {f"model_ema.{key[6:].replace('.', '')}": one + 1 for key, one in raw.items()}
    flat |= {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(5)}
    torch.save({"state_dict": {**raw, **flat}}, tmp_path / "x.ckpt")
    (found,) = networks(formats.open(tmp_path / "x.ckpt")).values()
    assert list(found.index) == list(raw)
    assert all(at.startswith("state_dict/model_ema.") for at in found.origin.values())
    assert any(step.kind == "prefer" for step in found.steps)


def test_flat_averages_of_mmdetection(tmp_path: Path) -> None:
    raw = {f"backbone.{key}": one for key, one in network().state_dict().items()}
    flat = {f"ema_{key.replace('.', '_')}": one + 1 for key, one in raw.items()}
    torch.save({"state_dict": {**raw, **flat}, "meta": {"epoch": 3}}, tmp_path / "x.pth")
    (found,) = networks(formats.open(tmp_path / "x.pth")).values()
    assert list(found.index) == list(raw) and len(found.aside) == len(raw)


WRAPPERS = (
    "state_dict model_state_dict model_state model module net network params weights weight "
    "generator state_dict_ema model_ema ema_state_dict params_ema params-ema ema teacher G_ema"
).split()


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("twice", [False, True])
def test_wrappers(tmp_path: Path, wrapper: str, twice: bool) -> None:
    state = network().state_dict()
    value: object = {"model": state} if twice else state
    torch.save({"epoch": 3, wrapper: value, "best": 0.5}, tmp_path / "x.pth")
    (place,) = networks(formats.open(tmp_path / "x.pth"))
    assert place == (f"{wrapper}/model" if twice else wrapper)


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("params", "params_ema"),
        ("params", "params-ema"),
        ("student", "teacher"),
        ("G", "G_ema"),
        ("model", "ema"),
    ],
)
def test_averaged_weights_are_preferred(tmp_path: Path, raw: str, averaged: str) -> None:
    value = {raw: network(1).state_dict(), averaged: network(2).state_dict()}
    torch.save(value, tmp_path / "x.pth")
    (place,) = networks(formats.open(tmp_path / "x.pth"))
    assert place == averaged
