"""A class to probe, the arguments that it is called with, and tensors without a file."""

from __future__ import annotations

import inspect

import torch
from torch import nn

from archfind.probing.config import Config
from archfind.types import Storage, TensorSpec

NOWHERE = Storage("", "", -1, 0)


class Tower(nn.Module):
    """Widths, counts, a switch, a choice, a pair that must divide, and a product."""

    def __init__(
        self,
        width: int = 48,
        heads: int = 6,
        depths: tuple[int, ...] = (2, 3),
        ratio: float = 4.0,
        norm: str = "none",
        bias: bool = True,
        colors: int = 3,
        scale: int = 4,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError("width must be a multiple of heads")
        if norm not in ("none", "batch", "layer"):
            raise ValueError(norm)
        self.stem = nn.Conv2d(colors, width, 3, bias=bias)
        self.stages = nn.ModuleList()
        for number, depth in enumerate(depths):
            wide = width * 2**number
            hidden = int(wide * ratio)
            blocks = [
                nn.ModuleDict({"up": nn.Linear(wide, hidden), "down": nn.Linear(hidden, wide)})
                for _ in range(depth)
            ]
            if norm == "batch":
                blocks.append(nn.ModuleDict({"norm": nn.BatchNorm1d(wide)}))
            elif norm == "layer":
                blocks.append(nn.ModuleDict({"norm": nn.LayerNorm(wide)}))
            self.stages.append(nn.ModuleList(blocks))
        self.table = nn.Parameter(torch.empty(heads, width // heads))
        self.upsample = nn.Conv2d(width, colors * scale**2, 3)


def base_of(cls: type[nn.Module]) -> Config:
    """The defaults of a class's arguments."""
    parameters = inspect.signature(cls.__init__).parameters
    return {name: p.default for name, p in parameters.items() if name != "self"}


def index_of(shapes: dict[str, tuple[tuple[int, ...], str]]) -> dict[str, TensorSpec]:
    """A state dict's index, of shapes as a program gives them."""
    kinds = {"float": "float32"}
    return {k: TensorSpec(kinds.get(d, d), s, NOWHERE) for k, (s, d) in shapes.items()}
