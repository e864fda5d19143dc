"""Small inputs for a network of diffusers, by what its `forward` takes and its config says."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from archfind.errors import BuildError
from archfind.providers.example import Example, images

_BATCH = 2
_TOKENS = 16
_FRAMES = 5  # one, and four that are one when they are compressed in time
_SIDES = (32, 64, 16, 128)
# Fields of a config that say how wide a text's vectors are, the most telling first.
_TEXT = (
    "joint_attention_dim", "caption_channels", "text_embed_dim", "text_dim", "cross_attention_dim",
    "encoder_hidden_states_channels", "cap_feat_dim", "caption_dim", "in_context_dim",
)  # fmt: skip
_MAIN = ("sample", "hidden_states", "x", "latents")  # what a network works on, as forwards name it


def example(name: str, module: nn.Module) -> Example:
    """The fewest inputs that the network runs on: an image, a film or rows of tokens, of the size
    and rank that it takes, with a time step and a text's vectors where its `forward` asks for them.
    BuildError where it runs on none."""
    why = ""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    for main in _mains(module):
        beside = _beside(module, next(iter(main.values())))
        given = {n: _as(value, dtype) for n, value in {**main, **beside}.items()}
        parameters = inspect.signature(module.forward).parameters
        try:
            args = _positional(parameters, given)
            with torch.no_grad():
                output = module(*args)
        except Exception as error:  # a network refuses inputs in its own ways
            why = why or f"{type(error).__name__}: {error}".partition("\n")[0][:120]
            continue
        if output is not None:
            names = tuple(n for n in parameters if n in given)
            size = tuple(next(iter(main.values())).shape)[1:]
            return Example(args, names, size, (), ())
    raise BuildError(f"{name}: no example input is known for it ({why or 'none of its names is'})")


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A value in the network's own kind of float; whole numbers as they are."""
    return value.to(dtype) if value.is_floating_point() else value


def _positional(parameters: Any, given: dict[str, Tensor]) -> tuple[object, ...]:
    """The arguments by place, up to the last that is given."""
    last = max(n for n, name in enumerate(parameters) if name in given)
    return tuple(
        given.get(name, parameter.default)
        for name, parameter in itertools.islice(parameters.items(), last + 1)
    )


def _config(module: nn.Module, name: str, usual: Any = None) -> Any:
    value = getattr(getattr(module, "config", None), name, usual)
    return usual if value is None else value


def _mains(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The main input in the ranks and sizes that a network may take, the likeliest first."""
    parameters = inspect.signature(module.forward).parameters
    name = next((n for n in parameters if n in _MAIN), next(iter(parameters), ""))
    channels: int = _config(module, "in_channels", 3)
    first = next(
        (m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None
    )
    if first is None:
        yield {name: images((1, _TOKENS, channels), batch=_BATCH)[:, 0]}
    own: int = channels if first is None else first.in_channels
    flat, film, sound = nn.Conv2d, nn.Conv3d, nn.Conv1d
    ranks = {flat: (4, 5), film: (5, 4), sound: (3,)}.get(type(first), (3, 4, 5))  # pyright: ignore
    for rank, side, count in itertools.product(ranks, _SIDES, dict.fromkeys((channels, own))):
        shape = {3: (count, 64 * side), 4: (count, side, side), 5: (count, _FRAMES, side, side)}
        size = shape[rank]
        value = images(size, batch=_BATCH) if rank > 3 else images((1, *size), batch=_BATCH)[:, 0]
        yield {name: value}


def _beside(module: nn.Module, main: Tensor) -> dict[str, Tensor]:
    """What else a `forward` must have."""
    parameters = inspect.signature(module.forward).parameters
    random = torch.Generator().manual_seed(1)
    found: dict[str, Tensor] = {}
    width = next((w for n in _TEXT if type(w := _config(module, n)) is int), 0)
    if "timestep" in parameters:
        is_flow = "img_ids" in parameters or "txt_ids" in parameters
        found["timestep"] = torch.full((_BATCH,), 0.5) if is_flow else torch.tensor([7] * _BATCH)
    if "encoder_hidden_states" in parameters and width:
        found["encoder_hidden_states"] = torch.randn(_BATCH, _TOKENS, width, generator=random)
    if "pooled_projections" in parameters:
        pooled: int = _config(module, "pooled_projection_dim", width)
        found["pooled_projections"] = torch.randn(_BATCH, pooled, generator=random)
    if "guidance" in parameters and _config(module, "guidance_embeds"):
        found["guidance"] = torch.full((_BATCH,), 3.5)
    axes = len(_config(module, "axes_dims_rope", ()) or (0, 0, 0))
    for ids, count in (("img_ids", main.shape[1]), ("txt_ids", _TOKENS)):
        if ids in parameters:
            found[ids] = torch.zeros(count, axes)
    if "encoder_attention_mask" in parameters and _needs(parameters, "encoder_attention_mask"):
        found["encoder_attention_mask"] = torch.ones(_BATCH, _TOKENS)
    if "controlnet_cond" in parameters:
        side = 8 * main.shape[-1]
        channels: int = _config(module, "conditioning_channels", 3)
        found["controlnet_cond"] = images((channels, side, side), batch=_BATCH)
    classes = _config(module, "num_class_embeds")
    if "class_labels" in parameters and (classes or _needs(parameters, "class_labels")):
        found["class_labels"] = torch.tensor([1] * _BATCH)
    return found


def _needs(parameters: Any, name: str) -> bool:
    return parameters[name].default is inspect.Parameter.empty
