"""Keys that are written alike: no tensor takes another one's place in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import archfind
from archfind import formats
from archfind.errors import ExportError

ONE, TWO = torch.full((2, 2), 1.0), torch.full((2, 2), 2.0)


@pytest.mark.parametrize(
    "state", [{1: ONE, "1": TWO}, {1: {"w": ONE}, "1": {"w": TWO}}, {None: ONE, "None": TWO}]
)
def test_a_key_that_hides_another_is_said(state: dict[object, object], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pth")
    found = formats.open(tmp_path / "x.pth")
    assert len(found.index) == 1
    assert [line for line in found.warnings if line.startswith("1 tensors are under keys")]


def test_nothing_is_said_of_what_is_told_apart(tmp_path: Path) -> None:
    torch.save({"a": {"b": ONE}, "a/b": TWO, "a.b": ONE, 1: TWO, "2": ONE}, tmp_path / "x.pth")
    found = formats.open(tmp_path / "x.pth")
    assert len(found.index) == 5 and not found.warnings


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_two_tensors_of_one_name_are_not_written(suffix: str, tmp_path: Path) -> None:
    torch.save({"p": [ONE, {"q": ONE}], "p.0": TWO}, tmp_path / "x.pth")
    with pytest.raises(ExportError, match=r"two tensors would be called p\.0"):
        archfind.export(tmp_path / "x.pth", tmp_path / f"o{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_slashes_and_tildes_in_names(suffix: str, tmp_path: Path) -> None:
    torch.save({"a~1b": ONE, "a/b": TWO, "~": ONE, "~0": TWO}, tmp_path / "x.pth")
    archfind.export(tmp_path / "x.pth", tmp_path / f"o{suffix}")
    again = formats.open(tmp_path / f"o{suffix}").index
    wanted = formats.open(tmp_path / "x.pth").index
    plain = {key.replace("~1", "/").replace("~0", "~") for key in wanted}
    assert set(again) == (set(wanted) if suffix == ".pth" else plain)
    torch.save({"a": {"b/c": ONE}, "a/b": {"c": TWO}}, tmp_path / "y.pth")
    archfind.export(tmp_path / "y.pth", tmp_path / "y_o.pth")
    assert set(torch.load(tmp_path / "y_o.pth")) == {"a.b/c", "a/b.c"}
