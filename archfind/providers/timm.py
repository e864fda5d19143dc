"""timm: every name of `timm.list_models()`."""

from __future__ import annotations

from collections.abc import Mapping

import timm
from torch import nn

from archfind.providers.example import Example, images

LIBRARY = "timm"
HEAD = "num_classes"


def names() -> list[str]:
    """Every registered architecture; pretrained tags share an architecture, so they don't count."""
    return sorted(timm.list_models())


def call(name: str) -> tuple[str, list[object], dict[str, object]]:
    """What a person would write to build `name`."""
    return "timm.create_model", [name], {}


def create(name: str, **fields: object) -> nn.Module:
    """The module with fresh weights; nothing is downloaded."""
    return timm.create_model(name, pretrained=False, **fields)  # pyright: ignore[reportArgumentType]


def label(name: str, module: nn.Module) -> None:
    """What the module is fed, where timm's own functions look for it."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is not None:
        for attribute in ("pretrained_cfg", "default_cfg"):
            setattr(module, attribute, config.to_dict())


def fields(name: str) -> Mapping[str, object]:
    """timm takes num_classes everywhere; 0 removes the last layer, and is the default for some."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {"num_classes": 1000 if config is None else int(config.num_classes)}


def example(name: str, module: nn.Module) -> Example:
    """Two images of the size in timm's own pretrained config, test size left aside."""
    config: Mapping[str, object] = getattr(module, "pretrained_cfg", None) or {}
    size = tuple(config.get("input_size") or (3, 224, 224))  # pyright: ignore[reportArgumentType]
    return Example(
        args=(images(size),),
        names=("input",),
        size=size,
        mean=tuple(config.get("mean") or ()),  # pyright: ignore[reportArgumentType]
        std=tuple(config.get("std") or ()),  # pyright: ignore[reportArgumentType]
        axes=({2: "height", 3: "width"},),
    )
