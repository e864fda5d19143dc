"""TorchScript files and torch.export programs: their operations, read as data, are the forward."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
import torch
from drawn_sources import drawn, equal
from torch import nn
from written_sources import check_format, compiled

import archfind

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch, about tracing

KINDS = "mlp_norm unet resnet vae generator words_rnn vit language two_inputs inception".split()


def _write(module: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    if path.suffix == ".pt2":
        torch.export.save(torch.export.export(module, inputs), path)
    else:
        torch.jit.save(torch.jit.trace(module, inputs, check_trace=False), path)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_programs_forward_is_certain_and_equal(suffix: str, tmp_path: Path) -> None:
    texts: list[str] = []
    for number, kind in enumerate(KINDS):
        module, inputs, _ = drawn(kind, 8, number)
        path = tmp_path / f"{kind}{suffix}"
        _write(module, inputs, path)
        source = archfind.source(path)
        assert source.grade == "certain", kind
        other = compiled(source.text)().eval()
        other.load_state_dict(module.state_dict(), strict=True)
        assert equal(module, other, inputs), kind
        texts.append(source.text)
    check_format(texts, tmp_path)


class Odd(nn.Module):
    """What plain tables of layers get wrong: a layer that is called twice, a function in place, a
    norm in training mode, a skip around a change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode="zeros")
        self.act = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(4)
        self.soft = nn.Softmax(1)
        self.scale = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(self.conv(x))
        z = self.act(y)
        batch = nn.functional.batch_norm(z, None, None, training=True, eps=0.1)
        wide = self.soft(y.double()).float() + nn.functional.softmax(y, 1, dtype=torch.float64)
        return self.norm(y + z * self.scale) + batch[:, 1:2] - x[..., ::1] + wide.float()


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_odd_calls_are_as_the_program_has_them(suffix: str, tmp_path: Path) -> None:
    module, x = Odd().eval(), torch.randn(2, 4, 6, 6)
    path = tmp_path / f"odd{suffix}"
    _write(module, (x,), path)
    source = archfind.source(path)
    other = compiled(source.text)().eval()
    other.load_state_dict(module.state_dict(), strict=True)
    assert source.grade == "certain", source.text
    assert equal(module, other, (x,))
    assert equal(module, archfind.load(path), (x,))


class States(nn.Module):
    """What people read of recurrent layers: their last states."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, 2, batch_first=True)
        self.gru = nn.GRU(6, 4, batch_first=True)
        self.head = nn.Linear(6 + 6 + 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, (h, c) = self.lstm(x)
        last = self.gru(y)[1][0]
        return self.head(torch.cat([h[-1], c[0], last], 1))


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_the_last_states_of_recurrent_layers_are_read(suffix: str, tmp_path: Path) -> None:
    module, x = States().eval(), torch.randn(2, 7, 5)
    _write(module, (x,), tmp_path / f"states{suffix}")
    source = archfind.source(tmp_path / f"states{suffix}")
    assert source.grade == "certain"
    other = compiled(source.text)().eval()
    other.load_state_dict(module.state_dict(), strict=True)
    assert equal(module, other, (x,))


def test_a_certain_program_takes_no_setting(tmp_path: Path) -> None:
    module, inputs, _ = drawn("mlp_norm", 8, 0)
    _write(module, inputs, tmp_path / "net.pt")
    with pytest.raises(archfind.BuildError, match="nothing is assumed at activation"):
        archfind.source(tmp_path / "net.pt", settings={"activation": "gelu"})


EVIL = (
    "return __import__('os').system('x')",
    "return torch.ops.load_library('x')",
    "return torch.hub.load('x', 'y')",
    'return torch.pad(input, [1], "\');import os")',
    "return torch.load('x')",
    "while True:\n      pass",
    "return [input for _ in range(10**9)]",
    "return (self).forward(input, )",
    "return " + "(" * 150 + "x.y" + ")" * 150,
)


@pytest.mark.parametrize("body", EVIL)
def test_code_that_is_no_known_operation_is_left_aside(body: str, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    path, evil = tmp_path / "net.pt", tmp_path / "evil.pt"
    _write(module, (torch.randn(1, 3),), path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(evil, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if "container" in name and name.endswith(".py"):
                data = data[: data.index(b"    _2")] + f"    {body}\n".encode()
            new.writestr(name, data)
    source = archfind.source(evil)
    assert source.grade != "certain"
    assert not re.search(r"\bos\b|hub|load\(|load_library|while", source.text)
