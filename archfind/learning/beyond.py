"""Networks of a class that none of its families gives, each the base of another family.

A family is made around one network with its switches turned one by one and in pairs. Where three go
together (an upsampler, the scale that it takes, the layers that are there then), a family around a
network that has two of them turned needs only the third.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from archfind.classes.program import Program
from archfind.learning.family import LearnedFamily, Preset, registered_values
from archfind.learning.grown import program_gives
from archfind.learning.traced_family import traced_family
from archfind.probing.config import Config, Leaf, leaves_of_config, moved
from archfind.probing.probe import Shapes, on_meta, shapes_of
from archfind.probing.proposals import alternates, annotated, leaf_name, literals

_TOGETHER = 4  # leaves moved at once, at most
_NETWORKS = 60  # drawn one after another and given by some family: then the class is known
_MOST = 10  # families beyond those of the presets
_VALUES = 10  # of a leaf
_KINDS = 0.5  # share of draws that move nothing but switches, words and lengths
_PAIR = 2  # items of a height and a width
_LONGEST = 400_000  # characters: a program beyond that tells cases, and no rule

Moves = dict[str, Leaf]


def further(
    cls: type[nn.Module], presets: Sequence[Preset], found: Sequence[LearnedFamily], seconds: float
) -> list[LearnedFamily]:
    """Families around networks near a class's first preset that neither `found` nor each other
    give; as many as come of `seconds`."""
    end = time.process_time() + seconds
    draw = random.Random(0)
    preset = presets[0]
    options = _options(cls, preset)
    programs = [Program(family.lines) for family in found]
    more: list[LearnedFamily] = []
    refused: list[Moves] = []
    while len(more) < _MOST:
        moves = _not_given(cls, preset, options, programs, refused, draw, end)
        if moves is None:
            break
        config = moved(preset.config, moves)
        base = Preset(preset.name, config, shapes_of(on_meta(cls, config)))
        left = (end - time.process_time()) / 3
        family = traced_family(base, cls, registered_values(presets), presets, left)
        if family is None or sum(map(len, family.lines)) > _LONGEST:
            refused.append(moves)
            continue
        alike = [one for one in family.presets[1:] if one.name != preset.name]
        more.append(replace(family, presets=[preset, *alike], around=leaves_of_config(config)))
        programs.append(Program(family.lines))
        if not program_gives(programs[-1], leaves_of_config(config), base.shapes):
            refused.append(moves)
    return more


def _options(cls: type[nn.Module], preset: Preset) -> dict[str, list[Leaf]]:
    """Values to draw for each leaf of a preset."""
    hints: dict[str, list[Leaf]] = {name: list(known) for name, known in literals(cls).items()}
    values = preset.values()
    for path, known in annotated(cls, values).items():
        hints.setdefault(path, []).extend(known)
    found: dict[str, list[Leaf]] = {
        path: alternates(path, value, hints.get(leaf_name(path), ()))[:_VALUES]
        for path, value in values.items()
    }
    for path, value in values.items():
        if path.endswith(".#") and type(value) is int and value > _PAIR:
            found[path] = [length for length in range(1, value + 2) if length != value]
    return {path: some for path, some in found.items() if some}


def _not_given(
    cls: type[nn.Module],
    preset: Preset,
    options: Mapping[str, Sequence[Leaf]],
    programs: Sequence[Program],
    refused: Sequence[Moves],
    draw: random.Random,
    end: float,
) -> Moves | None:
    """The fewest moves of those drawn that make a network which no program gives; None where many
    networks in a row are given, or time runs out."""
    right = 0
    values = preset.values()
    told = literals(cls)  # a number that the class compares with several is a switch
    kinds = [
        path
        for path in options
        if path.endswith(".#")
        or type(values[path]) in (bool, str)
        or len(told.get(leaf_name(path), ())) > 1
    ]
    while right < _NETWORKS and time.process_time() < end:
        from_few = kinds if kinds and draw.random() < _KINDS else list(options)
        paths = draw.sample(from_few, min(len(from_few), draw.randint(1, _TOGETHER)))
        moves = {path: draw.choice(options[path]) for path in paths}
        if any(one.items() <= moves.items() for one in refused):
            continue
        given = _is_given(cls, preset, moves, programs)
        right += given is True
        if given is not False:
            continue
        for path in list(moves):
            fewer = {p: v for p, v in moves.items() if p != path}
            if fewer and _is_given(cls, preset, fewer, programs) is False:
                moves = fewer
        return moves
    return None


def _is_given(
    cls: type[nn.Module], preset: Preset, moves: Moves, programs: Sequence[Program]
) -> bool | None:
    """Whether some program gives the network that the class makes of these moves; None where it
    makes none, or the preset's own tensors."""
    made = _made(cls, moved(preset.config, moves))
    if made is None or made[1] == preset.shapes:
        return None
    return any(program_gives(program, *made) for program in programs)


def _made(cls: type[nn.Module], config: Config) -> tuple[dict[str, Leaf], Shapes] | None:
    """The leaves of a config and what the class makes of them; None where it refuses them."""
    values = leaves_of_config(config)  # before the class edits what it's given
    try:
        shapes = shapes_of(on_meta(cls, config))
    except Exception:  # a library refuses values in its own ways
        return None
    return None if any(0 in shape for shape, _ in shapes.values()) else (values, shapes)
