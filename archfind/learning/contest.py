"""Families of a class that was learned more than once -> those that are worth keeping.

A way to learn that is better on the whole is worse for some class. So all that's known of one meets
on the same networks, its presets with a few of their leaves moved: the family that gives most of
them is kept, then the one that gives most of the rest, and so on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from archfind.classes.notation import Family
from archfind.learning.family import Preset
from archfind.learning.grown import program_gives
from archfind.probing.config import Leaf, leaves_of_config, moved
from archfind.probing.probe import Shapes, drawn_leaf, on_meta, shapes_of
from archfind.state_dicts.canonical import is_derived

_NETWORKS = 160  # of a class
_EACH = 80  # of a preset
_TRIES = 4  # draws for a network that the class takes
_WORTH = 0.02  # share of the networks that a family must give beyond those that were kept before


def kept(
    cls: type[nn.Module], presets: Sequence[Preset], texts: Sequence[str], seconds: float
) -> list[str]:
    """The texts that together give most, the best first; of equals the first in `texts`. Every
    preset that has a family keeps one."""
    families = [Family(text) for text in texts]
    end = time.process_time() + seconds
    left: list[set[int]] = []  # for each network the families that give it, and its masks
    waiting = {preset.name for preset in presets}
    draw = random.Random(0)
    for number, preset in enumerate(presets):
        own = [n for n, family in enumerate(families) if _of(family, preset)]
        share = time.process_time() + (end - time.process_time()) / (len(presets) - number)
        wanted = max(1, min(_EACH, _NETWORKS // len(presets)))
        options = _options([families[n] for n in own], preset)
        for values, shapes in _drawn(cls, preset, options, wanted, draw, share):
            left += _givers({n: families[n] for n in own}, values, shapes)
        waiting -= set() if own else {preset.name}
    explained = [
        {
            p.name
            for p in presets
            if _of(family, p) and program_gives(family.program, p.values(), p.shapes)
        }
        for family in families
    ]
    # A preset that none of its families gives keeps one all the same.
    lost = {preset.name for preset in presets}.difference(*explained)
    for number, family in enumerate(families):
        explained[number] |= {p.name for p in presets if p.name in lost and _of(family, p)}
    found: list[int] = []
    worth = max(1, _WORTH * len(left))
    while True:
        gains: list[tuple[int, int]] = []
        for number in range(len(families)):
            count = sum(number in network for network in left)
            fresh = bool(explained[number] & waiting)
            if number not in found and (count >= worth or fresh):
                gains.append((count, -number))
        if not gains:
            return [texts[number] for number in found]
        best = -max(gains)[1]
        found.append(best)
        left = [network for network in left if best not in network]
        waiting -= explained[best]


def _givers(
    families: Mapping[int, Family], values: Mapping[str, Leaf], shapes: Shapes
) -> Iterator[set[int]]:
    """The families that give a network, and, of masks that only some give, those that do."""
    found = {n for n, family in families.items() if program_gives(family.program, values, shapes)}
    yield found
    masks = {key for key, (_, kind) in shapes.items() if kind == "float" and is_derived(key, kind)}
    shown = {n: len(masks & families[n].program.expand(values).keys()) for n in found}
    most = max(shown.values(), default=0)
    if most:
        yield {n for n in found if shown[n] == most}


def _of(family: Family, preset: Preset) -> bool:
    return any(name.partition("/")[2] == preset.name for name in family.presets)


def _options(families: Sequence[Family], preset: Preset) -> dict[str, list[Leaf]]:
    """What the families know of the preset's leaves, and its own value where others have it."""
    found: dict[str, list[Leaf]] = {}
    values = preset.values()
    for family in families:
        for path, options in family.options.items():
            if path in values:
                known = found.setdefault(path, [])
                more = [*options, family.leaves.get(path)]
                known += [v for v in more if v not in known and v != values[path]]
    return {path: options for path, options in found.items() if options}


def _drawn(
    cls: type[nn.Module],
    preset: Preset,
    options: Mapping[str, list[Leaf]],
    wanted: int,
    draw: random.Random,
    end: float,
) -> Iterator[tuple[dict[str, Leaf], Shapes]]:
    """Networks near a preset: their leaves, and keys and shapes. The first has one leaf moved, the
    next two, and so on to four."""
    found, own = 0, preset.values()
    for _ in range(_TRIES * wanted if options else 0):
        if found == wanted or time.process_time() > end:
            return
        paths = draw.sample(list(options), min(len(options), 1 + found % 4))
        moves = {path: drawn_leaf(draw, path, own[path], options[path]) for path in paths}
        try:
            config = moved(preset.config, moves)
            values = leaves_of_config(config)  # before the class edits what it's given
            shapes = shapes_of(on_meta(cls, config))
        except Exception:  # a library refuses values in its own ways
            continue
        if shapes != preset.shapes and all(0 not in shape for shape, _ in shapes.values()):
            found += 1
            yield values, shapes
