"""What tests of written sources share: a state dict's source, compiled, and its form."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from archfind.sourcing.network import written
from archfind.types import NOTHING, Canonical, Checkpoint, Source, Storage, TensorSpec

STORAGE = Storage("", "", 0, 0)


def written_for(
    state: Mapping[str, torch.Tensor], settings: Mapping[str, object] = NOTHING
) -> Source:
    """The source for a state dict that no file holds."""
    index = {
        key: TensorSpec(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), STORAGE)
        for key, tensor in state.items()
    }
    checkpoint = Checkpoint("drawn.pth", "pth", index)
    return written(Canonical(checkpoint, index, {key: key for key in index}), settings)


def compiled(text: str) -> type[nn.Module]:
    """The `Model` of a written source."""
    held: dict[str, Any] = {}
    exec(compile(text, "model.py", "exec"), held)
    return held["Model"]


def check_format(texts: Iterable[str], folder: Path) -> None:
    """Written sources pass ruff as they are, its linter and its formatter."""
    for number, text in enumerate(texts):
        (folder / f"model_{number}.py").write_text(text)
    for command in (["check", "--select", "E4,E7,E9,F,I"], ["format", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", str(folder)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
