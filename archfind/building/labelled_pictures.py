"""Pictures in one folder for each label, as a tensor and the numbers of their classes."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from archfind.errors import BuildError
from archfind.escape import escape
from archfind.frozen import frozen

_PICTURES = 2_000  # that are read, evenly from all folders
_LISTED = 200_000  # files that are looked at in all folders
_PIXELS = 2**24  # of one picture
_NUMBERS = 2**24  # of all pictures together
# What Pillow reads by itself: others start programs (EPS) or hold several pictures.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels


@frozen
class LabelledPictures:
    """`pictures`: N x C x H x W from 0 to 1; `labels`: N numbers of classes, of which there are
    `classes`; `folder` is the name of the folder and a slash, as it may be shown."""

    pictures: Tensor
    labels: Tensor
    classes: int
    folder: str


def labelled_pictures(folder: str, widths: tuple[int, ...]) -> LabelledPictures:
    """The pictures below `folder`, which has one folder for each class: sorted as text, their
    places are the classes' numbers, as in torchvision's ImageFolder. An empty folder counts.

    `widths` is the shape of the network's first weight: its second size is the number of channels
    (2-D convolutions), or that of a picture's numbers (linear layers). At most 2,000 pictures are
    read, evenly from all folders. BuildError where one can't be, where their sizes differ, or where
    the network reads no pictures."""
    classes, listed = _listed(folder)
    first = listed[0][0]
    width, height = _size(first)
    channels = _channels(widths, width * height, first)
    count = min(_PICTURES, _NUMBERS // (channels * width * height))
    if not count:
        raise BuildError("it has too many pixels; give smaller pictures", first)
    step = max(len(listed) / count, 1.0)
    taken = [listed[int(n * step)] for n in range(min(count, len(listed)))]
    read = [_picture(path, (width, height), channels) for path, _ in taken]
    pictures = torch.stack(read)
    if len(widths) == 2:
        pictures = pictures.flatten(1)
    name = os.path.basename(os.path.abspath(folder))
    labels = torch.tensor([label for _, label in taken])
    return LabelledPictures(pictures, labels, classes, f"{escape(name)}/")


def _listed(folder: str) -> tuple[int, list[tuple[str, int]]]:
    """How many classes there are, and each picture's path with the number of its class, sorted."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
        listed: list[tuple[str, int]] = []
        for label, name in enumerate(names):
            with os.scandir(os.path.join(folder, name)) as entries:
                paths = sorted(entry.path for entry in entries if entry.is_file())
            listed += [(path, label) for path in paths if path.lower().endswith(_ENDINGS)]
            if len(listed) > _LISTED:
                raise BuildError(f"it has more than {_LISTED:,} pictures; give a part", folder)
    except OSError as error:
        raise BuildError(f"can't be listed: {error.strerror or error}", folder) from error
    if len(names) < 2 or not listed:
        text = "it needs pictures in one folder for each label: DIR/cat/a.png, DIR/dog/b.png"
        raise BuildError(text, folder)
    return len(names), listed


def _channels(widths: tuple[int, ...], pixels: int, path: str) -> int:
    """How many channels the network reads of a picture of so many pixels."""
    channels = widths[1] if len(widths) == 4 else 0
    if len(widths) == 2 and widths[1] % pixels == 0:
        channels = widths[1] // pixels
    if channels not in _MODES:
        text = f"the first weight is {'x'.join(map(str, widths)) or 'missing'}"
        raise BuildError(f"{text}: it reads no pictures of {pixels} pixels like this one", path)
    return channels


def _size(path: str) -> tuple[int, int]:
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            width, height = picture.size
    except Exception as error:  # Pillow's readers raise what they like on a bad file
        raise _unreadable(path, error) from error
    if not 0 < width * height <= _PIXELS:
        raise BuildError(f"a picture of {width} x {height} is too large to be read", path)
    return width, height


def _picture(path: str, size: tuple[int, int], channels: int) -> Tensor:
    """C x H x W from 0 to 1."""
    if _size(path) != size:
        text = f"it isn't {size[0]} x {size[1]} as the first picture is; give all in the size"
        raise BuildError(f"{text} that the network reads", path)
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if picture.mode[0] in "IF":
                raise BuildError("it has more than 8 bits for each channel; give it with 8", path)
            data = bytearray(picture.convert(_MODES[channels]).tobytes())
    except BuildError:
        raise
    except Exception as error:  # Pillow's readers raise what they like on a bad file
        raise _unreadable(path, error) from error
    flat = torch.frombuffer(data, dtype=torch.uint8).float() / 255
    return flat.reshape(size[1], size[0], channels).permute(2, 0, 1).contiguous()


def _unreadable(path: str, error: Exception) -> BuildError:
    text = " ".join(str(error).split())[:120]
    return BuildError(f"{Path(path).suffix[1:]} can't be read as a picture: {escape(text)}", path)
