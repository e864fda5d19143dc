"""Numbers that are assumed, as far as a file's sizes allow them. On the cold path of
`archfind guess`."""

from __future__ import annotations

from archfind.classes.inverse import COUNT, inverted, known_values, values_that_hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from archfind.classes.equations import Equation
    from archfind.classes.notation import Family

    Values = dict[str, Any]

_PAIRS = 4  # sizes that two leaves make together, looked at before one is assumed


def possible(
    path: str, value: Any, equations: Sequence[Equation], values: Values, family: Family
) -> Any:
    """The preset's value, or where the file's keys rule that out, one that they allow."""
    allowed: list[Any] | None = None
    for equation in equations:
        if {name for name in equation.names if name not in values} == {path}:
            found = values_that_hold(equation, path, values, family)
            both = found if allowed is None else [n for n in allowed if n in found]
            allowed = both or allowed  # an equation that contradicts the others is outvoted
    return value if not allowed or value in allowed else allowed[0]


def agreeing(
    path: str, value: Any, equations: Sequence[Equation], values: Values, family: Family
) -> Any:
    """The value, or where what it leaves for another leaf of the same size can't be (18 channels
    are no 3 of some number of pixels squared), the first for which that can."""
    beside = {
        equation: next(iter(rest))
        for equation in equations
        if type(equation.value) is int
        and len(rest := {n for n in equation.names if n not in values} - {path}) == 1
        and path in equation.names
    }
    some = list(beside.items())[:_PAIRS]

    def leaves_some(number: Any) -> bool:
        env = {**values, path: number}
        return all(inverted(one, other, env) is not None for one, other in some)

    if type(value) is not int or not some or leaves_some(value):
        return value
    tried = [*known_values(path, family), *range(1, COUNT + 1)]
    return next((n for n in tried if type(n) is int and leaves_some(n)), value)
