"""A network of a family and a state dict near it: the fewest of its leaves moved until its
equations hold. Surer than solving from nothing where the file is a known network with a change or
two, as most are. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.families.inverse import known_values, values_for
from archfind.families.score import Solution, score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.families.equations import Equation
    from archfind.families.text import Family
    from archfind.types import TensorSpec

_ROUNDS = 24  # leaves moved
_TRIED = 6  # values of a leaf for one equation
_OPEN = 0.5  # share of the votes that may be against the network as it is


def adjusted(
    index: Mapping[str, TensorSpec],
    family: Family,
    start: Solution,
    equations: Sequence[Equation],
) -> Solution | None:
    """The start with the leaves moved by which most equations come to hold, one after another; None
    where it is too far from the file."""
    values: dict[str, Any] = dict(start.values)
    equations = [one for one in equations if one.names]
    reading: dict[str, list[Equation]] = {}
    for one in equations:
        for name in dict.fromkeys((*one.names, *one.switches())):
            reading.setdefault(name, []).append(one)
    # of the lines that are in the network: whether what they say holds
    state = {id(one): _state(one, values) for one in equations}
    standing = [one for one in equations if state[id(one)] is not None]
    against = sum(one.votes for one in standing if not state[id(one)])
    if against > _OPEN * sum(one.votes for one in standing):
        return None
    moved = set(start.solved)
    for _ in range(_ROUNDS):
        best: tuple[int, bool, bool, str, Any] = 0, False, False, "", None
        tried: set[tuple[str, str]] = set()
        for one in equations:
            if state[id(one)] is not False:
                continue
            for name in one.names:
                if name[-1] == "?":
                    continue  # a place in a list, which stands as it is here
                for value in values_for(one, name, values, family)[:_TRIED]:
                    if (name, repr(value)) in tried or value == values.get(name):
                        continue
                    tried.add((name, repr(value)))
                    beside = {**values, name: value}
                    gain = sum(
                        other.votes * ((_state(other, beside) is True) - (state[id(other)] is True))
                        for other in reading[name]
                    )
                    # of leaves that do as much, one that was moved already, or gets a usual value
                    told = gain, name in moved, value in known_values(name, family)
                    if gain and told > best[:3]:
                        best = *told, name, value
        if not best[0]:
            break
        *_, name, value = best
        values[name] = value
        moved.add(name)
        for other in reading[name]:
            state[id(other)] = _state(other, values)
    seen = {name for one in equations if state[id(one)] for name in one.names}
    solution = Solution(values, moved | (seen & set(family.options)), start.preset)
    score(index, family, solution)
    return solution


def _state(equation: Equation, values: dict[str, Any]) -> bool | None:
    """Whether an equation holds; None where no line that says it is in the network."""
    return equation.holds(values) if equation.stands(values) is not False else None
