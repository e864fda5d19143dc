"""Other arguments and another head at once: the library's class with both, loaded strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import archfind
from archfind.learning.twins import randomise_seeded


def _with_head(entry: str, moves: dict[str, Any], place: str, *more: nn.Module) -> nn.Module:
    """A variant whose last Linear is an MLP."""
    module = archfind.variant(entry, moves)
    parent, _, child = place.rpartition(".")
    own = module.get_submodule(place)
    assert isinstance(own, nn.Linear)
    head = nn.Sequential(*more, nn.Linear(own.in_features, 24), nn.ReLU(), nn.Linear(24, 5))
    setattr(module.get_submodule(parent), child, head)
    with torch.no_grad():
        randomise_seeded(module)
    return module.eval()


def _assert_same(module: nn.Module, path: Path, shape: tuple[int, ...]) -> None:
    loaded = archfind.load(path)
    assert {*loaded.state_dict()} == {*module.state_dict()}
    image = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), module(image))


@pytest.mark.parametrize(
    ("entry", "moves", "place", "shape"),
    [
        ("timm/resnet18", {"in_chans": 1}, "fc", (2, 1, 64, 64)),
        (
            "timm/vit_tiny_patch16_224",
            {"img_size": 48, "patch_size": 8, "depth": 3},
            "head",
            (2, 3, 48, 48),
        ),
        ("torchvision/mobilenet_v2", {"width_mult": 0.5}, "classifier.1", (2, 3, 64, 64)),
        ("timm/convnext_atto", {"depths.2": 4, "in_chans": 5}, "head.fc", (2, 5, 64, 64)),
    ],
)
@pytest.mark.parametrize("more", [(), (nn.Dropout(),)])
def test_both_are_read(
    entry: str,
    moves: dict[str, Any],
    place: str,
    shape: tuple[int, ...],
    more: tuple[nn.Module, ...],
    tmp_path: Path,
) -> None:
    module = _with_head(entry, moves, place, *more)
    path = tmp_path / "net.pth"
    torch.save({f"model.{k}": t for k, t in module.state_dict().items()}, path)
    found = archfind.guess(path)
    best = found.matches[0]
    assert found.is_assumed and best.entry.id == entry
    assert best.variant is not None and best.head is not None and best.fits
    assert {name.partition(".")[0] for name in best.variant.moved} == {
        name.partition(".")[0] for name in moves
    }
    _assert_same(module, path, shape)


def test_heads_beside_a_variant(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = archfind.variant("timm/resnet18", {"in_chans": 4, "num_classes": 0})
            self.age = nn.Linear(512, 1)
            self.kind = nn.Linear(512, 7)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            features = self.net(x)
            return {"age": self.age(features), "kind": self.kind(features)}

    module = Two()
    with torch.no_grad():
        randomise_seeded(module)
    torch.save(module.eval().state_dict(), tmp_path / "net.pth")
    assert archfind.guess(tmp_path / "net.pth").is_assumed
    _assert_same(module, tmp_path / "net.pth", (2, 4, 64, 64))


def test_a_variant_inside_a_larger_network_is_its_part(tmp_path: Path) -> None:
    encoder = archfind.variant("timm/resnet18", {"in_chans": 4, "num_classes": 0})
    decoder = nn.Sequential(nn.Conv2d(512, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 2, 1))
    state = {f"model.encoder.{k}": t for k, t in encoder.state_dict().items()}
    state |= {f"model.decoder.{k}": t for k, t in decoder.state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert found.status in ("close", "unknown")
    part = found.parts["model.encoder"]
    assert part.status == "exact" and part.matches[0].entry.id == "timm/resnet18"
    built = archfind.build(tmp_path / "net.pth", part="model.encoder")
    assert built.loaded == len(encoder.state_dict())


def test_what_the_rules_do_not_explain_is_searched_for_under_its_head(tmp_path: Path) -> None:
    module = _with_head("timm/edgenext_xx_small", {"use_pos_emb.1": False}, "head.fc")
    torch.save(module.state_dict(), tmp_path / "net.pth")
    assert archfind.guess(tmp_path / "net.pth").status == "close"
    found = archfind.guess(tmp_path / "net.pth", search=True)
    assert found.is_assumed and found.matches[0].head is not None
    _assert_same(module, tmp_path / "net.pth", (2, 3, 256, 256))
