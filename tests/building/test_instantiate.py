"""Built and loaded: strictly, with the file's values, and computing what the original computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import archfind
from archfind.building.instantiate import blank_variant, build_guess
from archfind.errors import AmbiguousError, BuildError, UnknownError
from archfind.formats import open as open_checkpoint
from archfind.learning.twins import randomise_seeded
from archfind.probing.config import (
    captured_call,
    constructor_arguments,
    leaves_of_config,
    with_inherited,
)
from archfind.probing.probe import on_meta, shapes_of
from archfind.providers import provider
from archfind.providers.example import example_for_variant
from archfind.report.answer import guess_document


def network(name: str, **fields: object) -> nn.Module:
    library, _, architecture = name.partition("/")
    module = provider(library).create(architecture, **fields).eval()
    with torch.no_grad():
        randomise_seeded(module)
    return module


def same_outputs(one: nn.Module, other: nn.Module, size: tuple[int, ...]) -> bool:
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        return torch.allclose(one(x), other(x), rtol=1e-5, atol=1e-6)


def test_the_published_mobilenet_computes_what_torchvision_computes(mobilenet: Path) -> None:
    module = archfind.load(mobilenet)
    own = torchvision.models.mobilenet_v2(weights=None).eval()
    own.load_state_dict(torch.load(mobilenet, weights_only=True))
    assert not module.training and same_outputs(module, own, (3, 224, 224))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", "-legacy.pth"])
def test_every_container_loads(tmp_path: Path, suffix: str) -> None:
    original = network("timm/test_resnet", num_classes=5)
    path = tmp_path / f"net{suffix}"
    state = {f"module.{k}": t for k, t in original.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=suffix == ".pth")
    built = archfind.build(path)
    assert (built.loaded, built.tensors) == (len(state), len(state))
    assert same_outputs(built.module, original, (3, 160, 160))


def test_half_weights_are_widened(tmp_path: Path) -> None:
    original = network("timm/test_vit").half()
    torch.save(original.state_dict(), tmp_path / "half.pth")
    module = archfind.load(tmp_path / "half.pth")
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    for key, tensor in original.state_dict().items():
        assert torch.equal(module.state_dict()[key], tensor.float())


def test_weight_norm_and_spectral_norm_are_merged(tmp_path: Path) -> None:
    original = network("torchvision/alexnet", num_classes=3)
    expected = {k: t.clone() for k, t in original.state_dict().items()}
    nn.utils.parametrizations.weight_norm(original.features[0])
    nn.utils.parametrizations.weight_norm(original.classifier[1])
    nn.utils.parametrizations.spectral_norm(original.features[3])
    normed = original.features[3].weight.detach().clone()  # eval mode: u and v stay as they are
    torch.save(original.state_dict(), tmp_path / "normed.pth")
    module = archfind.load(tmp_path / "normed.pth")
    for key, tensor in module.state_dict().items():
        wanted = normed if key == "features.3.weight" else expected[key]
        torch.testing.assert_close(tensor, wanted)


def test_old_weight_norm_is_merged(tmp_path: Path) -> None:
    original = network("torchvision/alexnet")
    expected = original.features[0].weight.detach().clone()
    state = dict(original.state_dict())
    weight = state.pop("features.0.weight")
    state["features.0.weight_g"] = weight.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    state["features.0.weight_v"] = weight * 3
    torch.save(state, tmp_path / "old.pth")
    module = archfind.load(tmp_path / "old.pth")
    torch.testing.assert_close(module.state_dict()["features.0.weight"], expected)


def test_a_whole_pickled_module_loads(tmp_path: Path) -> None:
    original = network("timm/test_convnext", num_classes=6)
    torch.save(original, tmp_path / "whole.pth")
    assert same_outputs(archfind.load(tmp_path / "whole.pth"), original, (3, 160, 160))


def test_several_functions_need_a_choice(tmp_path: Path) -> None:
    original = network("timm/test_efficientnet_ln", num_classes=3)
    path = tmp_path / "twin.pth"
    torch.save(original.state_dict(), path)
    with pytest.raises(AmbiguousError) as caught:
        archfind.load(path)
    assert set(caught.value.choices) == {"timm/test_efficientnet_gn", "timm/test_efficientnet_ln"}
    chosen = archfind.load(path, choose="test_efficientnet_ln")
    assert same_outputs(chosen, original, (3, 160, 160))
    assert isinstance(archfind.load(path, accept_ambiguous=True), nn.Module)


@pytest.mark.usefixtures("short_search")
def test_a_close_file_names_what_is_off(tmp_path: Path) -> None:
    state = dict(network("timm/test_resnet").state_dict())
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(BuildError) as caught:
        archfind.load(tmp_path / "broken.pth")
    assert caught.value.missing == ("layer1.0.conv1.weight",)


@pytest.mark.usefixtures("short_search")
def test_an_unknown_file_is_refused(tmp_path: Path) -> None:
    names = ("first.weight", "second.weight", "third.weight", "third.bias")
    torch.save({name: torch.zeros(3, 5) for name in names}, tmp_path / "unknown.pth")
    with pytest.raises(UnknownError):
        archfind.load(tmp_path / "unknown.pth")


def test_settings_are_checked_by_the_strict_load(tmp_path: Path) -> None:
    torch.save(network("timm/test_resnet", num_classes=4).state_dict(), tmp_path / "net.pth")
    with pytest.raises(BuildError) as caught:
        archfind.load(tmp_path / "net.pth", settings={"num_classes": 5})
    assert set(caught.value.mismatched) == {"fc.weight", "fc.bias"}
    with pytest.raises(BuildError, match="can't be built"):
        archfind.load(tmp_path / "net.pth", settings={"no_such_field": 5})


@pytest.mark.usefixtures("short_search")
def test_a_choice_that_does_not_fit_is_not_built(tmp_path: Path) -> None:
    torch.save(network("timm/test_resnet").state_dict(), tmp_path / "net.pth")
    with pytest.raises((BuildError, UnknownError), match="timm/vgg11"):
        archfind.load(tmp_path / "net.pth", choose="timm/vgg11")
    with pytest.raises(UnknownError, match="no network is called"):
        archfind.load(tmp_path / "net.pth", choose="vgg_no_such")


def test_loading_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(network("timm/test_resnet").state_dict(), path)
    before = path.read_bytes()
    module = archfind.load(path)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert path.read_bytes() == before


def test_each_stage_takes_the_earlier_ones_result(mobilenet: Path) -> None:
    checkpoint = archfind.open(mobilenet)
    found = archfind.guess(checkpoint)
    assert found == archfind.guess(found)
    module = archfind.load(found)
    assert torch.equal(
        module.state_dict()["features.0.0.weight"],
        build_guess(found).module.state_dict()["features.0.0.weight"],
    )
    assert callable(archfind.guess)  # no submodule shadows the function
    assert open_checkpoint(mobilenet).index.keys() == checkpoint.index.keys()


@pytest.mark.parametrize("name", ["mnasnet0_5", "shufflenet_v2_x0_5"])
def test_networks_that_convert_old_layouts_take_a_plain_state_dict(
    tmp_path: Path, name: str
) -> None:
    original = network(f"torchvision/{name}", num_classes=3)
    save_file(original.state_dict(), tmp_path / "net.safetensors")
    assert same_outputs(archfind.load(tmp_path / "net.safetensors"), original, (3, 64, 64))
    state = {k: t for k, t in original.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    assert same_outputs(archfind.load(tmp_path / "old.pth"), original, (3, 64, 64))


def test_a_class_that_needs_values_is_built_blank_as_well() -> None:
    """Its constructor reads numbers out of a tensor, which one on the meta device hasn't."""
    moves = {"n_block": 3, "dim": 24}
    made = blank_variant("spandrel/MoSR", moves)
    assert shapes_of(made) == shapes_of(archfind.variant("spandrel/MoSR", moves))


