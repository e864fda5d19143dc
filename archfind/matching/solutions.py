"""What the families that resemble a state dict come to: each solved from the nearest entries, or
from nothing, and bettered where it nearly fits. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.adjust import adjusted
from archfind.classes.equations import equations_of
from archfind.classes.notation import numbered_template
from archfind.classes.polish import polished
from archfind.classes.registered import registered_presets
from archfind.classes.score import Solution
from archfind.classes.shown import shown_leaves
from archfind.classes.solve import solve
from archfind.state_dicts.canonical import is_table, kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archfind.classes.equations import Equation
    from archfind.classes.notation import Family
    from archfind.database.classes import Families
    from archfind.types import TensorSpec
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]

_KEPT = 8  # state dicts with what families came to
_NEARLY = 0.9  # share of tensors
_BEHIND = 0.2  # share by which a family may be behind the best, and still be worth a search ...
_POLISHED = 4  # ... of so many
_NEAR = 3  # presets that are adjusted, of one family
_OTHER_RANKS = 0.1  # share of tensors that may have other dimensions than a family's

_solved: dict[tuple[object, ...], list[tuple[int, Solution]]] = {}


def solutions(
    index: Index, families: Families, choose: str, near: Sequence[str], work: Work
) -> list[tuple[int, Solution]]:
    """What the families that resemble a state dict come to, each with its number. The last few are
    kept: a file that is hard to explain is asked about again, as another's part or under a head."""
    by_identity = families, choose, tuple(near), id(index)
    if by_identity not in work.kept:
        tensors = tuple((k, s.shape, s.dtype) for k, s in index.items())
        # Kept with the index, so that nothing else gets its identity.
        work.kept[by_identity] = _of_tensors((*by_identity[:3], tensors), index, work), index
    return work.kept[by_identity][0]


def _of_tensors(
    asked_for: tuple[Families, str, tuple[str, ...], tuple[object, ...]], index: Index, work: Work
) -> list[tuple[int, Solution]]:
    families, choose, near, _ = asked_for
    found = _solved.get(asked_for, work.kept.get(asked_for))
    if found is None:
        found = work.kept[asked_for] = _solutions(index, families, choose, near, work)
        if not work.is_spent:
            for oldest in list(_solved)[: len(_solved) + 1 - _KEPT]:
                _solved.pop(oldest, None)
            _solved[asked_for] = found
    return found


def _solutions(
    index: Index, families: Families, choose: str, near: Sequence[str], work: Work
) -> list[tuple[int, Solution]]:
    solved: list[tuple[int, Solution]] = []
    asked: dict[int, Sequence[Equation]] = {}
    done: set[str] = set()
    whole: set[int] | None = None
    for number in families.resembling(index, near):
        if whole is not None and number not in whole:
            continue  # one that lacks keys is no rival of a network that has all of them
        family = families.known(number).family
        if not work.allows(len(index) + len(family.program.lines)):
            break
        solution = None
        if family.cls not in done and not _is_of_other_ranks(index, family):
            equations = list(equations_of(index, family))
            solution = registered_presets(index, family, near, equations)
            solution = solution or _close_to(index, family, near, equations)
            solution = solution or solve(index, family, equations)
            asked[number] = equations
        if solution is None:
            continue
        solved.append((number, solution))
        if _is_whole(index, solution) and not choose:
            done.add(family.cls)  # another family of the class could only say the same
        if whole is None and (done or _has_every_tensor(index, solution)):
            whole = families.covering(key for key, s in index.items() if not is_table(key, kind(s)))
    best = max((solution.score for _, solution in solved), default=0.0)
    polishings = 0
    settled: list[tuple[int, Solution]] = []
    for number, first in sorted(solved, key=lambda item: -item[1].score):
        known = families.known(number)
        solution = first
        if first.score < 1 and known.family.cls not in done:
            # Beside one that fits, only what nearly does is worth the search.
            worth = first.score > _NEARLY or (not done and first.score > best - _BEHIND)
            lines = len(known.family.program.lines)
            if worth and polishings < _POLISHED and work.allows(2 * (len(index) + lines)):
                polishings += 1
                solution = _bettered(index, known.family, first, asked[number], work)
            if _is_whole(index, solution) and not choose:
                done.add(known.family.cls)
        if solution.score == 1 and not solution.fitting:
            solution.solved = shown_leaves(solution, known.family, asked[number])
        settled.append((number, solution))
    return settled


def unexplained_masks(index: Index, solution: Solution) -> int:
    """How many masks of the file a solution doesn't explain. The library makes them, but their
    shapes may say what no weight does."""
    left = (spec for key, spec in index.items() if key not in solution.expected)
    return sum(kind(spec) == "float" for spec in left)


def _is_whole(index: Index, solution: Solution) -> bool:
    return solution.score == 1 and not unexplained_masks(index, solution)


def _has_every_tensor(index: Index, solution: Solution) -> bool:
    """Whether a network that nearly fits has all of the file's tensors, and a few more."""
    expected = solution.expected
    return solution.score > _NEARLY and all(
        key in expected and expected[key][0] == spec.shape
        for key, spec in index.items()
        if not is_table(key, kind(spec))
    )


def _is_of_other_ranks(index: Index, family: Family) -> bool:
    """Whether tensors that the family has by name have other dimensions there, as the kernels of a
    network for volumes have where the family is for pictures."""
    wrong = 0
    for key, spec in index.items():
        ranks = family.ranks.get(numbered_template(key))
        wrong += ranks is not None and len(spec.shape) not in ranks
    return wrong > _OTHER_RANKS * len(index)


def _bettered(
    index: Index, family: Family, solution: Solution, equations: Sequence[Equation], work: Work
) -> Solution:
    """A solution that nearly fits, with a few leaves moved: to where equations hold, or to where
    more tensors fit."""
    found = adjusted(index, family, solution, equations)
    if found is not None and found.score > solution.score:
        solution = found
    return polished(index, family, solution, work, equations) if solution.score < 1 else solution


def _close_to(
    index: Index, family: Family, near: Sequence[str], equations: Sequence[Equation]
) -> Solution | None:
    """A solution from one of the entries `near`, if it fits."""
    for name in [name for name in near if name in family.presets][:_NEAR]:
        start = Solution({**family.leaves, **family.presets[name]}, set(), name)
        found = adjusted(index, family, start, equations, exact=True)
        if found is not None and found.score == 1:
            return found
    return None
