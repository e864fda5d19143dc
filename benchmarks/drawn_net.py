"""What drawn networks are made of: modules by name with a function that calls them, activations,
and ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Drawn = tuple[nn.Module, tuple[Tensor, ...], dict[str, object]]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
CONVS, NORMS = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Net(nn.Module):
    """Modules by name, and a function that calls them."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_parameter(name, nn.Parameter(part))
        self.run = run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def drawn_activation(draw: random.Random) -> tuple[str, nn.Module]:
    word = draw.choices(tuple(ACTIVATIONS), (80, 6, 5, 3, 3, 3))[0]
    return word, ACTIVATIONS[word]()


def drawn_end(draw: random.Random) -> tuple[str, Callable[[Tensor], Tensor]]:
    if draw.random() < 0.88:
        return "none", lambda x: x
    return draw.choice((("sigmoid", torch.sigmoid), ("tanh", torch.tanh)))
