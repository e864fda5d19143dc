"""Networks with arguments that no registered entry has: solved, built, loaded, and run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import archfind
from archfind.classes.notation import Family
from archfind.classes.score import is_derived
from archfind.cli import main
from archfind.database.entries import signatures_folder
from archfind.errors import BuildError
from archfind.frozen import replace
from archfind.learning.twins import randomise_seeded
from archfind.probing.config import captured_call
from archfind.probing.probe import shapes_of
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.searching.doubt import is_doubtful

VARIANTS = [
    ("torchvision/resnet50", {"layers": [2, 3, 5, 1], "num_classes": 7}),
    ("torchvision/swin_t", {"depths": [2, 2, 4, 2], "embed_dim": 48, "num_heads": [2, 4, 8, 16]}),
    ("timm/vit_tiny_patch16_224", {"depth": 5, "embed_dim": 96, "in_chans": 1, "num_classes": 3}),
    ("timm/efficientnet_b0", {"in_chans": 1, "num_classes": 5}),
    ("timm/mnasnet_100", {"stem_size": 48, "num_classes": 12}),
    ("timm/convnext_tiny", {"depths": [1, 2, 4, 1], "dims": [24, 48, 96, 200]}),
    ("spandrel/SwinIR", {"embed_dim": 36, "depths": [2, 3], "num_heads": [6, 4]}),
    ("spandrel/ESRGAN", {"num_blocks": 3, "num_filters": 24, "scale": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "arguments"), VARIANTS, ids=[v[0] for v in VARIANTS])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_arguments_are_solved_and_the_network_is_the_same(
    entry: str, arguments: dict[str, object], suffix: str, tmp_path: Path
) -> None:
    module = archfind.variant(entry, arguments).eval()
    randomise_seeded(module)
    path = tmp_path / f"net{suffix}"
    state = {key: tensor.contiguous() for key, tensor in module.state_dict().items()}
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": t for k, t in state.items()}}, path)
    else:
        save_file(state, path)
    guess = archfind.guess(path)
    best = guess.matches[0]
    twins = any(not twin.same_function for twin in best.twins)
    assert guess.is_named or (guess.status == "ambiguous" and twins)
    assert best.entry.cls == f"{type(module).__module__}.{type(module).__qualname__}"
    shown = {name: best.config[name].value for name in arguments if name != "num_heads"}
    assert shown == {name: value for name, value in arguments.items() if name != "num_heads"}
    invisible = {k: v for k, v in arguments.items() if k == "num_heads"}
    loaded = archfind.load(path, choose=entry, settings=invisible)
    channels = next(m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d))
    image = torch.rand(1, channels, 224 if "timm" in entry else 64, 224 if "timm" in entry else 64)
    with torch.inference_mode():
        assert torch.equal(module(image), loaded(image))


def test_a_list_that_is_shorter_has_no_items_beyond_its_end(tmp_path: Path) -> None:
    module = archfind.variant("torchvision/convnext_tiny", {"block_setting.#": 3}).eval()
    randomise_seeded(module)
    save_file(module.state_dict(), tmp_path / "net.safetensors")
    assert archfind.guess(tmp_path / "net.safetensors").is_assumed
    loaded = archfind.load(tmp_path / "net.safetensors")
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(image), module(image))


def test_the_answer_says_what_it_rests_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pth"
    torch.save(
        archfind.variant("torchvision/resnet18", {"layers": [1, 2, 1, 3]}).state_dict(), path
    )
    assert main(["guess", "--json", str(path)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["status"], answer["architecture"]) == ("ambiguous", "resnet18")
    assert [item["place"] for item in answer["assumed"]] == ["arguments"]
    assert main(["guess", "--json", str(path), "--as", "torchvision/resnet18"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "exact" and answer["architecture"] == "resnet18"
    assert answer["assumed"] == []
    assert answer["config"]["layers"] == {"value": [1, 2, 1, 3], "source": "shape"}
    assert answer["build"]["callable"] == "archfind.variant"
    built = archfind.variant(*answer["build"]["args"])
    assert shapes_of(built) == shapes_of(archfind.load(path))
    assert main(["guess", str(path)]) == 1
    assert "with other arguments" in capsys.readouterr().out.partition("\n")[0]


def test_what_the_entry_has_as_an_object_stays(tmp_path: Path) -> None:
    """Its norm's epsilon shows in no tensor: where the norm fits, no other takes its place."""
    module = archfind.variant("timm/vit_medium_patch16_clip_224", {"depth": 2}).eval()
    randomise_seeded(module)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    match = archfind.guess(tmp_path / "net.pth").matches[0]
    assert match.entry.id == "timm/vit_medium_patch16_clip_224"
    assert match.variant is not None and match.variant.moved == {"depth": 2}
    loaded = archfind.load(tmp_path / "net.pth", choose=match.entry.id)
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(module(image), loaded(image))


def test_factors_of_one_size_are_assumed_not_shown(tmp_path: Path) -> None:
    """Colours times the scale squared: a usual scale is likelier than unheard-of colours."""
    module = archfind.variant("spandrel/MoESR", {"n_block": 1, "n_blocks": 2, "scale": 8})
    torch.save(module.state_dict(), tmp_path / "net.pth")
    config = archfind.guess(tmp_path / "net.pth").matches[0].config
    assert (config["scale"].value, config["out_ch"].value) == (8, 3)
    assert config["scale"].source == config["out_ch"].source == "default"
    assert config["in_ch"].source == config["n_blocks"].source == "shape"


