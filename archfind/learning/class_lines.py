"""A class of a user's code and its arguments -> what its signature says: lines, fields, and rules
for other arguments. It runs in the process apart, after the class was imported."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import nn

from archfind.classes.notation import family_text
from archfind.database.grouping import HEADS
from archfind.database.notation import CLASSES
from archfind.database.plain import Unplain, encoded
from archfind.errors import SignatureError
from archfind.learning.entries import harvest
from archfind.learning.family import LearnedFamily, Preset, families, registered_values
from archfind.learning.traced_family import traced_family
from archfind.probing.config import Config, copied_leaves
from archfind.probing.descent import Descent
from archfind.probing.probe import Shapes, on_meta, shapes_of
from archfind.providers.example import Example
from archfind.trusted.calls import default_arguments
from archfind.trusted.probed import shown_by_tensors

_SECONDS = 10.0  # for one network
_SURE = 0.9  # share of the networks drawn that a family must give


class _Source:
    """The class as a provider has its networks: one name, with the arguments that were told."""

    LIBRARY, HEAD = "", CLASSES

    def __init__(self, cls: type[nn.Module], config: Config) -> None:
        self._cls, self._config = cls, config

    def names(self) -> list[str]:
        return [self._cls.__name__]

    def call(self, name: str) -> tuple[str, list[object], dict[str, object]]:
        return name, [], {}

    def create(self, name: str, **fields: object) -> nn.Module:
        return self._cls(**copied_leaves({**self._config, **fields}))

    def label(self, name: str, module: nn.Module) -> None:
        """Nothing: a module has all of it from its class."""

    def fields(self, name: str) -> Mapping[str, object]:
        count = self._config.get(CLASSES)
        return {CLASSES: count} if type(count) is int and count > 0 else {}

    def example(self, name: str, module: nn.Module) -> Example:
        raise NotImplementedError  # no signature needs one


def said_of(
    cls: type[nn.Module], dotted: str, name: str, told: Mapping[str, Any], seconds: float
) -> dict[str, object]:
    """What is said of the class at the path `dotted`, called with `told`, by the name of its
    signature; rules for other arguments are looked for within so many `seconds`. SignatureError
    where it can't be called so."""
    own, required = default_arguments(cls)
    lacking = [argument for argument in required if argument not in told]
    if lacking:
        asked = ", ".join(f'"{argument}": ...' for argument in lacking)
        raise SignatureError(f"it wants more arguments: --args '{{{asked}}}'")
    config: Config = {**own, **told}
    module = on_meta(cls, copied_leaves(config), _SECONDS)
    text = harvest(_Source(cls, config), *name.split("/", 1)).text  # pyright: ignore
    rows = text.rstrip("\n").split("\n")
    fields = [row.partition(" ")[2].strip() for row in rows if row.startswith("fields ")]
    return {
        "lines": [row for row in rows if not row.startswith(HEADS)],
        "fields": fields[0] if fields else "",
        "arguments": {key: encoded(value) for key, value in config.items() if _is_plain(value)},
        "families": _families(cls, dotted, Preset(name, config, shapes_of(module)), seconds),
        "open": _open(cls, config, shapes_of(module)),
    }


def _open(cls: type[nn.Module], config: Config, shapes: Shapes) -> list[list[object]] | None:
    """The arguments that change what the network computes, and no tensor: each with other values;
    None where that isn't known."""
    descent = Descent(cls, config, shapes, {})
    if descent.cost:
        return None  # the class makes another network each time
    _, found = shown_by_tensors(cls, config, descent)
    return [[argument, others] for argument, _, others in found]


def _families(cls: type[nn.Module], dotted: str, preset: Preset, seconds: float) -> list[str]:
    """The text of the rules of the class, learnt from this one network; none where none hold."""
    end = time.monotonic() + seconds
    try:
        known = registered_values([preset])
        traced = traced_family(preset, cls, known, [], seconds / 2)
        found: list[LearnedFamily] = [] if traced is None else [traced]
        if not any(map(_is_sure, found)) and time.monotonic() < end:
            found += families(cls, cls, [preset], end - time.monotonic(), 1)
        best = max(found, key=lambda one: (_is_sure(one), len(one.options)), default=None)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return []  # a class that is not to be probed: its signature is of this one network
    if best is None or not best.options:
        return []
    values = {preset.name: dict(preset.values())}
    held = best.right, best.held
    return [
        family_text(
            f"{dotted}/1", preset.name, held, [], best.options, values, best.lines, best.around
        )
    ]


def _is_sure(one: LearnedFamily) -> bool:
    return one.right >= _SURE * max(one.held, 1)


def _is_plain(value: object) -> bool:
    try:
        encoded(value)
    except Unplain:
        return False
    return True
