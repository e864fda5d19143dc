"""Which of a solution's leaves the file shows: those that can't be another known value with every
equation still fulfilled. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.families.inverse import inverted, known_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    pinned = _pinned(family, reading)
    hanging = {name for path in found for name in _hangs(path, solution, family, reading, pinned)}
    return found - hanging


def _pinned(family: Family, reading: Mapping[str, Sequence[Equation]]) -> set[str]:
    """The leaves that sizes say one after another, each the only one that isn't known yet; height
    and width, which are in one list, say each other, as they are taken to be equal."""
    sizes = [e for own in reading.values() for e in own if type(e.value) is int]
    waiting = {id(e): {n for n in e.names if n in family.options} for e in sizes}
    found: set[str] = set()
    more = True
    while more:
        alone = (names for names in waiting.values() if len({*map(_list_of, names)}) == 1)
        single = {name for names in alone for name in names}
        more = bool(single)
        found |= single
        waiting = {at: names - single for at, names in waiting.items() if names - single}
    return found


def _list_of(path: str) -> str:
    root, _, last = path.rpartition(".")
    return root if last in ("0", "1") else path


def _hangs(
    path: str,
    solution: Solution,
    family: Family,
    reading: Mapping[str, Sequence[Equation]],
    pinned: set[str],
) -> tuple[str, ...]:
    """A number, and one beside it for which it would be another: of 64 channels made of 16 pixels
    and 4 colours, one must be known for the other. Empty where there's none."""
    values = solution.values
    if type(values[path]) is not int or path in pinned:
        return ()
    for equation in (e for e in reading.get(path, ()) if type(e.value) is int):
        for name in equation.names:
            own = values.get(name)
            if _list_of(name) == _list_of(path) or name in pinned or type(own) is not int:
                continue
            if name not in family.options:
                continue
            for other in (*known_values(name, family), 2 * own, own // 2):
                if type(other) is not int or other in (own, 0):
                    continue
                env = {**values, name: other}
                number = inverted(equation, path, env)
                both = (*reading[path], *reading.get(name, ()))
                if number is not None and all(_fulfilled(e, {**env, path: number}) for e in both):
                    return path, name
    return ()


def _fulfilled(equation: Equation, values: dict[str, object]) -> bool:
    return equation.stands(values) is True and equation.holds(values)
