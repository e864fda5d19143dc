"""diffusers: every network class with its defaults, by its name, and the published networks of
`classes/diffusion_networks.py`, by theirs. Pipelines, schedulers and weights are left alone."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from archfind.classes.diffusion_networks import NETWORKS
from archfind.providers.diffusers_inputs import example as example

LIBRARY = "diffusers"
HEAD = ""


@cache
def _modules() -> Mapping[str, str]:
    """Every public class of the library's models with the module that has it, as the package's own
    table of names says, which is read and not run."""
    spec = find_spec("diffusers.models")
    assert spec is not None and spec.origin is not None
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        match node:
            case ast.Assign(
                targets=[ast.Subscript(ast.Name("_import_structure"), ast.Constant(str(module)))],
                value=ast.List(names),
            ):
                found |= {n.value: module for n in names if isinstance(n, ast.Constant)}  # pyright: ignore
            case _:
                pass
    return found


def _class(name: str) -> type[nn.Module]:
    """The class of that name."""
    return getattr(import_module(f"diffusers.models.{_modules()[name]}"), name)


def _class_of(entry: str) -> str:
    return NETWORKS[entry][0] if entry in NETWORKS else entry


def _arguments(entry: str) -> Mapping[str, object]:
    return NETWORKS[entry][1] if entry in NETWORKS else {}


@cache
def names() -> list[str]:
    """The published networks, and the classes that can be called without an argument; those that
    hold other networks, as a row of ControlNets does, aren't."""
    from diffusers.models.modeling_utils import ModelMixin

    found = list(NETWORKS)
    for name in _modules():
        cls = _class(name)
        if not (inspect.isclass(cls) and issubclass(cls, ModelMixin) and cls is not ModelMixin):
            continue
        if name not in _INCOMPLETE and not _needed(cls):
            found.append(name)
    return sorted(found)


# Classes whose defaults don't build; and WanAnimate2Transformer3DModel, whose keys are those that
# the authors' own files of Wan 2.1 I2V have, which is another network.
_INCOMPLETE = frozenset(
    "HunyuanDiT2DControlNetModel ControlNetUnionModel ZImageControlNetModel HunyuanDiT2DModel "
    "LatteTransformer3DModel LuminaNextDiT2DModel Transformer2DModel DreamLiteTransformer2DModel "
    "EasyAnimateTransformer3DModel HiDreamImageTransformer2DModel OmniGenTransformer2DModel "
    "TransformerTemporalModel WanAnimate2Transformer3DModel".split()
)


def _needed(cls: type[nn.Module]) -> list[str]:
    """The arguments without a default."""
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.default is p.empty and p.kind in named]


def call(name: str) -> tuple[str, list[object], dict[str, object]]:
    """What a person would write to build `name`, with what `usual` adds: the class."""
    return f"diffusers.{_class_of(name)}", [], {}


def create(name: str, **fields: object) -> nn.Module:
    """The module with fresh weights."""
    return _class(_class_of(name))(**{**_arguments(name), **fields})


def label(name: str, module: nn.Module) -> None:
    """Nothing: a module has all of it from its class."""


def fields(name: str) -> Mapping[str, object]:
    """None: what a class takes is found by moving it, in its family."""
    return {}
