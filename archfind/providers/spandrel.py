"""spandrel and spandrel_extra_arches: image restorers, every network class of every architecture.

Their own detection is never called: the classes are built, like any other library's.
"""

from __future__ import annotations

import contextlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module

import spandrel
import torch
from torch import nn

from archfind.providers.example import Example, images

LIBRARY = "spandrel"

_SIDE = 64  # pixels: the upscalers make four to sixteen times as many


def _packages() -> Iterator[str]:
    yield spandrel.__name__
    with contextlib.suppress(ImportError):  # licences of their own: an extra that few install
        yield import_module("spandrel_extra_arches").__name__


@cache
def _classes() -> Mapping[str, type[nn.Module]]:
    """Network classes by name: those that an architecture's package names beside its loader."""
    found: dict[str, type[nn.Module]] = {}
    for package in _packages():
        folder = import_module(f"{package}.architectures")
        for info in pkgutil.iter_modules(folder.__path__):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = import_module(f"{folder.__name__}.{info.name}")
            for name, value in vars(module).items():
                if inspect.isclass(value) and issubclass(value, nn.Module):
                    found[name] = value
    return found


def names() -> list[str]:
    """Every network class."""
    return sorted(_classes())


def call(name: str) -> tuple[str, list[object], dict[str, object]]:
    """What a person would write to build `name`."""
    cls = _classes()[name]
    package = cls.__module__.partition(".__arch")[0]
    return f"{package}.{name}", [], {}


def create(name: str, **fields: object) -> nn.Module:
    """The module with fresh weights."""
    cls = _classes()[name]
    return cls(**{**_USUAL.get(name, {}), **fields})


# Where a class's own defaults don't build: sizes that its authors published.
_USUAL: Mapping[str, Mapping[str, object]] = {
    "AuraSR": {
        "dim": 64,
        "image_size": 256,
        "input_image_size": 64,
        "style_network": {"dim_in": 128, "dim_out": 512, "depth": 4},
    },
    "MMRealSR": {"num_in_ch": 3, "num_out_ch": 3},
    "SAFMN": {"dim": 36},
    "SAFMNBCIE": {"dim": 36},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    "SRFormer": {"window_size": 16},
    "Swin2SR": {"window_size": 8},
    "SwinIR": {"window_size": 8},
}


def fields(name: str) -> Mapping[str, object]:
    """None: what a class takes is found by moving it, in its family."""
    return {}


def example(name: str, module: nn.Module) -> Example:
    """A small image in 0..1 with as many channels as the first convolution takes."""
    channels = next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)), 3)
    size = (channels, _SIDE, _SIDE)
    return Example((torch.sigmoid(images(size)),), ("input",), size, (), ())
