"""Arguments that people move in a published network: tried first, and what may have been moved in
their place is told. A sample of benchmarks/ordinary_arguments.py, and its cases in depth."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import timm
import torch
from ordinary_arguments import drawn, judged

import archfind
from archfind.cli import main
from archfind.learning.twins import randomise_seeded

CASES = 14


def test_no_answer_is_exact_and_wrong() -> None:
    draw = random.Random(3)
    names = [name for name in sorted(timm.list_models()) if "tiny" in name or "small" in name]
    counts: Counter[str] = Counter()
    for _ in range(CASES):
        why, _ = judged(drawn(draw, names), counts)
        assert "WRONG" not in why
    assert counts["named"] >= CASES - 2
    assert counts["wrong"] == 0


def saved(name: str, path: Path, **arguments: object) -> torch.nn.Module:
    module = timm.create_model(name, pretrained=False, **arguments).eval()
    randomise_seeded(module)
    torch.save(module.state_dict(), path)
    return module


@pytest.mark.parametrize("stride", [8, 14])
def test_a_pictures_size_comes_before_a_stride_which_a_setting_can_tell(
    stride: int, tmp_path: Path
) -> None:
    path = tmp_path / "pit.pth"
    side = 128 if stride == 8 else 224  # 15 patches a side, both
    module = saved("pit_ti_distilled_224", path, img_size=side, stride=stride)
    found = archfind.guess(path)
    assert found.status == "ambiguous" and found.is_named
    best = found.matches[0]
    assert best.entry.name == "pit_ti_distilled_224"
    assert best.variant is not None and best.variant.moved == {"img_size.0": 128, "img_size.1": 128}
    (item,) = best.assumed
    assert (item.place, item.value, item.alternatives) == ("stride", 8, (14,))
    loaded = archfind.load(path, settings={"stride": stride})
    image = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        assert torch.equal(loaded(image), module(image))


def test_what_was_not_decided_is_not_read_from_shapes(tmp_path: Path) -> None:
    saved("pit_ti_distilled_224", tmp_path / "pit.pth", img_size=128, depth=(3, 6, 4))
    best = archfind.guess(tmp_path / "pit.pth").matches[0]
    assert best.config["depth"].source == "shape"
    assert best.config["img_size"].source == best.config["stride"].source == "default"
    assert "stride" in [item.place for item in best.assumed]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mobilenetv3_small_100", {"in_chans": 6}),
        ("vit_tiny_r_s16_p8_224", {"in_chans": 1}),
        ("sehalonet33ts", {"in_chans": 6, "img_size": 320}),
        ("efficientnet_b2_pruned", {"in_chans": 4}),
    ],
)
def test_the_build_line_moves_only_what_has_to_move(
    name: str, arguments: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(name, tmp_path / "net.pth", **arguments)
    assert main(["guess", str(tmp_path / "net.pth")]) == 0
    build = next(line for line in capsys.readouterr().out.split("\n") if "  build  " in line)
    shown = {k: v for k, v in arguments.items() if k != "img_size"}  # which no tensor shows
    call = build.partition("create_model(")[2].rstrip(")")
    assert call.split(", ")[0] == repr(name)
    assert sorted(call.split(", ")[1:]) == sorted(f"{k}={v}" for k, v in shown.items())
