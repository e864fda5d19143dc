"""Arguments of a class that move tensors, and that none of its families reads: the depth of a row
that a trace takes as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from torch import nn

from archfind.learning.family import Preset
from archfind.probing.config import moved
from archfind.probing.probe import on_meta, shapes_of
from archfind.probing.proposals import alternates

_TRIED = 4  # values of a leaf


def unread_leaves(
    make: Callable[..., nn.Module], preset: Preset, read: Collection[str], seconds: float
) -> list[str]:
    """Those of a network's leaves that aren't `read` although they move a tensor; as many as are
    found in time."""
    end = time.process_time() + seconds
    found: list[str] = []
    for path, value in preset.values().items():
        if path in read or isinstance(value, str | None):
            continue
        for other in alternates(path, value, ())[:_TRIED]:
            if time.process_time() > end:
                return found
            try:
                shapes = shapes_of(on_meta(make, moved(preset.config, {path: other})))
            except Exception:  # a library refuses values in its own ways
                continue
            if shapes != preset.shapes:
                found.append(path)
                break
    return found