def test_one_wrong_tensor_is_one_mismatch(tmp_path: Path) -> None:
    state = archfind.variant("torchvision/resnet18", {"layers": [1, 2, 1, 3]}).state_dict()
    state["layer4.1.conv2.weight"] = torch.zeros(512, 500, 3, 3)
    path = tmp_path / "net.pth"
    torch.save(state, path)
    guess = archfind.guess(path)
    assert guess.status == "close"
    best = guess.matches[0]
    assert [m.key for m in best.mismatched] == ["layer4.1.conv2.weight"]
    assert not best.missing and not best.unexpected
    with pytest.raises(BuildError):
        archfind.load(replace(guess, searched=True))  # a search of 20 seconds finds no more


@pytest.mark.parametrize("out", [3, 12, 5])
def test_a_plain_stack_of_convolutions_is_no_restorer(out: int, tmp_path: Path) -> None:
    body = [nn.Conv2d(3, 24, 3, padding=1), nn.PReLU(24)]
    for _ in range(4):
        body += [nn.Conv2d(24, 24, 3, padding=1), nn.PReLU(24)]
    net = nn.Module()
    net.body = nn.Sequential(*body, nn.Conv2d(24, out, 3, padding=1))
    path = tmp_path / "net.pth"
    torch.save(net.state_dict(), path)
    assert archfind.guess(path).status != "exact"


def test_a_network_as_wide_is_nearer_than_one_as_deep(tmp_path: Path) -> None:
    """Heads show in no tensor, and go with the width."""
    small = {"depth": 2, "img_size": 160}
    module = archfind.variant("timm/vit_tiny_patch16_224", small)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert found.matches[0].entry.id == "timm/vit_tiny_patch16_224"
    assert archfind.load(found).blocks[0].attn.num_heads == module.blocks[0].attn.num_heads == 3


def test_a_square_picture_is_taken_before_an_oblong_one(tmp_path: Path) -> None:
    """A table of 144 places is one of 12 by 12, however the nearest network's picture is cut."""
    module = archfind.variant("timm/vit_small_patch32_384", {"img_size": 96, "patch_size": 8})
    torch.save(module.state_dict(), tmp_path / "net.pth")
    assert archfind.load(tmp_path / "net.pth").patch_embed.img_size == (96, 96)


def test_an_oblong_picture_is_no_sure_answer(tmp_path: Path) -> None:
    """Which of its sides is the height shows in no tensor; nor whether it isn't a square beside
    tokens of another number."""
    module = archfind.variant("timm/vit_tiny_patch16_224", {"img_size": [256, 128]})
    torch.save(module.state_dict(), tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert found.status == "ambiguous" and is_doubtful(found)
    sides = found.matches[0].config["img_size"].value
    assert isinstance(sides, list) and sorted(sides) == [128, 256]


def test_of_networks_as_near_the_nearest_in_size_is_named(tmp_path: Path) -> None:
    sizes = {"dims": [44, 88, 160, 300], "depths": [2, 2, 5, 2]}
    module = archfind.variant("timm/convnext_atto", sizes)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    assert archfind.guess(tmp_path / "net.pth").matches[0].entry.id == "timm/convnext_atto"


def test_a_picture_is_taken_to_be_round(tmp_path: Path) -> None:
    """Of the pictures of 228 to 259 pixels that fill eight windows, that of 256."""
    module = archfind.variant(
        "timm/swin_tiny_patch4_window7_224", {"window_size": 8, "img_size": 256}
    )
    torch.save(module.state_dict(), tmp_path / "net.pth")
    assert archfind.load(tmp_path / "net.pth").patch_embed.img_size == (256, 256)


def test_what_twins_compute_is_not_settled_by_other_sizes(tmp_path: Path) -> None:
    """Padding and epsilon show in no tensor, with one channel as with three."""
    for entry in ("timm/tf_efficientnet_b0", "timm/efficientnet_b0"):
        module = archfind.variant(entry, {"in_chans": 1}).eval()
        torch.save(module.state_dict(), tmp_path / "net.pth")
        found = archfind.guess(tmp_path / "net.pth")
        assert found.status == "ambiguous"
        names = {f"timm/{twin.architecture}" for twin in found.matches[0].twins}
        assert entry in names | {found.matches[0].entry.id}
        loaded = archfind.load(tmp_path / "net.pth", choose=entry)
        image = torch.rand(1, 1, 65, 65)
        with torch.inference_mode():
            assert torch.equal(loaded(image), module(image))


def test_a_variant_has_the_arguments_of_its_class() -> None:
    with pytest.raises(BuildError, match="no argument 'depth'"):
        archfind.variant("torchvision/resnet18", {"depth": 3})


def _families() -> list[Family]:
    found: list[Family] = []
    for path in sorted(Path(signatures_folder()).glob("*/families/*.txt")):
        found += [Family(f"[{b}") for b in path.read_text().split("\n[")[1:]]
    return random.Random(0).sample(found, 12)


@pytest.mark.parametrize("family", _families(), ids=lambda family: family.base)
def test_families_say_what_the_library_builds(family: Family) -> None:
    """A sample; benchmarks/variant_sweep.py draws from all."""
    name = min(family.presets, key=len)
    library, _, architecture = name.partition("/")
    module, cls, _ = captured_call(lambda: create_on_meta(provider(library), architecture))
    assert family.cls == f"{cls.__module__}.{cls.__qualname__}"
    said = family.program.expand(family.presets[name])
    built = shapes_of(module)
    # what the library makes by itself, a family needn't know
    assert {k: one for k, one in said.items() if not is_derived(k, one[1])} == {
        k: one for k, one in built.items() if not is_derived(k, one[1])
    }
