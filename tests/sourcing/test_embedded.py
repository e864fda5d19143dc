"""The source that old pickles carry of their classes: parsed, followed, and written anew."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from drawn_sources import equal
from torch import nn
from written_sources import STORAGE, check_format, compiled

import archfind
from archfind.frozen import replace
from archfind.sourcing.network import written
from archfind.types import NOTHING, Canonical, Checkpoint, Source, TensorSpec

NETS = '''
import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    """A block with a helper of its own."""

    def __init__(self, a, b):
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(b, eps=1e-3)

    def act(self, x, slope=0.2):
        return F.leaky_relu(x, slope)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.blocks = nn.ModuleList([Block(3, 8), Block(8, 16)])
        self.features = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(inplace=True))
        self.rnn = nn.GRU(16, 10, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(20, 5)
        self.scale, self.deep = 0.5, False

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            x = block(x)
        if self.deep:
            x = torch.load(x)
        y = self.features(x) * self.scale
        y += x
        n, c = y.size(0), y.size(1)
        y = y.view(n, c, -1).permute(0, 2, 1)
        y, _ = self.rnn(y)
        y = F.dropout(y[:, -1], p=0.5, training=self.training)
        return F.log_softmax(self.fc(y), dim=1)
'''


def test_a_forward_is_written_from_the_source_in_the_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = tmp_path / "code", tmp_path / "net.pth"
    folder.mkdir()
    (folder / "nets_of_old.py").write_text(NETS)
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module("nets_of_old").Net().eval()
    torch.save(module, path, _use_new_zipfile_serialization=False)
    del sys.modules["nets_of_old"]
    (folder / "nets_of_old.py").unlink()
    source = archfind.source(path)
    assert source.grade == "likely"
    assert [item.place for item in source.unseen if item.source != "file"] == ["names"]
    other = compiled(source.text)().eval()
    other.load_state_dict(module.state_dict(), strict=True)
    assert equal(module, other, (torch.randn(2, 3, 16, 16),))
    check_format([source.text], tmp_path)


def _of(
    forward: str, more: str = "", base: str = "nn.Module", layers: Mapping[str, str] = NOTHING
) -> Source:
    """The source for a pickled module of one Linear whose class has this forward, and of layers
    that work in place."""
    body = "".join(f"        {line}\n" for line in forward.splitlines())
    text = f"class Net({base}):\n    def forward(self, x):\n{body}{more}"
    index = {"fc.weight": TensorSpec("float32", (3, 3), STORAGE)}
    index["fc.bias"] = TensorSpec("float32", (3,), STORAGE)
    objects = {"": "nets.Net", "fc": "torch.nn.modules.linear.Linear"}
    objects |= {n: f"torch.nn.modules.activation.{kind}" for n, kind in layers.items()}
    told = {f"{name}@inplace": True for name in layers}
    checkpoint = Checkpoint("old.pth", "torch-legacy", index, objects=objects, metadata=told)
    checkpoint = replace(checkpoint, sources={"nets.Net": text})
    return written(Canonical(checkpoint, index, {key: key for key in index}))


def test_only_followed_sources_are_written() -> None:
    assert "torch.relu(self.fc(x))" in _of("return F.relu(self.fc(x))").text


EVIL = (
    "return __import__('os').system('x')",
    "import os\nreturn self.fc(x)",
    "return self.fc(torch.load('x'))",
    "return eval('x')",
    "while True:\n    pass",
    "for i in range(10**9):\n    x = self.fc(x)\nreturn x",
    "return self.forward(x)",
    "return self.fc(x).__class__",
    "return self.fc.__init__.__globals__['os']",
    "return torch.hub.load(x)",
    "return F.relu(x, 'code\"')",
    "return F.dropout(self.fc(x))",
    "exec('1')\nreturn self.fc(x)",
    "x.system = 1\nreturn self.fc(x)",
    "if x.sum() > 0:\n    return x\nreturn self.fc(x)",
)


@pytest.mark.parametrize("forward", EVIL)
def test_what_is_no_known_operation_is_left_to_the_patterns(forward: str) -> None:
    source = _of(forward)
    assert not any(item.place == "names" for item in source.unseen)
    for word in ("os", "load(", "eval(", "exec(", "while", "__class__", "globals", "code", "drop"):
        assert word not in source.text.partition("class Model")[2], source.text


def test_a_class_that_isnt_plain_is_left_to_the_patterns() -> None:
    for source in (
        _of("return self.fc(x)", base="Other"),
        _of("return self.fc(x)", more="    def __call__(self, x):\n        return x\n"),
    ):
        assert not any(item.place == "names" for item in source.unseen)


def test_a_change_in_place_is_kept() -> None:
    source = _of("y = self.fc(x)\nz = F.relu(y, inplace=True)\nreturn y - z")
    module = compiled(source.text)()
    x = torch.randn(4, 3)
    assert torch.equal(module(x), torch.zeros(4, 3))
    assert isinstance(module, nn.Module)


def test_a_layer_that_works_in_place_is_one() -> None:
    source = _of("y = self.fc(x)\nz = self.act(y)\nreturn y - z", layers={"act": "ReLU"})
    module = compiled(source.text)()
    assert torch.equal(module(torch.randn(4, 3)), torch.zeros(4, 3))
