"""A network that no library has, as a live module and as a checked .onnx: never in silence."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import onnx
import pytest
import torch
from drawn_sources import drawn, equal
from torch import nn

import archfind
from archfind.cli import main


def _gelu() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 7), nn.GELU(), nn.Linear(7, 3)).eval()


def test_a_likely_module_is_loaded_only_where_it_is_accepted(tmp_path: Path) -> None:
    module, path = _gelu(), tmp_path / "mystery.pth"
    torch.save(module.state_dict(), path)
    with pytest.raises(archfind.UnknownError, match=r"likely, with \d+ assumptions: --accept"):
        archfind.load(path)
    before = set(Path(tempfile.gettempdir()).glob("archfind-source-*"))
    other = archfind.load(path, accept_likely=True, settings={"1": "gelu"})
    assert equal(module, other, (torch.randn(4, 9),))
    assert set(Path(tempfile.gettempdir()).glob("archfind-source-*")) == before
    with pytest.raises(archfind.BuildError, match="nothing is assumed at 5"):
        archfind.load(path, accept_likely=True, settings={"5": "gelu"})


def test_a_certain_module_is_loaded_as_it_is(tmp_path: Path) -> None:
    module, path = _gelu(), tmp_path / "whole.pth"
    torch.save(module, path)
    assert equal(module, archfind.load(path), (torch.randn(4, 9),))


def test_an_open_forward_is_never_loaded(tmp_path: Path) -> None:
    module, _, _ = drawn("gated", 3, 0)
    torch.save(module.state_dict(), tmp_path / "gated.pth")
    with pytest.raises(archfind.UnknownError, match="is open: in which order"):
        archfind.load(tmp_path / "gated.pth", accept_likely=True)


def test_an_exported_file_says_what_it_was_written_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = str(tmp_path / "mystery.pth"), str(tmp_path / "mystery.onnx")
    torch.save(_gelu().state_dict(), path)
    assert main(["export", path, out]) == 2
    assert "--accept-likely takes it" in capsys.readouterr().err
    assert main(["export", path, out, "--accept-likely", "--set", "1=gelu"]) == 0
    assert "  grade     likely, assumed: final=none" in capsys.readouterr().out
    told = {prop.key: prop.value for prop in onnx.load(out).metadata_props}
    assert told["archfind.grade"] == "likely"
    assert [item["place"] for item in json.loads(told["archfind.assumed"])] == ["final"]
    kwargs = {"accept_likely": True, "settings": {"1": "gelu"}}
    build = {"callable": "archfind.load", "args": ["mystery.pth"], "kwargs": kwargs}
    assert json.loads(told["archfind.build"]) == build
    assert archfind.guess(out).status == "unknown"  # an exported file's own words prove nothing
