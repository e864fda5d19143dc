"""How far a network's tensors are from a file's."""

from __future__ import annotations

import math
import re

from archfind.probing.probe import Shapes
from archfind.state_dicts.canonical import is_derived

Axes = dict[tuple[str, str], int]  # what stands before and after a number in keys -> how many

_NUMBER = re.compile(r"\d+")
_FAR = 3.0  # a factor of e**3 in a size is as wrong as a key that isn't there


def misfits(shapes: Shapes, target: Shapes) -> list[str]:
    """Keys of either side whose tensors the other doesn't have, derived ones aside."""
    return [*_apart(shapes, target)]


def misfit(shapes: Shapes, target: Shapes) -> float:
    """How far two sets of tensors are apart: up to 1 for a size, 1 for a key of one side only."""
    return sum(_apart(shapes, target).values())


def _apart(shapes: Shapes, target: Shapes) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, (shape, kind) in target.items():
        own = shapes.get(key)
        if own is None:
            if not is_derived(key, kind):
                found[key] = 1.0
        elif own != (shape, kind):
            found[key] = _distance(own[0], shape) if own[1] == kind else 1.0
    for key, (_, kind) in shapes.items():
        if key not in target and not is_derived(key, kind):
            found[key] = 1.0
    return found


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    if len(one) != len(other) or 0 in one or 0 in other:
        return 1.0
    far = max((abs(math.log(a / b)) for a, b in zip(one, other, strict=True)), default=0.0)
    return 0.1 + 0.9 * min(1.0, far / _FAR)


def key_template(key: str) -> str:
    """A key with its numbers as #."""
    return _NUMBER.sub("#", key)


def axes(shapes: Shapes) -> Axes:
    """How many numbers stand at each place in the keys, what is around them being the same."""
    found: Axes = {}
    for key in shapes:
        for at in _NUMBER.finditer(key):
            axis = key[: at.start()], key[at.end() :]
            found[axis] = found.get(axis, 0) + 1
    return found
