"""Values that a library's loader computes of older ones, as archfind/key_rules.py names them."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor


def _with_first_position(token: Tensor, positions: Tensor) -> Tensor:
    """A token [1, 1, d] with the first of [1, n, d] positions, which is its, added."""
    return token + positions[:, :1]


def _frames_added(kernel: Tensor) -> Tensor:
    """A kernel [o, i, frames, h, w] for an image, which is a film whose frames are all the same."""
    return kernel.double().sum(2).to(kernel.dtype)


RECIPES: dict[str, Callable[..., Tensor]] = {
    "inverse_log": lambda tau: torch.log(1 / tau),
    "magnitude": lambda weight: weight.abs() + 1e-5,  # InPlace-ABN's weight
    "with_first_position": _with_first_position,
    "frames_added": _frames_added,
    "zeros": lambda beside: beside.new_zeros(()),  # a bias that the loader makes
}


def older(recipe: str, parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """The value of `shape` that a recipe makes of the file's tensors."""
    made = RECIPES[recipe](*parts)
    return made.expand(shape).clone() if recipe == "zeros" else made.reshape(shape)
