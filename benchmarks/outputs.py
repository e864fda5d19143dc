"""Whether a loaded network computes what the original does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archfind.learning.twins import tensors_of_output
from archfind.providers.example import images

CLOSE_TO = 1e-5  # of the largest output
SIDE = 128  # of the image, where a network doesn't insist on its own


def round_through(module: nn.Module, dtype: torch.dtype) -> None:
    """Give the module the values that its file will hold."""
    for tensor in module.state_dict().values():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))


def run_original(
    args: tuple[object, ...], module: nn.Module
) -> tuple[tuple[object, ...], list[Tensor] | None, str]:
    """Inputs, what the module makes of them, and why not where it makes nothing comparable. The
    inputs are small ones where the module takes them."""
    why = ""
    for smaller in (True, False):
        inputs = tuple(shrink(arg) for arg in args) if smaller else args
        try:
            found = run(module, inputs)
        except Exception as error:  # networks refuse sizes in their own ways
            why = f"outputs not compared, the original fails: {type(error).__name__}: {error}"
            continue
        if not sum(tensor.numel() for tensor in found):
            why = "outputs not compared, the original's are empty"
        elif not all(bool(tensor.isfinite().all()) for tensor in found):
            why = "outputs not compared, the original's aren't finite"
        elif not any(bool(tensor.any()) for tensor in found):
            why = "outputs not compared, the original's are all zero"
        else:
            return inputs, found, ""
    return args, None, why


def shrink(arg: object) -> object:
    """One small image of a batch; anything else as it is."""
    if isinstance(arg, Tensor) and arg.dim() == 4 and min(arg.shape[2:]) > SIDE:
        return images((arg.shape[1], SIDE, SIDE), batch=1)
    return arg[:1] if isinstance(arg, Tensor) and arg.dim() > 3 else arg


def run(module: nn.Module, inputs: tuple[object, ...]) -> list[Tensor]:
    """The module's float outputs."""
    for part in module.modules():
        # Random weights score no box above a detector's threshold.
        if isinstance(getattr(part, "score_thresh", None), float):
            vars(part)["score_thresh"] = -1.0
    torch.manual_seed(0)
    # Some networks scale the image that they are given in its place.
    copies = tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in inputs)
    with torch.inference_mode():
        return list(tensors_of_output(module(*copies)))


def difference(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest difference as a share of the largest output; infinite where shapes differ."""
    if [t.shape for t in one] != [t.shape for t in other]:
        return float("inf")
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a.numel()]
    scale = max(a.abs().max().item() for a, _ in pairs)
    worst = max((a - b).abs().max().item() for a, b in pairs)
    return worst / scale if worst == worst else float("inf")
