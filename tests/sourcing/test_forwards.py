"""What a written source computes: what the network computes, once what is assumed is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from drawn_programs import KINDS
from drawn_sources import equal, outcome
from torch import nn
from written_sources import compiled, written_for

import archfind


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_network_is_equal_once_told(kind: str) -> None:
    grade, _, told, why = outcome(kind, 5, 0)
    assert grade != "certain"  # a state dict alone never says all
    assert grade == "partial" or told, why


WHOLE: dict[str, tuple[nn.Module, str]] = {
    "plain": (nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU(0.3), nn.Linear(5, 2)), "certain"),
    "nested": (
        nn.Sequential(nn.Sequential(nn.Linear(6, 4), nn.Tanh()), nn.Linear(4, 2)),
        "certain",
    ),
    "another end": (nn.Sequential(nn.Linear(6, 4), nn.Softmax(dim=1)), "likely"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_pickle_of_torchs_own_is_what_it_says(name: str, tmp_path: Path) -> None:
    module, grade = WHOLE[name]
    torch.save(module, tmp_path / "whole.pth")
    source = archfind.source(tmp_path / "whole.pth")
    assert source.grade == grade
    other = compiled(source.text)()
    other.load_state_dict(module.state_dict(), strict=True)
    assert equal(module.eval(), other.eval(), (torch.randn(3, 6),))


def _doubled(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
    return output * 2


def test_a_whole_pickle_with_a_hook_is_never_certain(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    module[0].register_forward_hook(_doubled)
    torch.save(module, tmp_path / "hooked.pth")
    assert archfind.source(tmp_path / "hooked.pth").grade != "certain"


def test_a_setting_changes_the_source_and_another_place_is_refused() -> None:
    state = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).state_dict()
    text = written_for(state, {"0.stride": 2, "activation": "gelu"}).text
    assert "stride=2" in text and "nn.GELU" in text
    with pytest.raises(archfind.BuildError, match=r"nothing is assumed at 1\.stride"):
        written_for(state, {"1.stride": 2})
    with pytest.raises(archfind.BuildError, match="wants"):
        written_for(state, {"activation": "__import__('os')"})
