"""What a user says that a program, or a class of trusted code, runs on -> tensors."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from archfind.errors import ExportError
from archfind.providers.example import Example
from archfind.writing import target

_BYTES = 1 << 30  # of all inputs, without being asked for more


def example_from_shapes(inputs: Sequence[str], allow_expansion: bool) -> Example:
    """Inputs of these shapes, batch first: "1x3x224x224", or "1x128:int64" for numbers from 0 to 9.
    ExportError where they can't be read, or take more than a gigabyte without `allow_expansion`."""
    shapes = [target.input_shape(text) for text in inputs]
    asked = sum(prod(sides) * getattr(torch, dtype).itemsize for sides, dtype in shapes)
    if asked > _BYTES and not allow_expansion:
        text = f"its inputs would take {asked / 1e9:,.1f} GB; --allow-expansion lets them"
        raise ExportError(text)
    return called_with(tuple(_input(*shape, seed) for seed, shape in enumerate(shapes)))


def called_with(args: tuple[Tensor, ...]) -> Example:
    """Inputs of which nothing else is known."""
    names = tuple(f"input_{n}" for n in range(len(args))) if len(args) > 1 else ("input",)
    return Example(args, names, tuple(next(iter(args)).shape)[1:], (), ())


def _input(shape: Sequence[int], name: str, seed: int) -> Tensor:
    dtype = getattr(torch, name)
    random = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=random).to(dtype)
    return torch.randint(10, shape, generator=random, dtype=dtype)
