"""Model libraries, one file each: what a library offers, and how to build one of its networks.

A provider module has:

    LIBRARY                    the distribution whose version the signatures carry
    HEAD                       the field that sizes the last layer, "" where none does
    names()                    every name that the library registers, sorted
    call(name)                 the callable's dotted path, its positional arguments and fixed
                               keywords
    create(name, **fields)     the module, without weights from the network
    label(name, module)        writes on a module of the name's class what only the builder would
    fields(name)               the switches and numbers that the harvest moves, with their
                               defaults
    example(name, module)      Example: inputs the network takes, and how its authors normalise them

and may have, where the library's own loader reads a class's arguments from a state dict,

    load_as_published(name, state)   calls that loader, which calls the class; the state dict is on
                                     the meta device, but for its small tensors

Importing this package imports no library.
"""

from __future__ import annotations

from importlib import import_module

from archfind.errors import BuildError
from archfind.providers.zoo_networks import PACKAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from torch import nn

    from archfind.providers.example import Example
    from archfind.types import Match

    class Provider(Protocol):
        LIBRARY: str
        HEAD: str

        def names(self) -> list[str]: ...
        def call(self, name: str) -> tuple[str, list[object], dict[str, object]]: ...
        def create(self, name: str, **fields: object) -> nn.Module: ...
        def label(self, name: str, module: nn.Module) -> None: ...
        def fields(self, name: str) -> Mapping[str, object]: ...
        def example(self, name: str, module: nn.Module) -> Example: ...


# Each with what pip installs for it: an extra of this package, or the library alone where its
# networks are data (`zoo_networks`).
PROVIDERS = {
    "torchvision": "archfind[torch]",
    "timm": "archfind[torch]",
    "spandrel": "archfind[spandrel]",
    "smp": "archfind[smp]",
    "diffusers": "archfind[diffusers]",
    **{name: package.install or package.distribution for name, package in PACKAGES.items()},
}
CONFIGURED = "transformers"  # its networks have no registered sizes: each class takes a config


def provider(name: str) -> Provider:
    """The provider module; BuildError says what to install where its library is missing."""
    if name not in (*PROVIDERS, CONFIGURED):
        raise BuildError(f"no provider {name!r}; there are {', '.join(PROVIDERS)}")
    try:
        if name in PACKAGES:
            return import_module("archfind.providers.zoo").Zoo(name)
        return import_module(f"archfind.providers.{name}")  # pyright: ignore[reportReturnType]
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("archfind"):
            raise
        wanted = PROVIDERS.get(name, f"archfind[{name}]")
        words = f"'{wanted}'" if "[" in wanted else wanted
        text = f"building a {name} network needs {error.name}: pip install {words}"
        raise BuildError(text) from error


def example_of(found: Match, module: nn.Module) -> Example:
    """The inputs that the network of a match takes."""
    if found.trusted is not None or found.written is not None:
        from archfind.providers.any_module import example

        return example(module, {name: setting.value for name, setting in found.config.items()})
    from archfind.providers.example import example_for_variant

    example = provider(found.entry.provider).example(found.entry.name, module)
    if found.variant is None:
        return example
    return example_for_variant(
        example, {name: setting.value for name, setting in found.config.items()}
    )
