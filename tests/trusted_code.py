"""Classes of somebody's code, as source, and networks of them: for the tests of --code --trust."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

BLOCKS = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Conv2d(width, 2 * width, 1)
        self.norm = nn.BatchNorm2d(2 * width)
        self.down = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x):
        return self.down(self.norm(self.up(x)).relu())
"""
NETS = """
import os
import sys
from torch import nn
from blocks import Block

open("ran", "w").close()
os.environ["ARCHFIND_TEST_RAN"] = "1"  # what a test sees where this file was imported

class Net(nn.Module):
    def __init__(self, in_ch, depth=3, width=16, classes=10, dropout=0.1, act=0):
        super().__init__()
        self.stem = nn.Conv2d(in_ch, width, 3, padding=1)
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.act = nn.GELU() if act else nn.ReLU()
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.act(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.drop(x.mean((2, 3))))

class Plain(nn.Module):
    def __init__(self, in_ch, width, depth):
        super().__init__()
        self.first = nn.Conv2d(in_ch, width, 3)
        self.rest = nn.Sequential(*[Block(width) for _ in range(depth)])

    def forward(self, x):
        return self.rest(self.first(x))

class Wanting(nn.Module):
    def __init__(self, width, encoder):
        super().__init__()
        self.encoder = encoder
        self.neck = nn.Linear(encoder.width, width)
        self.tail = nn.Linear(width, 3)
"""


def written(folder: Path, nets: str = NETS) -> Path:
    """The code in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blocks.py").write_text(BLOCKS)
    (folder / "nets.py").write_text(nets)
    return folder


def network(name: str, *args: object, **arguments: object) -> nn.Module:
    """A network of the source above, with random weights, in eval mode."""
    names: dict[str, object] = {}
    exec(BLOCKS, names)
    source = NETS.replace("from blocks import Block", "").partition("class Net")
    exec(source[1] + source[2], names)
    cls = names[name]
    assert isinstance(cls, type)
    torch.manual_seed(0)
    module = cls(*args, **arguments)
    assert isinstance(module, nn.Module)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return module.eval()


def saved(path: Path, module: nn.Module) -> Path:
    torch.save(module.state_dict(), path)
    return path
