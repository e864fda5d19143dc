"""What a guess costs: only what changed is expanded, rows of layers by their ends, and there is a
bound."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hostile.keys import bert, vit

from archfind.classes.equations import ERRORS, repeats
from archfind.classes.expansion import Expansion, TooManyPlaces
from archfind.classes.inverse import known_values
from archfind.classes.notation import Family
from archfind.classes.program import Program
from archfind.classes.score import Solution, differing, keeps_tensors, score
from archfind.database import entries
from archfind.database.classes import Families, families_beside
from archfind.matching.identify import guess_checkpoint, in_state_dict
from archfind.types import Canonical, Checkpoint, Storage, TensorSpec
from archfind.work import Work

pytestmark = pytest.mark.light

NOWHERE = Storage("", "", -1, 0)
SEEDS = range(40)


def families() -> Families:
    found = families_beside(entries.default().path)
    assert found is not None
    return found


def drawn(seed: int) -> tuple[random.Random, Family, dict[str, Any]]:
    """A family, and the leaves of one of its networks."""
    draw = random.Random(seed)
    family = families().known(draw.randrange(len(families()))).family
    return draw, family, dict(family.presets[draw.choice(sorted(family.presets))])


def moved(draw: random.Random, family: Family, values: dict[str, Any]) -> dict[str, Any]:
    """The values with a few leaves at others that they are known to take, or near them."""
    paths = sorted(p for p in values if p in family.options)
    changed = dict(values)
    for path in draw.sample(paths, min(len(paths), draw.randint(1, 3))):
        others = [v for v in known_values(path, family) if v != values[path]]
        if type(values[path]) is int:
            others += [values[path] + 1, 2 * values[path]]
        changed[path] = draw.choice(others) if others else values[path]
    return changed


def index_of(family: Family, values: dict[str, Any]) -> dict[str, TensorSpec]:
    return {
        key: TensorSpec("float32" if dtype == "float" else dtype, shape, NOWHERE)
        for key, (shape, dtype) in family.program.expand(values).items()
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_lines_expanded_where_values_differ_are_as_all_of_them(seed: int) -> None:
    draw, family, values = drawn(seed)
    index = index_of(family, values)
    start = Solution(dict(values), set(), "")
    score(index, family, start)
    assert start.score == 1 and start.rows
    for _ in range(6):
        others = moved(draw, family, values)
        near, plain = Solution(dict(others), set(), ""), Solution(dict(others), set(), "")
        score(index, family, near, beside=start)
        score(index, family, plain)
        # Beside a solution that fits, one that can't be better isn't followed to its end.
        assert near.score == plain.score or plain.score <= start.score
        if near.rows:
            assert near.rows == plain.rows and near.expected == plain.expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_better_solution_is_never_given_up(seed: int) -> None:
    draw, family, values = drawn(seed)
    index = index_of(family, values)
    for _ in range(4):
        start = Solution(moved(draw, family, values), set(), "")
        score(index, family, start)
        if not start.rows or start.score == 1:
            continue
        right = Solution(dict(values), set(), "")
        score(index, family, right, beside=start)
        assert right.score == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_moved_leaves_keep_tensors_or_dont_as_both_expansions_say(seed: int) -> None:
    draw, family, values = drawn(seed)
    index = index_of(family, values)
    start = Solution(dict(values), set(), "")
    score(index, family, start)
    for _ in range(6):
        others = moved(draw, family, values)
        told = keeps_tensors(family, start, others, differing(others, values))
        try:
            same = list(family.program.tensors(others)) == list(family.program.tensors(values))
        except ERRORS:
            assert told is not True
            continue
        assert told in (same, None)


@pytest.mark.parametrize("seed", SEEDS)
def test_programs_contracted_alike_expand_alike(seed: int) -> None:
    draw, family, values = drawn(seed)
    own = family.program.contracted(values)
    for _ in range(6):
        others = moved(draw, family, values)
        if own is not None and family.program.contracted(others) == own:
            assert family.program.expand(others) == family.program.expand(values)


def plainly(lines: list[str], values: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of lines with one repeat, each place of it asked."""
    for line in Program(lines).lines:
        for number in range(values["depth"]):
            env = {**values, "{i}": number, "{i#}": values["depth"]}
            if line.condition is None or line.condition.value(env):
                shape = tuple(int(size.value(env)) for size in line.sizes)
                yield line.pattern.replace("{i<depth}", str(number)), shape


