"""Networks that no signature and no family explains, found by building their classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import archfind
from archfind.cli import main
from archfind.database.entries import default
from archfind.errors import AmbiguousError, UnknownError
from archfind.learning.twins import randomise_seeded
from archfind.searching.doubt import is_doubtful, settled_by_building

NESTED = ("torchvision/mobilenet_v3_small", {"inverted_residual_setting.3.out_channels": 56})


def _saved(module: nn.Module, path: Path) -> Path:
    torch.save(module.state_dict(), path)
    return path


def test_a_nested_argument_is_found_and_the_network_is_the_same(tmp_path: Path) -> None:
    entry, moves = NESTED
    # The next block takes what this one gives: two leaves, one change.
    whole = {**moves, "inverted_residual_setting.4.input_channels": 56}
    module = archfind.variant(entry, {**whole, "num_classes": 5}).eval()
    randomise_seeded(module)
    path = _saved(module, tmp_path / "net.pth")
    found = archfind.guess(path, search=True)
    assert found.is_named and found.matches[0].variant is not None
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(archfind.load(path, choose=entry)(image), module(image))


def test_an_entry_that_is_asked_for_is_where_the_search_starts(tmp_path: Path) -> None:
    module = archfind.variant("spandrel/SPAN", {"num_out_ch": 1, "upscale": 7})
    path = _saved(module, tmp_path / "net.pth")
    found = archfind.guess(path, choose="spandrel/SPAN", search=True)
    assert found.is_named and found.chosen_by == "user"
    assert found.matches[0].config["upscale"].value == 7
    assert found.matches[0].config["num_out_ch"].source == "shape"


@pytest.mark.usefixtures("short_search")
def test_what_was_cut_or_is_of_no_library_is_not_explained(tmp_path: Path) -> None:
    state = archfind.variant("timm/test_resnet", {}).state_dict()
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "cut.pth")
    assert archfind.guess(tmp_path / "cut.pth", search=True).status == "close"
    torch.manual_seed(0)
    own = nn.Sequential(nn.Conv2d(3, 9, 5), nn.Flatten(), nn.Linear(31, 17), nn.LayerNorm(17))
    path = _saved(own, tmp_path / "own.pth")
    found = archfind.guess(path, search=True)
    assert found.status == "unknown" and found.searched
    with pytest.raises(UnknownError):
        archfind.load(path)


def test_a_module_left_out_by_an_argument_is_not_taken_for_lost(tmp_path: Path) -> None:
    module = archfind.variant("timm/edgenext_xx_small", {"use_pos_emb.1": False})
    path = _saved(module, tmp_path / "net.pth")
    assert archfind.guess(path).status == "close"  # one module less is all that there is to see
    assert {*archfind.load(path).state_dict()} == {*module.state_dict()}


def test_a_larger_network_of_a_library_is_not_its_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The classifier's keys are the encoder's below "encoder.", and both classes take these sizes.
    module = archfind.variant("timm/deepseek_vit_412m", {"embed_dim": 128, "depth": 2})
    path = _saved(module, tmp_path / "net.pth")
    assert archfind.guess(path).matches[0].entry.id == "timm/deepseek_vit_412m"
    assert main(["guess", "--search", str(path)]) == 1
    assert "timm/deepseek_vit_412m " in capsys.readouterr().out
    assert type(archfind.load(path)) is type(module)


def test_a_choice_that_numbers_made_up_for(tmp_path: Path) -> None:
    """A stem of half the stride has the table of an image twice as large: the first valley."""
    module = archfind.variant("timm/levit_128s", {"stem_type": "s8", "num_classes": 3})
    path = _saved(module, tmp_path / "net.pth")
    found = archfind.guess(path, choose="timm/levit_128s", search=True)
    assert found.is_named
    assert found.matches[0].config["stem_type"].value == "s8"


def test_masks_of_the_file_are_loaded(tmp_path: Path) -> None:
    """They tell the image's size, which other tensors show only rounded to whole windows."""
    wide = {"img_size": 72, "ape": False, "embed_dim": 36, "depths": [2], "num_heads": [6]}
    module = archfind.variant("spandrel/SwinIR", wide).eval()
    randomise_seeded(module)
    path = _saved(module, tmp_path / "net.pth")
    loaded = archfind.load(path, choose="spandrel/SwinIR")
    image = torch.rand(1, 3, 72, 72)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), module(image))


