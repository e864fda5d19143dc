"""An input for a module of nobody's library: the first that it runs on."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from archfind.errors import ExportError
from archfind.providers.example import Example, images

_SECONDS = 30.0  # for looking
_SIDES = (64, 32, 224, 28, 128, 256, 96, 512)
_LENGTHS = (64, 16, 256, 1024, 4096)
_DEPTHS = (32, 64, 16, 96)
_TOKENS = (16, 8, 64, 196)
_LAYERS = 6  # that may be the first to see the input
_STEPS = (
    "t",
    "time",
    "step",
    "noise",
    "sigma",
)  # how arguments are called that are one number each
_BATCH = 2


def example(module: nn.Module, settings: Mapping[str, object]) -> Example:
    """Inputs that `module` runs on: of the shapes that its first layers take, with the sizes that
    its arguments say. ExportError where none of those that are tried is taken."""
    names = _required(module)
    end = time.monotonic() + _SECONDS
    module = module.eval()
    for shape, kind in _shapes(module, settings):
        for args in _calls(_input(shape, kind), names):
            if time.monotonic() > end:
                break
            try:
                with torch.no_grad():
                    module(*args)
            except Exception:  # somebody's code refuses inputs in its own ways
                continue
            said = tuple(names[: len(args)]) or ("input",)
            return Example(tuple(args), said, shape, (), (), axes=({},) * len(args))
    text = f"it ran on none of the inputs that were tried for {', '.join(names) or 'it'}"
    raise ExportError(f"{text}; say what it runs on, as in --input 1x3x224x224")


def _required(module: nn.Module) -> list[str]:
    """The arguments of the module's forward that have no default, the first in any case."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    plain = [
        p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY)
    ]
    found = [p.name for n, p in enumerate(plain) if not n or p.default is p.empty]
    return found or ["input"]


def _shapes(
    module: nn.Module, settings: Mapping[str, object]
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Shapes without their batch, and the kind of number, the likeliest first."""
    told = [
        size
        for name, value in settings.items()
        if any(word in name for word in ("size", "len", "resolution", "points", "shape"))
        for size in (value if isinstance(value, list | tuple) else [value])
        if type(size) is int and size > 0
    ]
    pair = [v for v in settings.values() if isinstance(v, list | tuple) and len(v) in (2, 3)]
    seen: set[tuple[tuple[int, ...], str]] = set()
    layers = [one for one in module.modules() if _kind(one)][:_LAYERS]
    for layer in layers:
        kind = _kind(layer)
        for shape in _of(layer, kind, told, pair):
            item = shape, "int64" if kind == "embedding" else "float32"
            if item not in seen:
                seen.add(item)
                yield item


def _kind(layer: nn.Module) -> str:
    kinds: dict[type[nn.Module], str] = {
        nn.Conv1d: "1", nn.Conv2d: "2", nn.Conv3d: "3", nn.ConvTranspose1d: "1",
        nn.ConvTranspose2d: "2", nn.ConvTranspose3d: "3", nn.Linear: "linear",
        nn.Embedding: "embedding", nn.LSTM: "recurrent", nn.GRU: "recurrent", nn.RNN: "recurrent",
    }  # fmt: skip
    return next((kind for cls, kind in kinds.items() if isinstance(layer, cls)), "")


def _of(
    layer: nn.Module, kind: str, told: list[int], pairs: list[list[int] | tuple[int, ...]]
) -> Iterator[tuple[int, ...]]:
    wide: int = getattr(layer, "in_channels", 0) or getattr(layer, "in_features", 0)
    if kind in "123":
        rank = int(kind)
        for sides in pairs:
            if len(sides) == rank and all(type(n) is int and n > 0 for n in sides):
                yield (wide, *sides)
        usual = {1: _LENGTHS, 2: _SIDES, 3: _DEPTHS}[rank]
        for side in dict.fromkeys([*told, *usual]):
            yield (wide,) + (side,) * rank
    elif kind == "embedding":
        for length in dict.fromkeys([*_TOKENS, *told]):
            yield (length,)
    else:
        wide = wide or getattr(layer, "input_size", 1)
        if kind == "linear":
            yield (wide,)
        for length in dict.fromkeys([*told, *_TOKENS]):
            yield (length, wide)
        for channels in (1, 3, 4) if kind == "linear" else ():  # patches, or a flattened picture
            side = round((wide / channels) ** 0.5)
            if side * side * channels == wide:
                yield (channels, side, side)
                for size in dict.fromkeys([*told, *(side * n for n in (2, 4, 8, 14))]):
                    yield (channels, size, size)


def _input(shape: tuple[int, ...], kind: str) -> Tensor:
    if kind == "int64":
        return torch.randint(1, 2, (_BATCH, *shape), generator=torch.Generator().manual_seed(0))
    if len(shape) >= 3:
        return images(shape, _BATCH)
    return torch.randn(_BATCH, *shape, generator=torch.Generator().manual_seed(0))


def _calls(first: Tensor, names: list[str]) -> Iterator[list[Tensor]]:
    """The first input with others for what else forward wants: a step of time, or one alike."""
    steps = [any(word in name.lower() for word in _STEPS) for name in names[1:]]
    for dtype in (torch.float32, torch.int64) if any(steps) else (torch.float32,):
        yield [first, *(torch.ones(_BATCH, dtype=dtype) if s else first.clone() for s in steps)]
