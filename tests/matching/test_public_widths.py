"""Pruned networks: each layer has its own size, as a state dict or as a whole pickled module."""

from __future__ import annotations

import random
import sys
import types
from collections import Counter
from pathlib import Path

import pytest
import quantised_and_pruned
import torch
import torchvision
from quantised_and_pruned import judged
from torch import nn
from torch.nn.utils import prune

import archfind
from archfind.cli import main
from archfind.errors import ArchfindError
from archfind.learning.twins import randomise_seeded

SMALL = ("timm/test_resnet", "timm/mobilenetv2_050", "torchvision/resnet18")

CUT = (13, 24, "M", 31, "M", 40, 41, "M", 30, 29, "M", 33, 22, "M")


@pytest.mark.parametrize("way", ["widths", "module", "mask"])
def test_a_drawn_network_loads_and_computes_the_same(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(quantised_and_pruned, "PLAIN", SMALL)
    monkeypatch.setattr(quantised_and_pruned, "TRANSFORMERS", ("timm/test_vit",))
    counts: Counter[str] = Counter()
    assert judged(way, random.Random(f"{way} 1"), counts) == ""
    assert counts["equal"] == 1


def slim_vgg(batch_norm: bool) -> nn.Module:
    widths = [*CUT[:2], "M", 31, 28, "M", 40, 41, "M", 30, 29, "M", 33, 22, "M"]
    layers = torchvision.models.vgg.make_layers(widths, batch_norm=batch_norm)  # pyright: ignore
    module = torchvision.models.VGG(layers, num_classes=3)
    module.classifier[0] = nn.Linear(22 * 49, 64)
    module.classifier[3] = nn.Linear(64, 50)
    module.classifier[6] = nn.Linear(50, 3)
    randomise_seeded(module)
    return module.eval()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_vgg_of_other_widths(
    batch_norm: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = slim_vgg(batch_norm)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    assert main(["guess", str(tmp_path / "net.pth")]) == 1
    name = "torchvision/vgg13_bn" if batch_norm else "torchvision/vgg13"
    assert f"{name} with layers of other sizes (VGG)" in capsys.readouterr().out
    found = archfind.guess(tmp_path / "net.pth")
    assert found.is_assumed and [item.place for item in found.matches[0].assumed] == ["arguments"]
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(archfind.load(tmp_path / "net.pth")(image), module(image))


class Cut(nn.Module):
    """A stranger's VGG, with a Dropout before each Linear, so that they have other numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = slim_vgg(batch_norm=False).features
        relu = nn.ReLU
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(22 * 49, 64), relu(),
            nn.Dropout(), nn.Linear(64, 50), relu(), nn.Linear(50, 3),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


def test_a_strangers_class_of_the_librarys_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers = types.ModuleType("strangers_prune")
    monkeypatch.setitem(sys.modules, "strangers_prune", strangers)
    monkeypatch.setattr(Cut, "__module__", "strangers_prune")
    vars(strangers)["Cut"] = Cut
    module = Cut().eval()
    torch.save(module, tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert found.is_assumed and found.matches[0].entry.id == "torchvision/vgg13"
    (item,) = found.matches[0].assumed
    assert item.place == "implementation" and "strangers_prune.Cut" in item.what
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(archfind.load(tmp_path / "net.pth")(image), module(image))


def slim_resnet() -> torchvision.models.ResNet:
    module = torchvision.models.resnet18(num_classes=4)
    for stage in (module.layer1, module.layer2, module.layer3, module.layer4):
        for number, block in enumerate(stage):
            middle = block.conv1.out_channels * 3 // 4 - number
            ins, stride = block.conv1.in_channels, block.conv1.stride
            block.conv1 = nn.Conv2d(ins, middle, 3, stride, 1, bias=False)
            block.bn1 = nn.BatchNorm2d(middle)
            block.conv2 = nn.Conv2d(middle, block.conv2.out_channels, 3, 1, 1, bias=False)
    randomise_seeded(module)
    return module.eval()


def test_the_librarys_class_that_lists_all_its_layers_assumes_nothing(tmp_path: Path) -> None:
    module = slim_resnet()
    module.maxpool.stride = 1  # which no tensor shows
    torch.save(module, tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert found.status == "exact" and found.matches[0].entry.id == "torchvision/resnet18"
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(archfind.load(tmp_path / "net.pth")(image), module(image))
    torch.save(module.state_dict(), tmp_path / "net.pth")
    assert archfind.guess(tmp_path / "net.pth").is_assumed


@pytest.mark.parametrize(
    "key", ["layer1.0.conv1.weight", "layer3.1.bn2.bias", "layer4.0.conv2.weight"]
)
def test_one_cut_tensor_is_damage_and_no_width(key: str, tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    state[key] = state[key][:-1]
    torch.save(state, tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert found.status == "close" and [m.key for m in found.matches[0].mismatched] == [key]


@pytest.mark.usefixtures("short_search")
def test_widths_that_do_not_meet_at_a_sum_are_refused(tmp_path: Path) -> None:
    state = slim_resnet().state_dict()
    for name in ("conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"):
        state[f"layer1.0.{name}"] = state[f"layer1.0.{name}"][:47]  # what conv1 gives elsewhere
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ArchfindError):
        archfind.load(tmp_path / "net.pth", accept_ambiguous=True)


def test_masks_of_weights_and_biases(tmp_path: Path) -> None:
    module = torchvision.models.resnet18(num_classes=4).eval()
    randomise_seeded(module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            prune.l1_unstructured(layer, "weight", 0.5)
    prune.random_unstructured(module.fc, "bias", 0.5)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    assert archfind.guess(tmp_path / "net.pth").status == "exact"
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(archfind.load(tmp_path / "net.pth")(image), module(image))
