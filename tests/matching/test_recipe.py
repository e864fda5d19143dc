"""The call that a person is told to write: there is one for every answer, and it builds."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

import archfind
from archfind.classes.equations import ERRORS
from archfind.classes.score import Solution, within
from archfind.database import entries
from archfind.database.classes import Families, families_beside
from archfind.frozen import replace
from archfind.matching.recipe import recipe
from archfind.matching.variants import gathered, variant_match
from archfind.probing.probe import on_meta, shapes_of
from archfind.types import Entry, Match, Variant

SEED = 5


@pytest.fixture(scope="module")
def families() -> Families:
    found = families_beside(entries.default().path)
    assert found is not None
    return found


def drawn(families: Families, number: int, draw: random.Random) -> Match | None:
    """A network of a family with up to three arguments moved, as a file of it would be answered;
    None where its rules give none."""
    known = families.known(number)
    family = known.family
    values = {**family.leaves, **family.presets[draw.choice(list(family.presets))]}
    for path in draw.sample(list(family.options), min(len(family.options), draw.randint(1, 3))):
        options = family.options[path]
        if isinstance(options, list) and options:
            values[path] = draw.choice(options)
        elif type(values.get(path)) is int:
            values[path] = max(1, values[path] + draw.choice((-1, 1, 2)))
    solution = Solution(values, set(family.options), "")
    solution.score = 1.0
    try:
        solution.expected = family.program.expand(within(dict(values)))
    except ERRORS:
        return None
    return variant_match({}, known, solution, "")


def test_every_variant_has_one(families: Families) -> None:
    """Of a third of the registered classes, with arguments moved at random: nested ones, parts of
    them."""
    draw = random.Random(SEED)
    count = 0
    for number in draw.sample(range(len(families)), len(families) // 3):
        match = drawn(families, number, draw)
        if match is None:
            continue
        call = recipe(match)
        count += 1
        assert json.loads(json.dumps(call)) == call
        moved = match.variant.moved if match.variant else {}
        if call["callable"] == "archfind.variant":
            given: Any = call["args"]
            roots = {path.partition(".")[0] for path in given[1]}
        else:
            roots = set(call["kwargs"])  # pyright: ignore
        assert {path.partition(".")[0] for path in moved} <= roots
    assert count > 130


def evaluated(call: Mapping[str, Any]) -> object:
    module, _, name = call["callable"].rpartition(".")
    builder = getattr(importlib.import_module(module), name)
    return on_meta(lambda: builder(*call["args"], **call["kwargs"]), {}, 60)


@pytest.mark.parametrize(
    ("entry", "moves"),
    [
        ("spandrel/FeMaSR", {"codebook_params": [[32, 512, 256]]}),
        ("spandrel/FeMaSR", {"codebook_params.0.1": 512, "in_channel": 1}),
        ("spandrel/MMRealSR", {"num_block": 4}),
        ("spandrel/NAFNet", {"width": 16}),
        ("timm/crossvit_9_240", {"num_classes": 7}),
    ],
)
def test_it_builds_what_was_found(
    tmp_path_factory: pytest.TempPathFactory, entry: str, moves: dict[str, object]
) -> None:
    from safetensors.torch import save_file

    module = archfind.variant(entry, moves)
    path = tmp_path_factory.mktemp("recipe") / "model.safetensors"
    save_file({k: v.clone() for k, v in module.state_dict().items()}, path)
    found = archfind.guess(path, choose=entry)
    assert found.matches and found.matches[0].entry.id == entry
    made: Any = evaluated(recipe(found.matches[0]))
    assert shapes_of(made) == shapes_of(module)


def test_what_is_known_in_parts_is_given_in_parts() -> None:
    entry = Entry("timm", "x", "timm.x.X", "timm.create_model", {}, {}, "1")
    variant = Variant("timm.x.X", {"cfg.depth": 3, "dim": 8}, direct=True)
    match = Match(entry, {}, 0, 0, variant=variant)
    call = recipe(match)
    assert call["callable"] == "archfind.variant"
    assert call["args"] == ["timm/x", {"cfg.depth": 3, "dim": 8}]
    whole = replace(match, variant=replace(variant, moved={"dim": 8}))
    assert recipe(whole)["kwargs"] == {"dim": 8}


def test_lists_of_lists_are_one_value() -> None:
    leaves = {"a.#": 2, "a.0.#": 1, "a.0.0": 5, "a.1.#": 0}
    assert gathered("a", leaves) == {"a": [[5], []]}
    del leaves["a.0.0"]
    assert gathered("a", leaves) == {}
    assert gathered("b", {"b.x": 1, "b.y.#": 1, "b.y.0": 2}) == {"b.x": 1, "b.y.0": 2}
