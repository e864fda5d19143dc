"""A library's network whose layers are given a file's sizes, and what the file lists of them."""

from __future__ import annotations

# pyright: reportPrivateUsage=false
# Layers are changed in place, which torch has no other names for.
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from archfind.errors import BuildError

Listing = Mapping[str, tuple[str, Mapping[str, object]]]

# What a layer computes beside its tensors, by the attributes that pickled layers have.
_TOLD = frozenset(
    "stride padding dilation groups padding_mode eps negative_slope p kernel_size ceil_mode "
    "count_include_pad output_size start_dim end_dim".split()
)


def resize(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], listing: Listing) -> None:
    """Give each layer the sizes that its tensors have in `shapes`, and the attributes that the file
    lists. BuildError where a layer can't have them."""
    for path, layer in module.named_modules():
        listed = _listed(layer, path, listing)
        held = {**layer._parameters, **layer._buffers}
        other = {
            name: shapes[key]
            for name, tensor in held.items()
            if tensor is not None
            and (key := f"{path}.{name}" if path else name) in shapes
            and tuple(tensor.shape) != shapes[key]
        }
        if other:
            _attributes(layer, path, other, listed)
            for name, shape in other.items():
                _give(layer, name, shape)
        for name, value in listed.items():
            if name in _TOLD and isinstance(getattr(layer, name, None), type(value)):
                setattr(layer, name, value)


def flows(module: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Why the data doesn't flow through the module; "" where it does."""
    try:
        with torch.inference_mode():
            module(*inputs)
    except Exception as error:  # shapes that don't go together fail in any layer
        return str(error).splitlines()[0]
    return ""


def _listed(layer: nn.Module, path: str, listing: Listing) -> dict[str, object]:
    """A layer's attributes in the file, lists as the tuples that torch has."""
    cls, attributes = listing.get(path, ("", {}))
    if cls.rpartition(".")[2] != type(layer).__name__:
        return {}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}


def _attributes(
    layer: nn.Module, path: str, shapes: Mapping[str, tuple[int, ...]], listed: Mapping[str, object]
) -> None:
    """Set what a layer keeps of its sizes beside its tensors."""
    shape = shapes.get("weight")
    kept = vars(layer)
    if isinstance(layer, nn.modules.conv._ConvNd) and shape is not None:
        own, theirs = (1, 0) if layer.transposed else (0, 1)
        groups = listed.get("groups") or _groups(layer, shape)
        if not isinstance(groups, int) or groups < 1 or shape[0] % groups:
            raise BuildError(f"{path} can't have the file's sizes {list(shape)}")
        kept["groups"] = groups
        kept["out_channels"], kept["in_channels"] = (
            (shape[own] * groups, shape[theirs])
            if layer.transposed
            else (shape[own], shape[theirs] * groups)
        )
    elif isinstance(layer, nn.Linear) and shape is not None:
        kept["out_features"], kept["in_features"] = shape
    elif isinstance(layer, nn.LayerNorm) and shape is not None:
        kept["normalized_shape"] = tuple(shape)
    elif isinstance(layer, nn.GroupNorm) and shape is not None:
        if shape[0] % layer.num_groups:
            raise BuildError(f"{path} can't have {shape[0]} channels in {layer.num_groups} groups")
        kept["num_channels"] = shape[0]
    elif hasattr(layer, "num_features") and "running_mean" in layer._buffers:
        kept["num_features"] = next(iter(shapes.values()))[0]
    elif shape is not None:
        raise BuildError(f"{path} is a {type(layer).__name__}, which isn't given other sizes")


def _groups(layer: Any, shape: tuple[int, ...]) -> int:
    """As many groups as channels where the layer is a depthwise one, else as many as it has."""
    return shape[0] if layer.groups == layer.in_channels == layer.out_channels else layer.groups


def _give(layer: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    old = layer._parameters.get(name)
    if old is not None:
        layer._parameters[name] = nn.Parameter(torch.empty(shape, dtype=old.dtype))
    elif (buffer := layer._buffers.get(name)) is not None:
        layer._buffers[name] = torch.empty(shape, dtype=buffer.dtype)
