"""A solution that nearly fits, bettered: other values for the leaves behind what doesn't. On the
cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.equations import equations_of
from archfind.classes.inverse import COUNT, known_values
from archfind.classes.notation import numbered_template, template_of
from archfind.classes.score import Solution, is_kind, moves_tensors, score
from archfind.classes.solve import solved_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.classes.equations import Equation
    from archfind.classes.notation import Family
    from archfind.types import TensorSpec
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]
    Values = dict[str, Any]

_SOLVED_AGAIN = 5_000  # tensors, by all that solving again for one family
_SOLVING = 3  # times the steps of an expansion
_EXPANSIONS = 80
_EXPANDED = 24_000  # keys or lines, by all expansions for one family
_LIKELY = 0.8  # share of tensors that fit
_HOPELESS = 0.5  # of less, nothing was ever made that fits
_RESOLVED = 0.6  # from here on everything is solved again for other switches


def polished(
    index: Index,
    family: Family,
    solution: Solution,
    work: Work,
    equations: Sequence[Equation] | None = None,
) -> Solution:
    """Other values for the leaves behind what doesn't fit, kept where more fits. Most files are of
    no family, so the work is bounded by how much fits already, and for all of a file. `equations`
    are those of `equations_of`, where they are known already."""
    each = len(index) + len(family.program.lines)
    tries = 0
    better = solution.score > _HOPELESS
    while better and solution.score < 1:
        better = False
        for path in _implicated(index, family, solution):
            for value in known_values(path, family):
                most = _EXPANDED if solution.score > _LIKELY else _EXPANDED // 5
                rest = solution.expected if solution.score > _LIKELY else family.program.lines
                if tries * (len(index) + len(rest)) > most or tries >= _EXPANSIONS:
                    return solution
                if value == solution.values.get(path):
                    continue
                tries += 1
                if not work.allows_bettering(each):
                    return solution
                if not moves_tensors(family, solution, path, value):
                    continue
                other = Solution({**solution.values, path: value}, solution.solved, solution.preset)
                score(index, family, other, beside=solution)
                if other.score > solution.score:
                    other.solved = solution.solved | {path}
                    solution, better = other, True
            if solution.score == 1:
                break
    if _RESOLVED < solution.score < 1:
        return _switched(index, family, solution, work, equations)
    return solution


def _switched(
    index: Index,
    family: Family,
    solution: Solution,
    work: Work,
    equations: Sequence[Equation] | None,
) -> Solution:
    """Switches turned one after another, everything else solved anew for each: a switch may change
    which numbers a size is made of."""
    if equations is None:
        equations = list(equations_of(index, family))
    given: Values = {}
    tries = 0
    better = True
    while better and solution.score < 1:
        better = False
        for path in _implicated(index, family, solution):
            for value in known_values(path, family):
                number = type(value) in (int, float) and not (type(value) is int and value <= COUNT)
                if number or value == solution.values.get(path):
                    continue
                each = _SOLVING * (len(index) + len(family.program.lines))
                if tries * len(index) > _SOLVED_AGAIN or not work.allows_bettering(each):
                    return solution
                tries += 1
                other = solved_with(index, family, equations, {**given, path: value})
                if other.score > solution.score:
                    solution, better, given = other, True, {**given, path: value}
                    break
            if solution.score == 1:
                break
    return solution


def _implicated(index: Index, family: Family, solution: Solution) -> list[str]:
    """Leaves that the lines behind a misfit read."""
    wrong: set[str] = set()
    for key, (shape, dtype) in solution.expected.items():
        spec = index.get(key)
        if spec is None or spec.shape != shape or not is_kind(spec, dtype):
            wrong.add(numbered_template(key))
    wrong |= {numbered_template(key) for key in index if key not in solution.expected}
    found: dict[str, None] = {}
    for line in family.program.lines:
        if template_of(line) not in wrong:
            continue
        for expression in (*line.sizes, line.condition, *(p.bound for p in line.parts)):
            for name in expression.names if expression is not None else ():
                start = name.partition("{")[0]
                if start:
                    found.update(dict.fromkeys(p for p in family.options if p.startswith(start)))
    return list(found)
