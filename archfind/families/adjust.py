"""A network of a family and a state dict near it: the fewest of its leaves moved until its
equations hold. Surer than solving from nothing where the file is a known network with a change or
two, as most are. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.families.solve import Solution, score, values_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.families.equations import Equation
    from archfind.families.text import Family
    from archfind.types import TensorSpec

_ROUNDS = 24  # leaves moved
_OPEN = 0.5  # share of the votes that may be against the network as it is


def adjusted(
    index: Mapping[str, TensorSpec], family: Family, preset: str, equations: Sequence[Equation]
) -> Solution | None:
    """The preset with the leaves moved by which most equations come to hold, one after another;
    None where it is too far from the file."""
    values: dict[str, Any] = {**family.leaves, **family.presets[preset]}
    equations = [one for one in equations if one.names]
    reading: dict[str, list[Equation]] = {}
    for one in equations:
        for name in one.names:
            reading.setdefault(name, []).append(one)
    holding = {id(one): one.holds(values) for one in equations}
    against = sum(one.votes for one in equations if not holding[id(one)])
    if against > _OPEN * sum(one.votes for one in equations):
        return None
    moved: set[str] = set()
    for _ in range(_ROUNDS):
        best: tuple[int, str, Any] = 0, "", None
        tried: set[tuple[str, str]] = set()
        for one in equations:
            if holding[id(one)]:
                continue
            for name in one.names:
                for value in values_for(one, name, values, family)[:2]:
                    if (name, repr(value)) in tried or value == values.get(name):
                        continue
                    tried.add((name, repr(value)))
                    beside = {**values, name: value}
                    gain = sum(
                        other.votes * (other.holds(beside) - holding[id(other)])
                        for other in reading[name]
                    )
                    # of leaves that do as much, one that was moved already
                    if gain > best[0] or (gain == best[0] and gain and name in moved):
                        best = gain, name, value
        if not best[0]:
            break
        _, name, value = best
        values[name] = value
        moved.add(name)
        for other in reading[name]:
            holding[id(other)] = other.holds(values)
    seen = {name for one in equations if holding[id(one)] for name in one.names}
    solution = Solution(values, moved | (seen & set(family.options)), preset)
    score(index, family, solution)
    return solution
