"""A network of a family and a state dict near it: the fewest of its leaves moved until its
equations hold. Surer than solving from nothing where the file is a known network with a change or
two, as most are. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.inverse import known_values, other_side, side, values_for
from archfind.classes.ordinary_arguments import is_ordinary
from archfind.classes.score import Solution, score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.classes.equations import Equation
    from archfind.classes.notation import Family
    from archfind.types import TensorSpec

    Values = dict[str, Any]

_ROUNDS = 24  # leaves moved
_TRIED = 6  # values of a leaf for one equation
_OPEN = 0.5  # share of the votes that may be against the network as it is


def adjusted(
    index: Mapping[str, TensorSpec],
    family: Family,
    start: Solution,
    equations: Sequence[Equation],
    exact: bool = False,
) -> Solution | None:
    """The start with the leaves moved by which most equations come to hold, one after another; None
    where it is too far from the file, or with `exact` where not all of them do."""
    values: Values = dict(start.values)
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
        best: tuple[bool, int, bool, bool, Values] = False, 0, False, False, {}
        tried: set[str] = set()
        for one in equations:
            if state[id(one)] is not False:
                continue
            for name in one.names:
                if name[-1] == "?":
                    continue  # a place in a list, which stands as it is here
                for move in _moves(one, name, values, family):
                    if repr(move) in tried:
                        continue
                    tried.add(repr(move))
                    beside = {**values, **move}
                    gain = sum(
                        other.votes * ((_state(other, beside) is True) - (state[id(other)] is True))
                        for other in _reading(reading, move)
                    )
                    # What people change comes first; of leaves that do as much, one that was
                    # moved already, or gets a usual value.
                    usual = move[name] in known_values(name, family)
                    told = is_ordinary(name), gain, name in moved, usual
                    if gain > 0 and told > best[:4]:
                        best = *told, move
        if not best[1]:
            break
        values |= best[4]
        moved |= best[4].keys()
        for other in _reading(reading, best[4]):
            state[id(other)] = _state(other, values)
    if exact and any(state[id(one)] is False and type(one.value) is int for one in equations):
        return None  # a size or a count that is another
    seen = {name for one in equations if state[id(one)] for name in one.names}
    solution = Solution(values, moved | (seen & set(family.options)), start.preset)
    score(index, family, solution)
    return solution


def _moves(equation: Equation, name: str, values: Values, family: Family) -> list[Values]:
    """What a leaf can be for an equation to hold; where height and width are the same, both at
    once, as long as a square does."""
    other = other_side(name)
    is_size = type(equation.value) is int
    if is_size and other in equation.names and values.get(name) == values.get(other):
        both = side(equation, name, values)
        square = {name: both, other: both} if name < other else {other: both, name: both}
        if equation.holds({**values, **square}):
            return [square]
    found = values_for(equation, name, values, family)[:_TRIED]
    moves = [{name: value} for value in found if value != values.get(name)]
    if is_size and other in values and values[other] == values.get(name):
        moves += [{**move, other: move[name]} for move in moves]
    return moves


def _reading(reading: Mapping[str, list[Equation]], move: Values) -> list[Equation]:
    """The equations that read any of the leaves that are moved, each once."""
    every = {id(one): one for name in move for one in reading.get(name, ())}
    return list(every.values())


def _state(equation: Equation, values: Values) -> bool | None:
    """Whether an equation holds; None where no line that says it is in the network."""
    return equation.holds(values) if equation.stands(values) is not False else None
