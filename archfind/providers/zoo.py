"""Providers that are data: packages whose networks are built by a class or a function with fixed
arguments, as `zoo_networks` lists them. A package of it is a provider like any other."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from archfind.providers.example import Axes, Example, images
from archfind.providers.unopened import unopened
from archfind.providers.zoo_networks import PACKAGES
from archfind.providers.zoo_row import Input, ZooNetwork

_LOUDNESS = 0.1  # of a waveform in -1..1


class Zoo:
    """One package's networks, with the functions that a provider has."""

    HEAD = ""

    def __init__(self, name: str) -> None:
        """ModuleNotFoundError where the package isn't installed."""
        package = PACKAGES[name]
        self.LIBRARY = package.distribution
        self._networks = package.networks
        if find_spec(package.module) is None:
            text = f"No module named {package.module!r}"
            raise ModuleNotFoundError(text, name=package.module)
        for part in package.unopened:
            unopened(part)

    def names(self) -> list[str]:
        """The rows of the package."""
        return sorted(self._networks)

    def call(self, name: str) -> tuple[str, list[object], dict[str, object]]:
        """What a person would write to build `name`."""
        row = self._networks[name]
        return row.call, list(row.args), dict(row.kwargs)

    def create(self, name: str, **fields: object) -> nn.Module:
        """The module with fresh weights; nothing is downloaded."""
        row = self._networks[name]
        return _callable(row.call)(*row.args, **{**row.kwargs, **fields})

    def label(self, name: str, module: nn.Module) -> None:
        """Nothing: a module has all of it from its class."""

    def fields(self, name: str) -> Mapping[str, object]:
        """The arguments that the row says move."""
        return dict(self._networks[name].fields)

    def example(self, name: str, module: nn.Module) -> Example:
        """The row's inputs, seeded; their values are in the range that such a network sees, and
        nobody says how it is normalised."""
        row = self._networks[name]
        args = tuple(_input(given, seed) for seed, given in enumerate(row.inputs))
        names = tuple(given.name for given in row.inputs if given.kind != "value")
        single = any(given.kind == "dictionaries" for given in row.inputs)
        size = row.inputs[0].size
        return Example(args, names, size, (), (), dynamic_batch=not single, axes=_axes(row))


def _callable(dotted: str) -> Any:
    """The class, function or static method at a dotted path."""
    place, _, name = dotted.rpartition(".")
    if place.rpartition(".")[2][0].isupper():  # a static method of a class
        return getattr(_callable(place), name)
    return getattr(import_module(place), name)


def _input(given: Input, seed: int) -> object:
    """One input, for a batch of two."""
    random = torch.Generator().manual_seed(seed)
    match given.kind:
        case "image":
            return images(given.size, seed=seed)
        case "wave":
            return _LOUDNESS * torch.randn(2, *given.size, generator=random)
        case "noise":
            return torch.randn(2, *given.size, generator=random)
        case "positive":
            return torch.rand(2, *given.size, generator=random)
        case "whole":
            assert isinstance(given.value, int)
            return torch.randint(0, given.value, (2, *given.size), generator=random)
        case "dictionaries":
            image = images(given.size, batch=1, seed=seed)[0]
            return [{given.name: image, "original_size": given.size[1:]}]
        case "lengths":
            assert isinstance(given.value, int)
            return torch.full((2,), given.value, dtype=torch.long)
        case _:
            return given.value


def _axes(row: ZooNetwork) -> tuple[Axes, ...]:
    """Height and width of images may be left free, and the length of waveforms."""
    known: dict[str, Axes] = {"image": {2: "height", 3: "width"}}
    axes = [known.get(i.kind, {}) for i in row.inputs if i.kind != "value"]
    return tuple(axes) if any(axes) else ()
