"""A registered network with nothing but ordinary arguments moved. On the cold path of `archfind
guess`."""

from __future__ import annotations

from archfind.classes.inverse import other_side
from archfind.classes.ordinary_arguments import is_ordinary
from archfind.classes.shown import instead
from archfind.classes.solve import is_refuted, solved_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archfind.classes.equations import Equation
    from archfind.classes.notation import Family
    from archfind.classes.score import Solution
    from archfind.types import TensorSpec


def registered_presets(
    index: Mapping[str, TensorSpec],
    family: Family,
    near: Sequence[str],
    equations: Sequence[Equation],
) -> Solution | None:
    """The presets that give the whole file with nothing but ordinary arguments moved, as the
    solution of the first; its `fitting` names them all, those `near` before others. None where
    there is none: only then do other arguments have a reason to be moved."""
    free = {path for path in family.options if is_ordinary(path)}
    # A side that no tensor shows goes with the other.
    free |= {other_side(path) for path in free if other_side(path) in family.leaves}
    fixed = [one for one in equations if free.isdisjoint(one.names)]
    first: Solution | None = None
    names = [name for name in near if name in family.presets]
    for name in dict.fromkeys((*names, *family.presets)):
        values = {**family.leaves, **family.presets[name]}
        given = {path: value for path, value in values.items() if path not in free}
        if any(is_refuted(one, given) for one in fixed):
            continue
        solution = solved_with(index, family, equations, given, preset=name)
        if solution.score < 1:
            continue
        told = solution.solved & free
        if first is None:
            first = solution
            first.solved = told
        first.fitting[name] = {
            path: value
            for path, value in solution.values.items()
            if path in family.presets[name] or path in told
        }
    if first is not None:
        first.instead = instead(first, family, equations)
    return first
