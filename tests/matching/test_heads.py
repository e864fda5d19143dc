"""Changed heads: a library's network whose last layers are others, built with them and loaded; and
what must not be taken for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import archfind
from archfind.database.entries import default
from archfind.errors import BuildError
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.types import Guess

State = dict[str, torch.Tensor]
WIDE = 512  # what the head of a resnet18 takes


def network(name: str, **fields: object) -> nn.Module:
    library, _, architecture = name.partition("/")
    return provider(library).create(architecture, **fields)


def with_head(name: str, place: str, head: nn.Module) -> nn.Module:
    module = network(name)
    parent, _, child = place.rpartition(".")
    setattr(module.get_submodule(parent), child, head)
    return module.eval()


def guess_state(state: State) -> Guess:
    return guess_checkpoint(checkpoint_of(state), default())


def outputs(module: nn.Module, side: int = 64) -> list[torch.Tensor]:
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        found = module.eval()(x)
    if isinstance(found, dict):
        return list(found.values())
    return list(found) if isinstance(found, list | tuple) else [found]


def check(module: nn.Module, path: Path, prefix: str = "", side: int = 64) -> Guess:
    """Save, guess, load strictly, and compare what both compute."""
    with torch.no_grad():
        randomise_seeded(module)
    torch.save({prefix + k: t for k, t in module.state_dict().items()}, path)
    found = archfind.guess(path)
    assert found.is_assumed, found.matches[:1]
    loaded = archfind.load(path)
    assert list(loaded.state_dict()) and set(loaded.state_dict()) == set(module.state_dict())
    for one, other in zip(outputs(module, side), outputs(loaded, side), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    return found


def told(found: Guess) -> dict[str, tuple[str, object]]:
    """What is assumed, by place."""
    return {item.place: (item.what, item.value) for item in found.matches[0].assumed}


def settings(found: Guess) -> dict[str, object]:
    return {k: s.value for k, s in found.matches[0].config.items()}


def mlp(width: int, norm: Callable[[int], nn.Module] | None = None) -> nn.Sequential:
    layers = [nn.Linear(width, 24), *([norm(24)] if norm else []), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(24, 5))


def test_dropout_and_linear(tmp_path: Path) -> None:
    head = nn.Sequential(nn.Dropout(), nn.Linear(WIDE, 10))
    module = with_head("torchvision/resnet18", "fc", head)
    found = check(module, tmp_path / "x.pth", "module.")
    assert settings(found) == {"fc": "Dropout, Linear(512, 10)"}
    assert found.matches[0].config["fc"].source == "assumed"
    assert found.matches[0].matched == found.matches[0].expected == len(module.state_dict())


def test_an_mlp(tmp_path: Path) -> None:
    found = check(with_head("torchvision/resnet18", "fc", mlp(WIDE)), tmp_path / "x.pth")
    assert settings(found) == {"fc": "Linear(512, 24), ReLU, Dropout, Linear(24, 5)"}
    assert told(found)["fc.1"] == ("activation after fc.0", "relu")
    assert isinstance(archfind.load(tmp_path / "x.pth").fc, nn.Sequential)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
def test_norms_are_told_by_their_statistics(
    norm: Callable[[int], nn.Module], tmp_path: Path
) -> None:
    found = check(with_head("torchvision/resnet18", "fc", mlp(WIDE, norm)), tmp_path / "x.pth")
    assert norm.__name__ in str(settings(found)["fc"])


@pytest.mark.parametrize(
    ("name", "place", "side"),
    [
        ("torchvision/efficientnet_b0", "classifier", 64),
        ("torchvision/mobilenet_v3_small", "classifier.3", 64),
        ("torchvision/densenet121", "classifier", 64),
        ("torchvision/shufflenet_v2_x0_5", "fc", 64),
        ("timm/test_vit", "head", 160),
        ("timm/test_convnext", "head.fc", 160),
        ("timm/test_resnet", "fc", 96),
        ("timm/regnetx_002", "head.fc", 64),
    ],
)
def test_wherever_the_library_has_its_head(
    name: str, place: str, side: int, tmp_path: Path
) -> None:
    lib = network(name).get_submodule(place)
    first = next(m for m in lib.modules() if isinstance(m, nn.Linear))
    found = check(
        with_head(name, place, mlp(first.in_features)), tmp_path / "x.pth", "net.", side=side
    )
    assert place in settings(found)


def test_the_end_of_a_sequential_goes_on(tmp_path: Path) -> None:
    module = network("torchvision/mobilenet_v3_small")
    module.classifier[3] = nn.Linear(1024, 16)
    module.classifier.extend([nn.ReLU(), nn.Linear(16, 3)])
    found = check(module, tmp_path / "x.pth")
    assert settings(found) == {"classifier[3:]": "Linear(1024, 16), ReLU, Linear(16, 3)"}


def test_a_norm_that_the_library_keeps_before_its_head(tmp_path: Path) -> None:
    module = network("torchvision/convnext_tiny")
    module.classifier[2] = mlp(768)
    found = check(module, tmp_path / "x.pth", side=32)
    assert list(settings(found)) == ["classifier.2"]


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDE, 16)
        self.bn1 = nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.bn1(self.fc1(x))))


def test_named_layers_run_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = check(with_head("torchvision/resnet18", "fc", Named()), tmp_path / "x.pth")
    assert told(found)["fc.wiring"] == ("the way through fc.fc1, fc.bn1, fc.fc2", "in_a_row")
    assert told(found)["fc.bn1.after"] == ("activation after fc.bn1", "relu")
    assert told(found)["fc.fc1.after"] == ("function after fc.fc1", "none")


def test_a_format_that_sorts_its_keys_needs_one_order_that_fits(tmp_path: Path) -> None:
    module = with_head("torchvision/resnet18", "fc", Named())
    with torch.no_grad():
        randomise_seeded(module)
    save_file(module.state_dict(), tmp_path / "x.safetensors")
    found = archfind.guess(tmp_path / "x.safetensors")
    # bn1 comes before or after the 16 values are made: before, its width would be 512
    assert found.is_assumed
    loaded = archfind.load(tmp_path / "x.safetensors")
    assert torch.allclose(outputs(module)[0], outputs(loaded)[0], rtol=1e-4, atol=1e-5)


class Several(nn.Module):
    def __init__(self, cls: type[nn.Module]) -> None:
        super().__init__()
        heads = {"age": nn.Linear(WIDE, 1), "gender": nn.Linear(WIDE, 2)}
        self.several = cls(heads if cls is nn.ModuleDict else heads.values())


@pytest.mark.parametrize("cls", [nn.ModuleDict, nn.ModuleList])
def test_several_heads_in_the_place_of_one(cls: type[nn.Module], tmp_path: Path) -> None:
    class Heads(cls):  # pyright: ignore
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [m(x) for m in self.children()]

    several = Several(cls).several
    heads = Heads(dict(several.items()) if cls is nn.ModuleDict else list(several))
    found = check(with_head("torchvision/resnet18", "fc", heads), tmp_path / "x.pth")
    names = ["age", "gender"] if cls is nn.ModuleDict else ["0", "1"]
    assert told(found)["outputs"] == (f"what {', '.join(names)} are returned as", "dict")
    x = torch.zeros(1, 3, 64, 64)
    assert list(archfind.load(tmp_path / "x.pth")(x)) == names


class Beside(nn.Module):
    """A backbone without its head, and a trunk and two heads of its own."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.shared = nn.Sequential(nn.Linear(WIDE, 32), nn.ReLU())
        self.fc_age = nn.Linear(32, 1)
        self.fc_gender = nn.Sequential(nn.Dropout(), nn.Linear(32, 2))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.shared(self.backbone(x))
        return {"age": self.fc_age(x), "gender": self.fc_gender(x)}


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_heads_beside_a_backbone(library: str, tmp_path: Path) -> None:
    backbone = network(f"{library}/resnet18")
    backbone.fc = nn.Identity()
    found = check(Beside(backbone), tmp_path / "x.pth", "model.")
    head = found.matches[0].head
    assert head and head.beside and head.backbone == "backbone"
    assert [layer.branch for layer in head.layers if layer.kind == "Linear"] == [
        "",
        "fc_age",
        "fc_gender",
    ]


