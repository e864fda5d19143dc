"""spandrel and spandrel_extra_arches: image restorers, every network class of every architecture.

The classes are built like any other library's. The library's own loaders are asked only where a
search goes on from a class that fits nothing: which arguments they read from such tensors.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from archfind.classes.usual_arguments import usual
from archfind.providers.example import Example, images
from archfind.providers.unopened import unopened

LIBRARY = "spandrel"
HEAD = ""

unopened(LIBRARY)  # it would import every architecture, and torchvision, for one of them

_SIDE = 64  # pixels: the upscalers make four to sixteen times as many


def _architectures() -> Iterator[Path]:
    """The __init__.py of every architecture. The second package has licences of its own: an extra
    that few install."""
    for package in (LIBRARY, "spandrel_extra_arches"):
        if find_spec(package) is not None:
            spec = find_spec(f"{package}.architectures")
            assert spec is not None and spec.origin is not None
            yield from sorted(Path(spec.origin).parent.glob("*/__init__.py"))


def _package(file: Path) -> dict[str, type]:
    """The classes that an architecture's package names: networks, and the loader of them."""
    folder = file.parent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = import_module(f"{folder.parent.parent.name}.{folder.parent.name}.{folder.name}")
    return {name: value for name, value in vars(module).items() if inspect.isclass(value)}


def _networks(classes: Mapping[str, type]) -> dict[str, type[nn.Module]]:
    return {name: cls for name, cls in classes.items() if issubclass(cls, nn.Module)}


@cache
def _package_of(name: str) -> dict[str, type]:
    """The package of the architecture with the network class `name`."""
    for file in _architectures():
        if re.search(rf"\b{name}\b", file.read_text()):
            classes = _package(file)
            if name in _networks(classes):
                return classes
    raise KeyError(name)


def _class(name: str) -> type[nn.Module]:
    return _package_of(name)[name]


def names() -> list[str]:
    """Every network class."""
    return sorted({name for file in _architectures() for name in _networks(_package(file))})


def call(name: str) -> tuple[str, list[object], dict[str, object]]:
    """What a person would write to build `name`."""
    cls = _class(name)
    package = cls.__module__.partition(".__arch")[0]
    return f"{package}.{name}", [], {}


def create(name: str, **fields: object) -> nn.Module:
    """The module with fresh weights."""
    cls = _class(name)
    return cls(**{**usual("spandrel", name), **fields})


def label(name: str, module: nn.Module) -> None:
    """Nothing: a module has all of it from its class."""


def fields(name: str) -> Mapping[str, object]:
    """None: what a class takes is found by moving it, in its family."""
    return {}


def load_as_published(name: str, state: dict[str, torch.Tensor]) -> None:
    """Hands a state dict, which may be on the meta device, to the library's own loader of `name`:
    it reads arguments from keys and shapes, and calls the class with them. Whatever that loader
    raises for a state dict that it can't read is raised here."""
    for cls in _package_of(name).values():
        if not issubclass(cls, nn.Module) and cls.__name__.endswith("Arch"):
            cls().load(state)


# Sides that a network is made for, in pixels: faces, cut out and scaled; patches of a picture.
_SIDES: Mapping[str, int] = {"CodeFormer": 512, "GFPGAN": 512, "IPT": 48, "MAT": 512}
# Channels that a network adds to the image's own before its first convolution.
_ADDED: Mapping[str, int] = {"LaMa": 1, "RetinexFormer": 1}
# Pixels whose channels stand together before a network's first convolution.
_FOLDED: Mapping[str, int] = {"UpCunet2x_fast": 4}
# Switches after the image that make a network give one image, and the same each time.
_SWITCHES: Mapping[str, tuple[bool, ...]] = {"GFPGAN": (False, False, False)}


def example(name: str, module: nn.Module) -> Example:
    """A small image in 0..1 with as many channels as the network takes, and a mask of what is to be
    filled in, of ones and zeros, where it takes one."""
    channels = next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)), 3)
    channels = max(1, channels // _FOLDED.get(name, 1) - _ADDED.get(name, 0))
    side = _SIDES.get(name, _SIDE)
    size = (channels, side, side)
    image = torch.sigmoid(images(size))
    if "mask" in inspect.signature(module.forward).parameters:
        mask = (images((1, side, side), seed=1) > 0).float()
        return Example((image, mask), ("image", "mask"), size, (), ())
    return Example((image, *_SWITCHES.get(name, ())), ("input",), size, (), ())