@pytest.mark.parametrize(
    "name",
    [
        "timm/resnet50",
        "timm/efficientnet_b0",
        "timm/vit_base_patch16_224",
        "timm/swin_tiny_patch4_window7_224",
        "torchvision/convnext_tiny",
        "torchvision/googlenet",
        "torchvision/raft_small",
        "spandrel/SwinIR",
        "spandrel/SRFormer",
    ],
)
def test_arguments_are_read_without_building(name: str) -> None:
    library, _, architecture = name.partition("/")
    source = provider(library)
    _, cls, config = captured_call(lambda: on_meta(lambda: source.create(architecture), {}))
    read = constructor_arguments(lambda: source.create(architecture), cls)
    assert read is not None
    assert leaves_of_config(with_inherited(cls, read)) == leaves_of_config(config)


def test_arguments_of_a_class_that_is_not_called_are_none() -> None:
    assert constructor_arguments(lambda: nn.Sequential(nn.Linear(2, 3)), nn.Conv2d) is None
    assert nn.Linear(2, 3).weight.shape == (3, 2)


def test_a_variant_says_what_it_is_fed_as_its_registered_network_does() -> None:
    registered = provider("timm").create("resnet18")
    made = archfind.variant("timm/resnet18", {"in_chans": 1})
    assert made.pretrained_cfg == registered.pretrained_cfg == made.default_cfg


@pytest.mark.parametrize(
    ("name", "moves", "names"),
    [
        ("RetinexFormer", {"n_feat": 16}, ("input",)),  # adds a channel to the image's
        ("LaMa", {"in_nc": 4}, ("image", "mask")),
        ("OmniSR", {"num_in_ch": 1, "num_out_ch": 1, "num_feat": 16}, ("input",)),
    ],
)
def test_a_restorer_runs_on_its_example(
    name: str, moves: dict[str, object], names: tuple[str, ...]
) -> None:
    module = archfind.variant(f"spandrel/{name}", moves).eval()
    example = example_for_variant(provider("spandrel").example(name, module), moves)
    assert example.names == names
    with torch.inference_mode():
        assert torch.isfinite(module(*example.args)).all()


def test_a_decoder_on_its_encoder_is_built_as_it_is_told_to_be(tmp_path: Path) -> None:
    import segmentation_models_pytorch as library

    original = library.Unet("resnet34", encoder_weights=None, classes=11, in_channels=4).eval()
    with torch.no_grad():
        randomise_seeded(original)
    torch.save(
        {"state_dict": {f"model.{k}": t for k, t in original.state_dict().items()}},
        path := tmp_path / "net.ckpt",
    )
    found = archfind.guess(path)
    assert (found.status, found.matches[0].entry.id) == ("exact", "smp/Unet-resnet34")
    build = guess_document(found)["build"]
    assert build["callable"] == "segmentation_models_pytorch.Unet" and build["args"] == ["resnet34"]
    assert build["kwargs"] == {"encoder_weights": None, "classes": 11, "in_channels": 4}
    assert same_outputs(archfind.load(path), original, (4, 64, 64))