def test_a_list_of_heads_beside_a_backbone(tmp_path: Path) -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = network("timm/resnet18", num_classes=0)
            self.heads = nn.ModuleList([nn.Linear(WIDE, 3), mlp(WIDE), nn.Linear(WIDE, 2)])

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            x = self.encoder(x)
            return [head(x) for head in self.heads]

    check(Listed(), tmp_path / "x.pth")


def test_a_backbone_and_head_in_a_sequential(tmp_path: Path) -> None:
    backbone = with_head("torchvision/mobilenet_v3_small", "classifier", nn.Identity())
    check(nn.Sequential(backbone, nn.Linear(576, 9)), tmp_path / "x.pth")
    layers = [nn.Dropout(), nn.Linear(576, 8), nn.ReLU(), nn.Linear(8, 3)]
    check(nn.Sequential(backbone, *layers), tmp_path / "y.pth")


def test_a_head_of_a_new_name_in_the_network_itself(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inner = with_head("torchvision/resnet18", "fc", nn.Identity())
            for name, child in inner.named_children():
                self.add_module(name, child)
            self.embed = mlp(WIDE, nn.BatchNorm1d)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for child in list(self.children())[:-2]:
                x = child(x)
            return self.embed(x.flatten(1))

    check(Own(), tmp_path / "x.pth")


def test_a_library_that_cannot_leave_its_head_out(tmp_path: Path) -> None:
    for place, shape in (("classifier", (2, 576)), ("classifier.3", (2, 1024))):
        module = with_head("torchvision/mobilenet_v3_small", place, nn.Identity())
        found = check(module, tmp_path / "x.pth")
        assert settings(found) == {place: "Identity"}
        assert outputs(archfind.load(tmp_path / "x.pth"))[0].shape == shape


def test_the_twin_asked_for_is_built(tmp_path: Path) -> None:
    module = with_head("timm/resnet50", "fc", mlp(2048)).eval()
    torch.save(module.state_dict(), tmp_path / "x.pth")
    found = archfind.guess(tmp_path / "x.pth", choose="timm/resnetaa50")
    assert (found.chosen_by, found.matches[0].entry.name) == ("user", "resnetaa50")
    assert archfind.guess(tmp_path / "x.pth").chosen_by == "prior"


def test_twins_stay_ambiguous() -> None:
    module = with_head("timm/vit_base_patch16_clip_quickgelu_224", "head", mlp(768))
    found = guess_state(module.state_dict())
    assert found.status == "ambiguous"
    assert told(found)["head.1"] == ("activation after head.0", "relu")


def test_exported_as_onnx(tmp_path: Path) -> None:
    width = network("timm/test_resnet").get_submodule("fc").in_features
    module = with_head("timm/test_resnet", "fc", mlp(width, nn.BatchNorm1d))
    check(module, tmp_path / "x.pth", side=96)
    exported = archfind.export(tmp_path / "x.pth", tmp_path / "x.onnx", accept_ambiguous=True)
    assert exported.max_abs_diff < 1e-3


# What must not be exact


def base() -> State:
    return dict(with_head("torchvision/resnet18", "fc", mlp(WIDE)).state_dict())


def not_exact(state: State) -> Guess:
    found = guess_state(state)
    assert found.status in ("close", "unknown"), (found.status, found.matches[0].config)
    return found


def test_a_layer_too_many_or_too_few_in_the_backbone() -> None:
    state = base()
    state["layer2.0.extra.weight"] = torch.empty(128, 128)
    state["layer2.0.extra.bias"] = torch.empty(128)
    assert not_exact(state).status == "close"
    state = base()
    for key in [k for k in state if k.startswith("layer3.1.bn2.")]:
        del state[key]
    assert not_exact(state).status == "close"
    state = base()
    state["layer4.1.conv2.weight"] = state["layer4.1.conv2.weight"][:500]
    not_exact(state)


def test_a_head_of_another_width_and_one_that_does_not_run_through() -> None:
    state = base()
    state["fc.0.weight"] = torch.empty(24, 500)
    not_exact(state)
    state = base()
    state["fc.3.weight"] = torch.empty(5, 23)
    not_exact(state)


def test_twice_the_features_is_a_pooling_that_is_named() -> None:
    state = dict(with_head("torchvision/resnet18", "fc", mlp(2 * WIDE)).state_dict())
    found = not_exact(state)
    assert found.status == "close" and "1024 features" in found.warnings[0]


def test_a_bias_that_is_missing_is_not_one_left_out() -> None:
    state = dict(network("torchvision/mobilenet_v3_small").state_dict())
    del state["classifier.3.bias"]
    not_exact(state)
    state = dict(network("torchvision/mobilenet_v3_small").state_dict())
    del state["classifier.0.bias"]
    not_exact(state)


def test_a_lone_matrix_is_perhaps_an_embedding() -> None:
    state = {
        f"image.{k}": t for k, t in network("timm/resnet18", num_classes=0).state_dict().items()
    }
    state["words.weight"] = torch.empty(3000, WIDE)
    not_exact(state)
    state["items.weight"] = torch.empty(300, WIDE)
    not_exact(state)


def test_neighbours_without_room_for_an_activation_are_not_guessed() -> None:
    head = nn.Sequential(nn.Linear(WIDE, 16), nn.Linear(16, 4))
    not_exact(dict(with_head("torchvision/resnet18", "fc", head).state_dict()))


def test_two_ways_to_read_a_head_are_none() -> None:
    state = {f"net.{k}": t for k, t in network("timm/resnet18", num_classes=0).state_dict().items()}
    for name, out in (("one", WIDE), ("two", 7)):  # in a row, or side by side
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.empty(out, WIDE), torch.empty(out)
    not_exact(state)


def test_a_head_that_may_bring_its_own_pooling_is_not_guessed() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(368, 5))
    not_exact(dict(with_head("timm/regnetx_002", "head", head).state_dict()))
    not_exact(dict(with_head("timm/regnetx_002", "head", nn.Linear(368, 5)).state_dict()))


def test_both_heads_there_is_not_a_headless_backbone() -> None:
    state = dict(network("torchvision/resnet18").state_dict())
    state["aux.weight"], state["aux.bias"] = torch.empty(3, WIDE), torch.empty(3)
    not_exact(state)


@pytest.mark.usefixtures("short_search")
def test_a_close_one_is_not_built(tmp_path: Path) -> None:
    state = base()
    state["fc.0.weight"] = torch.empty(24, 500)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(BuildError):
        archfind.load(tmp_path / "x.pth")
