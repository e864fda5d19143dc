"""Small networks of transformers' model types, which run: for benchmarks that need one of each."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from archfind.database.entries import signatures_folder
from archfind.errors import BuildError
from archfind.probing.config import leaves_of_config, moved
from archfind.providers import transformers as library

_COUNTED = ("layer", "depth", "expert", "block")
_LARGEST = 30e6  # parameters
_CLASSES = 3  # that are tried of a type
_FACTORS = (16, 8, 4, 2)  # by which widths are divided


def types() -> list[str]:
    """Every model type that has signatures."""
    return sorted(
        p.stem for p in (Path(signatures_folder()) / "transformers" / "types").glob("*.txt")
    )


def small(model_type: str) -> tuple[str, nn.Module]:
    """The name and the module of a class of the type, its base model if that runs, with random
    weights: two layers, narrow, 2,000 words. BuildError where none could be built and run."""
    classes = library.classes(model_type)
    ordered = sorted(classes, key=lambda name: (not _is_base(name), "PreTrained" in name))
    why = "no width of it is a multiple of its heads" if ordered else "it has no classes"
    for name in ordered[:_CLASSES]:
        for factor in _FACTORS:
            try:
                config = library.config_of(model_type, _narrowed(model_type, factor))
                if not library.is_divided(config):
                    continue
                torch.manual_seed(0)
                module = classes[name](config).eval()
                if sum(value.numel() for value in module.parameters()) > _LARGEST:
                    break
                library.example(name, module)
                return name, module
            except Exception as error:  # a library refuses values in its own ways
                why = f"{type(error).__name__}: {error}".partition("\n")[0]
    raise BuildError(f"{model_type}: no small network of it runs: {why}")


def _is_base(name: str) -> bool:
    return name.endswith("Model") and "Pretrained" not in name


def _narrowed(model_type: str, factor: int) -> dict[str, object]:
    base = library.default_config(model_type)
    moves: dict[str, int] = {}
    for path, value in leaves_of_config(base).items():
        leaf = path.rpartition(".")[2]
        if leaf == "pad_token_id" and type(value) is int and value >= 2000:
            moves[path] = 0
        if type(value) is not int or path.endswith("#") or "token" in path or leaf.endswith("_id"):
            continue
        is_width = leaf in ("hidden_size", "intermediate_size") or not (
            "size" in leaf or "distance" in leaf
        )
        if any(word in leaf for word in _COUNTED) and 2 < value < 400:
            moves[path] = 2
        elif "vocab" in leaf and value > 2000:
            moves[path] = 2000
        elif value >= 64 and is_width:
            moves[path] = max(16, value // factor)
    return moved(base, moves)
