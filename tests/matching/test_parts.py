"""Parts and wholes: every network in a file is named, and each can be chosen and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

import archfind
from archfind.cli import main
from archfind.database.entries import default
from archfind.errors import AmbiguousError, BuildError, UnknownError
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.types import Guess

State = dict[str, torch.Tensor]


def network(name: str, **fields: object) -> nn.Module:
    library, _, architecture = name.partition("/")
    module = provider(library).create(architecture, **fields).eval()
    with torch.no_grad():
        randomise_seeded(module)
    return module


def together(**modules: nn.Module) -> State:
    """State dicts under names; `__` is a dot."""
    return {
        f"{name.replace('__', '.')}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def decoder(depth: int = 30) -> nn.Module:
    return nn.Sequential(
        *(nn.Sequential(nn.Conv2d(19, 19, 3), nn.BatchNorm2d(19)) for _ in range(depth))
    )


def guess_state(state: State) -> Guess:
    return guess_checkpoint(checkpoint_of(state), default())


def same(path: Path, part: str, own: nn.Module, side: int = 64) -> None:
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(7))
    loaded = archfind.load(path, part=part)
    assert set(loaded.state_dict()) == set(own.state_dict())
    with torch.inference_mode():
        assert torch.allclose(loaded(x), own.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "model__"])
@pytest.mark.usefixtures("short_search")
def test_an_encoder_beside_an_unknown_decoder(prefix: str, tmp_path: Path) -> None:
    encoder = network("timm/resnet18", num_classes=0)
    path = tmp_path / "x.pth"
    torch.save(together(**{f"{prefix}encoder": encoder, f"{prefix}decoder": decoder()}), path)
    found = archfind.guess(path)
    name = prefix.replace("__", ".") + "encoder"
    assert found.status == "unknown" and found.parts[name].status == "exact"
    assert found.parts[name.replace("encoder", "decoder")].status == "unknown"
    same(path, name, encoder)
    same(path, "encoder", encoder)
    with pytest.raises(UnknownError):
        archfind.load(path)


def test_a_backbone_whose_library_cannot_leave_its_head_out(tmp_path: Path) -> None:
    backbone = network("torchvision/mobilenet_v3_small")
    backbone.classifier = nn.Identity()
    path = tmp_path / "x.pth"
    torch.save(together(net__backbone=backbone, net__neck=decoder(60)), path)
    assert archfind.guess(path).parts["net.backbone"].is_assumed
    same(path, "net.backbone", backbone)


def test_a_part_with_another_head(tmp_path: Path) -> None:
    policy = network("torchvision/resnet18")
    policy.fc = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 4))
    value = network("torchvision/squeezenet1_1")
    path = tmp_path / "x.pth"
    torch.save({"state_dict": together(policy=policy, value=value)}, path)
    found = archfind.guess(path)
    assert found.status == "ambiguous"
    assert {n: g.status for n, g in found.parts.items()} == {
        "state_dict/policy": "ambiguous",
        "state_dict/value": "exact",
    }
    same(path, "policy", policy)
    same(path, "state_dict/value", value)
    with pytest.raises(AmbiguousError, match="policy"):
        archfind.load(path)


def test_a_known_critic_and_an_unknown_generator() -> None:
    found = guess_state(together(G=decoder(), D=network("torchvision/resnet18")))
    assert (found.parts["D"].status, found.parts["G"].status) == ("exact", "unknown")


def test_towers_and_six_networks() -> None:
    names = ("resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5")
    modules = {f"n{i}": network(f"torchvision/{name}") for i, name in enumerate(names)}
    modules |= {"left": modules["n0"], "right": modules["n0"]}
    found = guess_state(together(**modules))
    assert found.status == "ambiguous" and set(found.parts) == set(modules)
    assert all(one.status == "exact" for one in found.parts.values())


def test_what_a_getter_of_layers_leaves_out_is_named() -> None:
    body = IntermediateLayerGetter(network("torchvision/resnet18"), {"layer3": "0"})
    found = guess_state(together(backbone__body=body, neck=decoder()))
    part = found.parts["backbone.body"]
    assert part.status == "close" and not part.matches[0].unexpected
    assert {key.partition(".")[0] for key in part.matches[0].missing} == {"layer4"}
    alone = guess_state(dict(body.state_dict()))
    assert alone.status == "close" and alone.matches[0].entry.name == "resnet18"


def test_a_getter_of_the_last_layer_is_a_headless_backbone(tmp_path: Path) -> None:
    body = IntermediateLayerGetter(network("torchvision/resnet18"), {"layer4": "0"})
    torch.save(together(backbone__body=body, neck=decoder()), tmp_path / "x.pth")
    module = archfind.load(tmp_path / "x.pth", part="backbone.body")
    assert set(module.state_dict()) == set(body.state_dict())


def test_layers_missing_in_the_middle_are_not_an_end() -> None:
    state = dict(network("torchvision/resnet18").state_dict())
    state = {k: t for k, t in state.items() if not k.startswith(("layer2.", "layer3."))}
    assert guess_state(state).status == "unknown"


def test_a_part_that_is_close_is_not_built(tmp_path: Path) -> None:
    body = IntermediateLayerGetter(network("torchvision/resnet18"), {"layer3": "0"})
    torch.save(together(backbone=body, neck=decoder()), tmp_path / "x.pth")
    with pytest.raises(BuildError):
        archfind.load(tmp_path / "x.pth", part="backbone")


def test_text_and_json_show_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = IntermediateLayerGetter(network("torchvision/resnet18"), {"layer3": "0"})
    path = tmp_path / "x.pth"
    other = network("torchvision/squeezenet1_1")
    torch.save(together(backbone=body, other=other, neck=decoder()), path)
    assert main(["guess", str(path)]) == 1
    text = capsys.readouterr().out
    assert "part      backbone: close to timm/resnet18, 90 tensors, 25 missing in layer4" in text
    assert "part      other: torchvision/squeezenet1_1, 52 tensors" in text
    assert "part      neck: unknown, a fully convolutional network (2-D)" in text
    assert f"Choose:  archfind export {path} out.onnx --part other" in text
    assert main(["guess", "--json", str(path)]) == 1
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert parts["backbone"]["status"] == "close" and len(parts["backbone"]["missing"]) == 25
    assert main(["guess", str(path), "--part", "other"]) == 0


def test_json_shows_a_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = network("torchvision/resnet18")
    module.fc = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 4))
    torch.save(module.state_dict(), tmp_path / "x.pth")
    assert main(["guess", "--json", str(tmp_path / "x.pth")]) == 1
    document = json.loads(capsys.readouterr().out)
    kinds = [layer["kind"] for layer in document["head"]]
    assert kinds == ["Linear", "ReLU", "Linear", "Identity"]
    assert document["head"][1] == {"name": "fc.1", "kind": "ReLU", "sizes": [], "assumed": True}
    assert document["config"]["fc"]["value"] == "Linear(512, 8), ReLU, Linear(8, 4)"
    assert "num_classes" not in document["build"]["kwargs"]
    assert "fc" not in document["build"]["kwargs"]


def test_a_network_within_itself_is_a_part(tmp_path: Path) -> None:
    """The same network at five levels, `m.` further in at each: the outermost loads."""
    net = network("timm/test_vit")
    levels = {"m." * n + k: t for n in range(5) for k, t in net.state_dict().items()}
    path = tmp_path / "levels.pth"
    torch.save(levels, path)
    found = guess_state(levels)
    assert found.parts["test_vit"].status == "exact"
    same(path, "test_vit", net, 160)


def test_a_network_and_its_average_below_it_are_both_named() -> None:
    net = network("timm/test_vit", num_classes=7).state_dict()
    found = guess_state({**net, **{f"ema.{key}": tensor for key, tensor in net.items()}})
    named = [one.matches[0].entry.id for one in found.parts.values() if one.matches]
    assert named.count("timm/test_vit") == 2, found.parts
