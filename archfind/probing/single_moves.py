"""The likeliest moves of one leaf, by what it does to a candidate's tensors."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from archfind.probing.candidate import ProbedArguments
from archfind.probing.config import Leaf, leaves_of_config, moved
from archfind.probing.misfit import axes, key_template, misfits
from archfind.probing.probe import Moves, Shapes
from archfind.probing.proposals import COUNT, alternates, coupled, leaf_name

_VOTED = 4  # values tried of those that slopes propose
_CHOICES = 24  # values tried of a leaf that isn't a number
_EIGHTHS = 21  # tried of a rate that counts
_LARGEST = 1 << 20
_WIDE = re.compile(r"size|dim|width|d_model|embd|channels")
_COUNTED = re.compile(r"layer|block|depth|stage|level")


def lengths(at: ProbedArguments, path: str, value: Any, wrong: set[str]) -> Iterator[Moves]:
    """Other lengths of a list, by as much as rows of keys are longer in the file; alone, and
    with the lists that are as long."""
    if not path.endswith(".#"):
        return
    own = axes(at.shapes)
    apart = Counter(at.axes.get(axis, 0) - own.get(axis, 0) for axis in {*at.axes, *own})
    del apart[0]
    group = coupled(leaves_of_config(moved(at.config, at.moves))).get(path, (path,))
    for more, _ in apart.most_common(_VOTED):
        if value + more > 0:
            yield {path: value + more}
            if len(group) > 1:
                yield dict.fromkeys(group, value + more)


def numbers(at: ProbedArguments, path: str, value: Any, wrong: set[str]) -> Iterator[Moves]:
    """Values for a number: where its slopes meet the file's sizes and counts."""
    if type(value) not in (int, float) or path.endswith(".#"):
        return
    group = coupled(leaves_of_config(moved(at.config, at.moves))).get(path, (path,))
    probe: Shapes | None = None
    other: Any = value
    paths: tuple[str, ...] = (path,)
    for step in alternates(path, value, at.known.get(path, ()))[:6]:
        if not isinstance(step, int | float) or isinstance(step, bool):
            continue
        for some in ((path,), group) if len(group) > 1 else ((path,),):
            shapes = at.built({**at.moves, **dict.fromkeys(some, step)})
            if shapes is not None and shapes != at.shapes:
                probe, other, paths = shapes, step, some
                break
            if shapes is not None:
                at.reach.setdefault(path, set())
        if probe is not None:
            break
    if probe is None:
        if path not in at.reach and isinstance(value, int):
            yield from _with_way(at, path, value)
        elif isinstance(value, int) and _COUNTED.search(leaf_name(path)):
            # From beyond the last layer no step may come among them.
            yield from _instead(path, value, range(1, COUNT + 1))
        elif isinstance(value, int) and _WIDE.search(path) and at.shapes.keys() - at.target.keys():
            yield from _instead(path, value, _coinciding(at, path))
        return
    reached = {key_template(k) for k in misfits(at.shapes, probe)}
    at.reach[path] = at.reach.get(path, set()) | reached
    if not reached & wrong:
        return
    votes = _votes(at, value, other, probe)
    proposed = [item for item, _ in votes.most_common(_VOTED)]
    if isinstance(value, int) and any(
        key_template(key) in reached for key in at.shapes.keys() - at.target.keys()
    ):
        proposed += _coinciding(at, path)
    if isinstance(value, int) and not proposed:
        proposed += [n for n in (value + 1, value - 1, value + 2, value - 2) if n > 0]
    if isinstance(value, float) and len(probe) != len(at.shapes):  # rounded counts
        proposed += [n / 8 for n in range(1, _EIGHTHS)]
    known = [v for v in at.known.get(path, ()) if type(v) in (int, float)]
    proposed += [v for v in known if v not in proposed][:_VOTED]
    # A count's effect may grow faster than any line: DLA's levels double the blocks.
    most = 2 * value + 4 if len(probe) != len(at.shapes) else 4 * value + 16
    for item in dict.fromkeys(min(item, most) for item in proposed):
        if item != value:
            yield dict.fromkeys(paths, item)