def test_what_a_family_has_wrong_is_found_when_loaded(tmp_path: Path) -> None:
    """A family's program may be right only near what it was learned from; the class has the say."""
    module = archfind.variant("timm/pit_ti_224", {"in_chans": 6, "patch_size": 24}).eval()
    randomise_seeded(module)
    loaded = archfind.load(_saved(module, tmp_path / "net.pth"))
    image = torch.rand(1, 6, 224, 224)
    with torch.inference_mode():
        assert torch.equal(loaded(image), module(image))


def test_a_choice_holds_for_what_the_search_finds(tmp_path: Path) -> None:
    """Keys that say little are ambiguous, but not for a user who has said which network it is."""
    changes = {"nc": 24, "in_nc": 5, "mode": "FDnCNN", "nb": 6}
    module = archfind.variant("spandrel/DnCNN", changes).eval()
    path = _saved(module, tmp_path / "net.pth")
    assert archfind.guess(path, search=True).status == "ambiguous"
    loaded = archfind.load(path, choose="spandrel/DnCNN", settings={"mode": "FDnCNN"})
    assert type(loaded) is type(module)


def test_a_doubtful_answer_is_held_against_what_the_library_builds(tmp_path: Path) -> None:
    """Rules that were never seen to hold for such a network may be wrong: the class has the say."""
    wrong = archfind.variant("timm/efficientformer_l1", {"num_vit": 3, "num_classes": 5})
    found = archfind.guess(_saved(wrong, tmp_path / "wrong.pth"))
    assert found.status == "ambiguous" and is_doubtful(found)
    found = archfind.guess(found, search=True)
    assert found.is_named and found.matches[0].config["num_vit"].value == 3
    loaded = archfind.load(tmp_path / "wrong.pth")
    assert {*loaded.state_dict()} == {*wrong.state_dict()}
    right = archfind.variant("timm/efficientformer_l3", {"num_vit": 5, "depths.3": 4})
    found = archfind.guess(_saved(right, tmp_path / "right.pth"))
    assert is_doubtful(found)
    found = settled_by_building(found, default())
    assert found.is_named and not is_doubtful(found)


def test_what_the_class_refuses_is_searched_for_where_keys_say_little(tmp_path: Path) -> None:
    """Unlike numbers of channels are of another mode, which no tensor shows."""
    moves = {"in_nc": 4, "nc": 12, "nb": 5, "mode": "FDnCNN"}
    module = archfind.variant("spandrel/DnCNN", moves).eval()
    randomise_seeded(module)
    path = _saved(module, tmp_path / "net.pth")
    with pytest.raises(AmbiguousError, match=r"fits spandrel/DnCNN, but .*--as spandrel/DnCNN"):
        archfind.load(path)
    built = archfind.build(path, accept_ambiguous=True)
    assert built.guess.matches[0].config["mode"].value == "FDnCNN"
    image = torch.rand(1, 4, 24, 24)
    with torch.inference_mode():
        assert torch.equal(built.module(image), module(image))


def test_what_the_class_refuses_is_searched_for(tmp_path: Path) -> None:
    """No rule says that the usual mode asks for as many channels out as in."""
    module = archfind.variant("spandrel/DnCNN", {"in_nc": 7, "mode": "FDnCNN", "nc": 40})
    path = _saved(module, tmp_path / "net.pth")
    loaded = archfind.load(path, choose="spandrel/DnCNN")
    assert {*loaded.state_dict()} == {*module.state_dict()}
