"""torchvision: every name of `torchvision.models.list_models()`, detection to optical flow."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import nn
from torchvision import models

from archfind.providers.example import Example, images

LIBRARY = "torchvision"
HEAD = "num_classes"

# Builders load backbone weights from the network unless told not to, and `quantize` swaps every
# layer for an int8 one: that is another network, not a variant of this one.
_NOT_FIELDS = {"weights", "weights_backbone", "progress", "quantize", "init_weights"}


def names() -> list[str]:
    """Every registered builder."""
    return sorted(models.list_models())


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(models.get_model_builder(name)).parameters)


def call(name: str) -> tuple[str, list[object], dict[str, object]]:
    """What a person would write to build `name` without a download."""
    fixed: dict[str, object] = {"weights": None}
    if "weights_backbone" in _parameters(name):
        fixed["weights_backbone"] = None
    return "torchvision.models.get_model", [name], fixed


def create(name: str, **fields: object) -> nn.Module:
    """The module with fresh weights; nothing is downloaded."""
    _, _, fixed = call(name)
    return models.get_model(name, **fixed, **fields)


def label(name: str, module: nn.Module) -> None:
    """Nothing: a module has all of it from its class."""


def fields(name: str) -> Mapping[str, object]:
    """num_classes, and the switches of the builder and of the class behind it."""
    found: dict[str, object] = {}
    module = create_on_meta(name)
    candidates = _parameters(name)
    # The builder passes what it doesn't name to the class, and a class to its bases.
    for cls in type(module).__mro__:
        if not any(p.kind is p.VAR_KEYWORD for p in candidates.values()):
            break
        kind = inspect.Parameter.VAR_KEYWORD
        candidates = {k: p for k, p in candidates.items() if p.kind is not kind}
        candidates = {**inspect.signature(cls.__init__).parameters, **candidates}
    for field, parameter in candidates.items():
        switch = isinstance(parameter.default, bool) or "bool" in str(parameter.annotation)
        if field == "num_classes":
            found[field] = _default_classes(module, parameter.default)
        elif switch and field not in _NOT_FIELDS:
            found[field] = bool(parameter.default)
    return found


def create_on_meta(name: str, **fields: object) -> nn.Module:
    """The module without storage where its constructor allows; regnet's copies out of its own
    weights, which meta tensors don't have, so it is built for real."""
    try:
        with torch.device("meta"):
            return create(name, **fields)
    except (RuntimeError, NotImplementedError):
        with torch.device("cpu"):
            return create(name, **fields)


def _default_classes(module: nn.Module, default: object) -> int:
    if isinstance(default, int):
        return default
    # Detection and segmentation builders take None for COCO's 91 and VOC's 21.
    return 21 if "segmentation" in type(module).__module__ else 91


_SIDES = {2: "height", 3: "width"}


def example(name: str, module: nn.Module) -> Example:
    """Inputs as the builder's own weights were evaluated with."""
    builder = models.get_model_builder(name)
    weights = models.get_model_weights(builder)
    preset = next(iter(weights)).transforms() if len(weights) else None
    area = builder.__module__.removeprefix("torchvision.models.").split(".")[0]
    mean = tuple(getattr(preset, "mean", ()))
    std = tuple(getattr(preset, "std", ()))
    if area == "detection":
        # These normalise inside and take a list of single images in 0..1.
        size = (3, 320, 320)
        image = images(size, batch=1).sigmoid()[0]
        return Example(([image],), ("image",), size, (), (), dynamic_batch=False)
    if area == "optical_flow":
        size = (3, 128, 160)
        pair = (images(size, seed=1).tanh(), images(size, seed=2).tanh())
        half = (0.5,) * 3
        return Example(pair, ("image1", "image2"), size, half, half, axes=(_SIDES, _SIDES))
    if area == "video":
        crop = getattr(preset, "crop_size", (112, 112))
        frames = 16
        size = (3, frames, int(crop[0]), int(crop[1]))
        axes = ({3: "height", 4: "width"},)
        return Example((images(size),), ("video",), size, mean, std, axes=axes)
    crop = getattr(preset, "crop_size", None) or getattr(preset, "resize_size", None) or [224]
    side = int(crop[0])
    if area == "segmentation":
        side = 256  # trained at 520; any size fits, and this one is checked in seconds
    size = (3, side, side)
    return Example((images(size),), ("input",), size, mean, std, axes=(_SIDES,))