@pytest.mark.parametrize("depth", (0, 1, 3, 4, 9))
def test_a_place_that_a_condition_names_is_gone_to_at_once(depth: int) -> None:
    lines = [
        "layers.{i<depth}.a.weight  width  if {i} == 3",
        "layers.{i<depth}.b.weight  {i}+width  if {i} == 0 and width == 7",
        "layers.{i<depth}.c.weight  width  if {i} == 2 or {i} == 4",
        "layers.{i<depth}.d.weight  width  if {i} == 1 and (width == 8 or {i#} == 4)",
        "layers.{i<depth}.e.weight  width  if not {i} == 1",
    ]
    values = {"depth": depth, "width": 7}
    expanded = [(key, shape) for key, shape, _ in Program(lines).tensors(values)]
    assert sorted(expanded) == sorted(plainly(lines, values))
    visited = Expansion(values, most=2 * depth + 3)  # c and e ask each place, the others one
    for line in Program(lines).lines:
        list(visited.tensors(line))


def test_repeats_without_tensors_are_bounded_too() -> None:
    program = Program(["layers.{i<depth}.{j<depth}.a.weight  width  if {i}+{j} > 2*depth"])
    with pytest.raises(TooManyPlaces):
        program.expand({"depth": 2_000, "width": 7}, most=100_000)


def test_a_number_is_a_place_only_among_as_many_keys() -> None:
    assert repeats(("layers.0.w", "layers.5.w"), 2) == {"layers": 6}
    assert repeats(("layers.0.w", "layers.999999.w", f"layers.{'9' * 5000}.w"), 3) == {"layers": 1}
    many = [f"layers.{n}.w" for n in range(100_000)]
    assert repeats(tuple(many), len(many)) == {"layers": 100_000}


def checkpoint(shapes: dict[str, tuple[int, ...]]) -> Checkpoint:
    index = {key: TensorSpec("float32", shape, NOWHERE) for key, shape in shapes.items()}
    return Checkpoint("x", "memory", index)


def test_a_file_whose_last_layer_has_a_number_of_its_own_is_still_told_by_the_others() -> None:
    found = guess_checkpoint(
        checkpoint(vit(("0", "1", "2", "3", "4", "999999999"))), entries.default()
    )
    assert found.is_assumed and found.matches[0].entry.provider == "timm"
    odd = {at for key, at in found.canonical.origin.items() if key != at}
    assert len(odd) == 12 and all("999999999" in at for at in odd)


def test_work_that_is_spent_leaves_what_was_known_without_it() -> None:
    known = bert(("0", "1"))
    index = checkpoint(known).index
    canonical = Canonical(checkpoint(known), index, {key: key for key in index})
    whole = in_state_dict(canonical, entries.default(), "", Work(len(index)))[""]
    assert whole.status == "ambiguous" and whole.matches[0].pretrained is not None
    none = Work(0)
    assert not none.allows(10**9) and none.is_spent
    left = in_state_dict(canonical, entries.default(), "", none)[""]
    assert left.status == "unknown"


def test_parts_of_parts_cost_at_most_the_file_again() -> None:
    asked: list[int] = []

    class Counted(Work):
        def allows_part(self, keys: int) -> bool:
            allowed = super().allows_part(keys)
            asked.append(keys if allowed else 0)
            return allowed

    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(12):
        shapes |= vit(("0", "1", "2", "3", "4", "5"), "m." * number)
    index = checkpoint(shapes).index
    canonical = Canonical(checkpoint(shapes), index, {key: key for key in index})
    in_state_dict(canonical, entries.default(), "", Counted(len(index)))
    assert asked and sum(asked) <= 1.5 * len(index)
