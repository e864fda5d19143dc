"""Which of a solution's leaves the file shows: those that can't be another known value with every
equation still fulfilled. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.families.inverse import known_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.families.equations import Equation
    from archfind.families.score import Solution
    from archfind.families.text import Family


def shown(solution: Solution, family: Family, equations: Sequence[Equation]) -> set[str]:
    """The leaves of `solved` less those that another known value would do for: how many heads share
    a width, say."""
    reading: dict[str, list[Equation]] = {}
    for equation in equations:
        if _fulfilled(equation, solution.values):
            for name in dict.fromkeys((*equation.names, *equation.switches())):
                reading.setdefault(name, []).append(equation)
    found: set[str] = set()
    for path in solution.solved:
        own = solution.values[path]
        others = (v for v in known_values(path, family) if v != own or type(v) is not type(own))
        if path not in reading or not any(
            all(_fulfilled(one, {**solution.values, path: value}) for one in reading[path])
            for value in others
        ):
            found.add(path)
    return found


def _fulfilled(equation: Equation, values: dict[str, object]) -> bool:
    return equation.stands(values) is True and equation.holds(values)
