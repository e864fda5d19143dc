"""Values that a library's loader computes of older ones, as state_dicts/key_rules.py names them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _inverse_log(tau: Tensor) -> Tensor:
    return torch.log(1 / tau)


def _magnitude(weight: Tensor) -> Tensor:
    """The weight of an InPlace-ABN as a BatchNorm's."""
    return weight.abs() + 1e-5


def _with_first_position(token: Tensor, positions: Tensor) -> Tensor:
    """A token [1, 1, d] with the first of [1, n, d] positions, which is its, added."""
    return token + positions[:, :1]


def _frames_added(kernel: Tensor) -> Tensor:
    """A kernel [o, i, frames, h, w] for an image, which is a film whose frames are all the same."""
    return kernel.double().sum(2).to(kernel.dtype)


def _zeros(beside: Tensor) -> Tensor:
    """A bias that the loader makes, of the kind of numbers of what stands beside it."""
    return beside.new_zeros(())


def _swap_halves(rows: Tensor) -> Tensor:
    """Rows for shift, then scale, the other way round."""
    first, second = rows.chunk(2)
    return torch.cat([second, first])


RECIPES: dict[str, Callable[..., Tensor]] = {
    "inverse_log": _inverse_log,
    "magnitude": _magnitude,
    "with_first_position": _with_first_position,
    "frames_added": _frames_added,
    "zeros": _zeros,
    "swap_halves": _swap_halves,
}


def value_by_recipe(recipe: str, parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """The value of `shape` that a recipe makes of the file's tensors."""
    made = RECIPES[recipe](*parts)
    return made.reshape(shape) if made.numel() > 1 else made.expand(shape).clone()
