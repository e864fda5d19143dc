"""segmentation_models_pytorch: every decoder on every encoder of its own."""

from __future__ import annotations

from collections.abc import Mapping

import segmentation_models_pytorch as library
from torch import nn

from archfind.providers.example import Example, images

LIBRARY = "segmentation-models-pytorch"
HEAD = "classes"

_NO_DOWNLOAD = {"encoder_weights": None}
# Pairs that the library refuses: encoders without images between their blocks under decoders that
# take all of them, and those that can't be dilated. DPT runs on timm's transformers alone.
_REFUSED = {
    "DPT": "",
    "Linknet": "mit_",
    "UnetPlusPlus": "mit_",
    **dict.fromkeys(
        ("DeepLabV3", "DeepLabV3Plus", "PAN"), ("vgg", "densenet", "inception", "xception")
    ),
}


def names() -> list[str]:
    """Decoder and encoder, "Unet-resnet34", of all pairs that go together."""
    decoders = [cls.__name__ for cls in library.MODEL_ARCHITECTURES_MAPPING.values()]
    encoders: list[str] = list(library.encoders.encoders)
    return sorted(f"{d}-{e}" for d in decoders for e in encoders if not _is_refused(d, e))


def _is_refused(decoder: str, encoder: str) -> bool:
    return decoder in _REFUSED and encoder.startswith(_REFUSED[decoder])


def call(name: str) -> tuple[str, list[object], dict[str, object]]:
    """What a person would write to build `name` without a download."""
    decoder, _, encoder = name.partition("-")
    return f"segmentation_models_pytorch.{decoder}", [encoder], dict(_NO_DOWNLOAD)


def create(name: str, **fields: object) -> nn.Module:
    """The module with fresh weights; nothing is downloaded."""
    decoder, _, encoder = name.partition("-")
    return getattr(library, decoder)(encoder, **{**_NO_DOWNLOAD, **fields})


def label(name: str, module: nn.Module) -> None:
    """Nothing: a module has all of it from its class."""


def fields(name: str) -> Mapping[str, object]:
    """How many classes are told apart in each pixel, and the channels of the image."""
    return {"classes": 1, "in_channels": 3}


def example(name: str, module: nn.Module) -> Example:
    """Two images; sides are multiples of what the encoder halves."""
    channels = next(m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d))
    size = (channels, 256, 256)
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if channels == 3 else ((), ())
    return Example((images(size),), ("image",), size, mean, std)
