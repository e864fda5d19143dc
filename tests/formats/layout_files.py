"""What the tests of layouts share: a small network, and a file's values compared with it."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import nn

from archfind import formats
from archfind.values.reader import TensorReader

State = dict[str, torch.Tensor]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    made[1].running_mean.fill_(0.5)
    return made


def values(path: Path, prefix: str = "") -> State:
    found = formats.open(path)
    reader = TensorReader()
    return {
        key.removeprefix(prefix): reader.read(spec)
        for key, spec in found.index.items()
        if key.startswith(prefix)
    }


def same(found: State, expected: State) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype and torch.equal(found[key], value), key


def saved(value: object, **how: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)  # pyright: ignore
    return buffer.getvalue()
