"""A known pair of inputs and outputs decides what no tensor shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_sources import equal
from torch import nn
from written_sources import compiled

import archfind
from archfind.cli import main


class Net(nn.Module):
    """An MLP with another activation and end than most."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(9, 8), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.fc2(nn.functional.silu(self.fc1(x))))
        return torch.sigmoid(self.out(x))


def _files(folder: Path) -> tuple[nn.Module, str, str, str]:
    torch.manual_seed(3)
    module, x = Net().eval(), torch.randn(5, 9)
    torch.save(module.state_dict(), folder / "net.pth")
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "y.npy", module(x).detach().numpy())
    return module, *(str(folder / name) for name in ("net.pth", "x.npy", "y.npy"))  # pyright: ignore


def test_a_pair_makes_it_certain_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, path, x, y = _files(tmp_path)
    out = tmp_path / "model.py"
    assert main(["source", path, "-o", str(out), "--input", x, "--output", y]) == 0
    said = capsys.readouterr().out
    assert "model.py: certain: an MLP 9 -> 8 -> 7 -> 3\n" in said
    assert "  proven    x.npy and y.npy agree\n" in said
    other = compiled(out.read_text())().eval()
    other.load_state_dict(module.state_dict(), strict=True)
    assert equal(module, other, (torch.randn(4, 9),))


def test_outputs_that_nothing_gives_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archfind.building.proven._TRIES", 50)
    _, path, x, y = _files(tmp_path)
    np.save(y, np.ones((5, 3), "float32"))
    with pytest.raises(archfind.BuildError, match=r"none of \d+ modules .* the nearest differs"):
        archfind.source(path, pair=(x, y))
    np.save(y, np.ones((5, 4), "float32"))
    with pytest.raises(archfind.BuildError, match="none of them gives that shape"):
        archfind.source(path, pair=(x, y))


def test_what_a_pair_leaves_open_stays_assumed(tmp_path: Path) -> None:
    """Inputs for which everything is positive don't tell a ReLU from a leaky one."""
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for tensor in module.parameters():
        nn.init.uniform_(tensor, 0.1, 1.0)
    x = torch.rand(4, 3)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "y.npy", module(x).detach().numpy())
    source = archfind.source(tmp_path / "net.pth", pair=(tmp_path / "x.npy", tmp_path / "y.npy"))
    assert source.grade == "likely"
    assert any("agree with others, too" in item.reason for item in source.unseen)


@pytest.mark.filterwarnings("ignore")  # of torch: its plainer exporter is old
def test_an_onnx_of_the_same_network_decides(tmp_path: Path) -> None:
    module, path, _, _ = _files(tmp_path)
    torch.onnx.export(module, (torch.randn(2, 9),), str(tmp_path / "same.onnx"), dynamo=False)
    source = archfind.source(path, onnx=tmp_path / "same.onnx")
    assert source.grade == "certain"
    assert equal(module, compiled_with(source.text, module), (torch.randn(4, 9),))


def compiled_with(text: str, module: nn.Module) -> nn.Module:
    other = compiled(text)().eval()
    other.load_state_dict(module.state_dict(), strict=True)
    return other
