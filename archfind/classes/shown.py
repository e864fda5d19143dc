"""Which of a solution's leaves the file shows: those that can't be another known value with every
equation still fulfilled. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.inverse import inverted, known_values, other_side
from archfind.classes.ordinary_arguments import is_ordinary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archfind.classes.equations import Equation
    from archfind.classes.notation import Family
    from archfind.classes.score import Solution


_FEW = 6  # values of a number that a rounded size leaves open


def shown_leaves(solution: Solution, family: Family, equations: Sequence[Equation]) -> set[str]:
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
                beside = _sides(name, values)
                env: dict[str, object] = {**values, **dict.fromkeys(beside, other)}
                number = inverted(equation, path, env)
                if number is None:
                    continue
                moved = _sides(path, values)
                env |= dict.fromkeys(moved, number)
                every = [e for leaf in (*moved, *beside) for e in reading.get(leaf, ())]
                if all(_fulfilled(e, env) for e in every):
                    return *moved, *beside
    return ()


def instead(
    solution: Solution, family: Family, equations: Sequence[Equation]
) -> dict[str, tuple[tuple[object, ...], tuple[str, ...]]]:
    """Numbers that may have been moved in place of an ordinary argument, with what each may be
    then, and the leaves that are as they were: 15 patches a side are those of 128 pixels 8 apart,
    or of 224 pixels 14 apart."""
    found: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {}
    values, preset = solution.values, family.presets[solution.preset]
    for path in (p for p in values if is_ordinary(p) and preset.get(p, values[p]) != values[p]):
        own = _sides(path, values)
        env = {**values, **{leaf: preset[leaf] for leaf in own if leaf in preset}}
        reading = [e for e in equations if not {*own}.isdisjoint(e.names) and type(e.value) is int]
        broken = [e for e in reading if e.stands(env) is True and not e.holds(env)]
        names = {name for e in broken for name in e.names}
        for name in sorted(n for n in names if n in family.options and not is_ordinary(n)):
            number = inverted(broken[0], name, env) if name in broken[0].names else None
            if number is None or type(number) is not int:
                continue
            beside = _sides(name, values)
            every = [e for e in equations if not {*own, *beside}.isdisjoint(e.names)]
            every = [e for e in every if _fulfilled(e, values)]
            others = [
                n
                for n in range(number, number + _FEW)
                if all(_fulfilled(e, {**env, **dict.fromkeys(beside, n)}) for e in every)
            ]
            if others:
                found[name] = tuple(others), own
    return found


def _sides(path: str, values: dict[str, object]) -> tuple[str, ...]:
    """The leaf, with the other side of what is a square."""
    other = other_side(path)
    return (path, other) if other and values.get(other) == values[path] else (path,)


def _fulfilled(equation: Equation, values: dict[str, object]) -> bool:
    return equation.stands(values) is True and equation.holds(values)
