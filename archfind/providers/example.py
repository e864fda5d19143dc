"""The input that a network takes, as its own library states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

Axes = Mapping[int, str]  # axes of a tensor, each with the name of its size


@dataclass(frozen=True)
class Example:
    """Inputs that the network runs on, and what its authors fed it.

    `args` is what `module(*args)` takes, with a batch of two; `names` names the tensors in it in
    order. `mean` and `std` are per channel, for values in 0..1; () where the network normalises
    by itself. `dynamic_batch` is False for networks that take a list of single images. `axes` says
    of each tensor which of its other axes have a size that the network may leave free, by name:
    `{2: "height", 3: "width"}`.
    """

    args: tuple[object, ...]
    names: tuple[str, ...]
    size: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dynamic_batch: bool = True
    axes: tuple[Axes, ...] = ()

    def describe(self) -> str:
        """The input in one line: its size and how the authors normalised it."""
        size = f"{', '.join(self.names)}: {' x '.join(map(str, self.size))}"
        if not tensors_of_call(self.args)[0].is_floating_point():
            return f"{size}, whole numbers"
        if not self.mean:
            return f"{size}, values in 0..1 (the network normalises by itself, or nobody says how)"
        numbers = [" ".join(f"{n:.4g}" for n in numbers) for numbers in (self.mean, self.std)]
        return f"{size}, mean {numbers[0]}, std {numbers[1]}, the library's default"


def example_for_variant(example: Example, settings: Mapping[str, object]) -> Example:
    """An entry's example for a variant of it: the image as large, and with as many channels, as the
    settings say."""
    height, width = example.size[-2:]
    for name in ("img_size", "image_size"):
        value = settings.get(name)
        sides = value if isinstance(value, list | tuple) else [value, value]
        if len(sides) == 2 and all(isinstance(side, int) for side in sides):
            height, width = sides
    channels = example.size[0]
    for name in ("in_chans", "in_channels", "num_in_ch", "in_nc", "in_channel"):
        value = settings.get(name)
        channels = value if isinstance(value, int) else channels
    size = (channels, *example.size[1:-2], height, width)
    if len(example.args) != 1 or isinstance(example.args[0], list) or size == example.size:
        return example
    same = len(example.mean) == channels
    mean, std = (example.mean, example.std) if same else ((), ())
    return replace(example, args=(images(size),), size=size, mean=mean, std=std)  # pyright: ignore[reportArgumentType]


def tensors_of_call(args: tuple[object, ...]) -> list[Tensor]:
    """The tensors in a call's arguments, in order, lists and what is in dictionaries flattened;
    switches between them aside."""
    flat: list[Tensor] = []
    for arg in args:
        if isinstance(arg, Tensor):
            flat.append(arg)
        elif isinstance(arg, list):
            flat += tensors_of_call(tuple(arg))  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(arg, dict):
            flat += tensors_of_call(tuple(arg.values()))  # pyright: ignore[reportUnknownArgumentType]
    return flat


def images(size: tuple[int, ...], batch: int = 2, seed: int = 0) -> Tensor:
    """`batch` smooth seeded images of `size` (channels, height, width, or with frames between),
    in about the range of normalised photographs: white noise is far outside what networks see."""
    import torch
    from torch.nn import functional as F

    random = torch.Generator().manual_seed(seed)
    coarse = [n if i < len(size) - 2 else max(1, n // 8) for i, n in enumerate(size)]
    noise = torch.randn(batch, *coarse, generator=random)
    flat = noise.reshape(1, -1, *coarse[-2:])
    smooth = F.interpolate(flat, size=tuple(size[-2:]), mode="bilinear", align_corners=False)
    return smooth.reshape(batch, *size).contiguous()