def _instead(path: str, value: int, others: Iterable[int]) -> Iterator[Moves]:
    for other in others:
        if other != value:
            yield {path: other}


def _coinciding(at: ProbedArguments, path: str) -> list[int]:
    """Sizes of other leaves, the file's commonest first: a projection between two widths goes where
    they are the same."""
    values = leaves_of_config(moved(at.config, at.moves))
    sizes = {v for p, v in values.items() if type(v) is int and v > COUNT and p != path}
    wanted = Counter(n for shape, _ in at.target.values() for n in {*shape} & sizes)
    return [size for size, _ in wanted.most_common(_VOTED)]


def _with_way(at: ProbedArguments, path: str, value: int) -> Iterator[Moves]:
    """A number that the class never takes alone at the sizes of what doesn't fit, with what has
    to give way for it: sixteen heads of 48 instead of twelve of 64."""
    sizes: Counter[int] = Counter()
    for key in misfits(at.shapes, at.target):
        own, wanted = at.shapes.get(key, ((), ""))[0], at.target.get(key, ((), ""))[0]
        if len(own) == len(wanted):
            sizes.update(b for a, b in zip(own, wanted, strict=True) if a != b)
    for size, _ in sizes.most_common(_VOTED):
        now = at.traced({**at.moves, path: size}) if size != value else None
        if now is not None:
            yield {p: v for p, v in now[0].items() if at.moves.get(p, at) != v}


def _votes(at: ProbedArguments, value: float, other: float, probe: Shapes) -> Counter[Any]:
    """Values at which a size, or a count of keys, would be the file's, by how many say so."""
    votes: Counter[Any] = Counter()
    whole = isinstance(value, int)

    def vote(now: int, then: int, wanted: int, weight: int = 1) -> None:
        if now in (then, wanted):
            return
        at = value + (wanted - now) * (other - value) / (then - now)
        if whole and at > 0.5:
            votes[round(at)] += weight
        elif not whole and at > 0:
            votes[float(f"{at:.6g}")] += weight
        if whole and min(now, then, wanted, value, other) > 1:  # an area, say
            power = math.log(then / now) / math.log(other / value)
            side = value * (wanted / now) ** (1 / power)
            if 1.5 < power < 4.5 and side < _LARGEST:
                votes[round(side)] += weight

    for key, (shape, _) in at.shapes.items():
        then, wanted = probe.get(key), at.target.get(key)
        if then and wanted and len(then[0]) == len(shape) == len(wanted[0]):
            for sizes in zip(shape, then[0], wanted[0], strict=True):
                vote(*sizes)
    now, then = axes(at.shapes), axes(probe)
    for axis in {*now, *then}:
        vote(now.get(axis, 0), then.get(axis, 0), at.axes.get(axis, 0), 2)
    return votes


def counts(at: ProbedArguments, path: str, value: Any, wrong: set[str]) -> Iterator[Moves]:
    """Every other value of a small number: what it does may be no line."""
    if type(value) is int and value <= COUNT and at.reach.get(path, set()) & wrong:
        for number in range(1, COUNT + 1):
            if number != value:
                yield {path: number}


def other_values(at: ProbedArguments, path: str, value: Leaf, wrong: set[str]) -> Iterator[Moves]:
    """Other values of a leaf that isn't a number, or isn't always one."""
    if type(value) in (int, float):
        others = (v for v in at.known.get(path, ()) if type(v) not in (int, float))
        yield from ({path: item} for item in others)
        return
    hints = [*at.known.get(path, ()), *at.hints.get(leaf_name(path), ())]
    reached, now = False, at.measured(at.moves)
    for item in alternates(path, value, hints)[:_CHOICES]:
        yield {path: item}
        reached |= at.measured({**at.moves, path: item}) != now
    if not reached:
        at.reach[path] = set()
