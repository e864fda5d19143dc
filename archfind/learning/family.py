"""A class of networks -> families: programs that give the tensors of every network that the class
builds, each learned from one base network and checked on others.

What a leaf does is learned or left alone: where the program is wrong for networks in which a leaf
is moved, the leaf is held at its base value, and the rest is learned again without it. Presets that
hold another value there start a family of their own.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from archfind.classes.program import Program
from archfind.learning.learn import Blame, Learner
from archfind.probing.config import Config, Leaf, leaves_of_config
from archfind.probing.probe import Probe, Sample, Shapes, draw_random, explore_leaves, small

_ROUNDS = 12
_HELD_BACK = 12
_REPAIRS = 3  # times that a program is learned again with what it was wrong about


@dataclass(frozen=True)
class Preset:
    """A registered network: the arguments that its class got, and what it holds."""

    name: str
    config: Config
    shapes: Shapes

    def values(self) -> dict[str, Leaf]:
        return leaves_of_config(self.config)


@dataclass(frozen=True)
class LearnedFamily:
    """A program; the leaves that it reads, with the values that the class accepts; the presets that
    it explains, or are moved to what it does; how many networks that it was not made from it gets
    right, of how many; the leaves of the network that it was made around if that's no preset."""

    base: str
    lines: list[str]
    options: dict[str, list[Leaf]]
    presets: list[Preset]
    right: int
    held: int
    around: Mapping[str, Leaf] | None = None


def families(
    make: Callable[..., nn.Module],
    cls: type[nn.Module],
    presets: Sequence[Preset],
    seconds: float,
    most: int = 8,
) -> list[LearnedFamily]:
    """Families that explain the presets of a class, from the smallest preset on; fewer where the
    class can't be called again, or time runs out. `make` takes the config."""
    known = registered_values(presets)
    left = sorted(presets, key=lambda preset: len(preset.shapes))
    found: list[LearnedFamily] = []
    end = time.process_time() + seconds
    waiting = left
    while waiting and len(found) < most and time.process_time() < end:
        base, *waiting = waiting
        others = [preset for preset in left if preset is not base]
        family = _smallest(base, make, cls, known, others, seconds / 3)
        if family is not None:
            found.append(family)
            covered = {preset.name for preset in family.presets}
            left = [preset for preset in left if preset.name not in covered]
            waiting = [preset for preset in waiting if preset.name not in covered]
    return found


def registered_values(presets: Sequence[Preset]) -> dict[str, list[Leaf]]:
    """The values that each leaf has in a class's registered networks."""
    known: dict[str, list[Leaf]] = {}
    for preset in presets:
        for path, value in preset.values().items():
            if value not in known.setdefault(path, []):
                known[path].append(value)
    return known


def _smallest(
    base: Preset,
    make: Callable[..., nn.Module],
    cls: type[nn.Module],
    known: Mapping[str, list[Leaf]],
    others: Sequence[Preset],
    seconds: float,
) -> LearnedFamily | None:
    """The family around a preset, learned with fewer blocks if that goes."""
    for config in (lambda: small(make, base.config), lambda: base.config):
        try:
            probe = Probe(make, config())
        except ValueError:  # the class doesn't build again from what it was given
            return None
        family = _family(base, probe, cls, known, others, seconds)
        if family is not None:
            return family
    return None


def _family(
    base: Preset,
    probe: Probe,
    cls: type[nn.Module],
    known: Mapping[str, list[Leaf]],
    others: Sequence[Preset],
    seconds: float,
) -> LearnedFamily | None:
    """The family around one preset, of the leaves that `explore` moves."""
    end = time.process_time() + 4 * seconds
    visible = explore_leaves(probe, cls, known, seconds)
    # The base at its own size stands beside the small networks, as one with its sizes moved. It is
    # held back, unless more blocks than those have show another rule.
    grown = {p: v for p, v in base.values().items() if probe.base.get(p, v) != v}
    real = Sample(base.values(), base.shapes, grown)
    fixed: set[str] = set()
    found = LearnedFamily(base.name, [], {}, [], 0, 0)
    for number in range(_REPAIRS + 1):
        # Those drawn last are among them, also the ones that the program was wrong about.
        lines = _program(probe.samples(), real, visible, fixed, max(20, seconds), end)
        free = {path: values for path, values in visible.items() if path not in fixed}
        if lines is None or not free:
            return None
        for path, values in free.items():
            if probe.base[path] != base.values().get(path) and probe.base[path] not in values:
                values.append(probe.base[path])  # the small network's own
        draw = random.Random(number + 1)
        fresh = draw_random(probe, free, _HELD_BACK, draw, time.process_time() + seconds)
        right = sum(explains(Program(lines), sample) for sample in fresh)
        found = LearnedFamily(base.name, lines, free, [base], right, len(fresh))
        if right == len(fresh) or time.process_time() > end:
            break
    program = Program(found.lines)
    if not _is_built(program, base.values(), base.shapes):
        return None  # how deep it is was left alone, at the small network's depth
    alike = [p for p in others if _is_built(program, p.values(), p.shapes)]
    return replace(found, presets=[base, *alike])


def _program(
    samples: Sequence[Sample],
    real: Sample,
    visible: Mapping[str, list[Leaf]],
    fixed: set[str],
    seconds: float,
    end: float,
) -> list[str] | None:
    """A program that is right for every sample in which no leaf of `fixed` is moved. Leaves whose
    rule isn't found join `fixed`."""
    held_back = True
    for _ in range(_ROUNDS):
        free = [path for path in visible if path not in fixed]
        samples = [s for s in samples if not fixed & s.moves.keys()]
        asked = samples if fixed & real.moves.keys() else [*samples, real]
        try:
            lines = Learner(samples if held_back else asked, free, seconds).learn()
        except Blame as blame:
            fixed |= blame.paths
            continue
        program = Program(lines)
        wrong = [sample for sample in asked if not explains(program, sample)]
        if not wrong:
            return lines
        if wrong == [real] and held_back:
            held_back = False
            continue
        fixed |= _culprits(asked, wrong)
        if time.process_time() > end:
            break
    return None


def _culprits(samples: Sequence[Sample], wrong: Sequence[Sample]) -> set[str]:
    """The leaves that the program is wrong about: alone where it can be seen, else the one that
    most of the wrong networks have moved."""
    bad = {id(sample) for sample in wrong}
    for count in (1, 2, 3):
        alone = [s for s in samples if len(s.moves) == count]
        total = Counter(path for s in alone for path in s.moves)
        failed = Counter(path for s in alone if id(s) in bad for path in s.moves)
        if failed:
            if count == 1:
                return set(failed)
            return {max(failed, key=lambda path: (failed[path] / total[path], failed[path]))}
    total = Counter(path for s in samples for path in s.moves)
    failed = Counter(path for s in wrong for path in s.moves)
    return {max(failed, key=lambda p: (failed[p] / total[p], failed[p]))} if failed else set()


def explains(program: Program, sample: Sample) -> bool:
    """Whether the program gives exactly the sample's tensors."""
    return _is_built(program, sample.values, sample.shapes)


def _is_built(program: Program, values: Mapping[str, Leaf], shapes: Shapes) -> bool:
    try:
        return program.expand(values) == shapes
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return False
