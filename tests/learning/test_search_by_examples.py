"""Sizes and conditions are found from examples, and what is found is true of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archfind.classes.expression import parse_expression
from archfind.learning import conditions
from archfind.learning.fit import Failed, fit

pytestmark = pytest.mark.light

SIZES = (1, 2, 3, 4, 6, 8, 16, 24, 32, 48, 64)
NAMES = ("a", "b", "c", "d")


@given(st.integers(0, 2**32), st.integers(2, 40), st.sampled_from(["and", "or", "if", "chance"]))
def test_a_condition_is_true_where_it_has_to_be_and_nowhere_else(
    seed: int, count: int, kind: str
) -> None:
    draw = random.Random(seed)
    rows = [
        {"a": draw.randint(1, 4), "b": draw.randint(1, 4), "s": draw.random() < 0.5}
        for _ in range(count)
    ]
    rules: dict[str, Callable[[dict[str, int]], object]] = {
        "and": lambda row: row["a"] > 2 and row["s"],
        "or": lambda row: row["a"] > row["b"] or row["s"],
        "if": lambda row: row["a"] == row["b"] if row["s"] else row["b"] > 2,
        "chance": lambda row: draw.random() < 0.5,
    }
    truth = np.array([bool(rules[kind](row)) for row in rows])
    found = conditions.decide(truth, conditions.tests(rows, ["a", "b", "s"]))
    if found is None:
        assert kind == "chance"
    elif not found:
        assert truth.all()
    else:
        assert [bool(parse_expression(found).value(row)) for row in rows] == truth.tolist()


def slow(rows: list[dict[str, int]], targets: list[int]) -> bool:
    """Whether one product with a small factor, another value and a constant give the targets."""
    for one, two, three in itertools.product(NAMES, repeat=3):
        for factor, constant in itertools.product((1, 2, 3), (0, 1, 2)):
            values = [factor * row[one] * row[two] + row[three] + constant for row in rows]
            if values == targets:
                return True
    return False


@pytest.mark.parametrize("seed", range(12))
def test_sums_are_found_wherever_a_search_through_all_of_them_finds_one(seed: int) -> None:
    draw = random.Random(seed)
    rows = [{name: draw.choice(SIZES) for name in NAMES} for _ in range(14)]
    one, two, three = (draw.choice(NAMES) for _ in range(3))
    factor, constant = draw.randint(1, 3), draw.randint(0, 2)
    targets = [factor * row[one] * row[two] + row[three] + constant for row in rows]
    assert slow(rows, targets)
    found = fit(rows, targets, NAMES)
    assert found is not None
    new = [{name: draw.choice(SIZES) for name in NAMES} for _ in range(20)]
    for row in new:  # beyond the examples, too
        expected = factor * row[one] * row[two] + row[three] + constant
        assert parse_expression(found).value(row) == expected, found


@pytest.mark.parametrize("seed", range(12))
def test_what_no_rule_gives_has_none(seed: int) -> None:
    draw = random.Random(seed)
    rows = [{name: draw.choice(SIZES) for name in NAMES} for _ in range(30)]
    assert fit(rows, [draw.randint(1, 10_000) for _ in rows], NAMES) is None


FORMS: dict[str, Callable[[int, int], int]] = {
    "half": lambda a, b: a * b + b // 2,
    "bound": lambda a, b: max(a * b, 32),
    "quotient": lambda a, b: -(-a // b),
    "two products": lambda a, b: a * b + a * a + 7,
}


@pytest.mark.parametrize("words", FORMS)
def test_other_forms_are_found_and_hold_on_new_values(words: str) -> None:
    rule, draw = FORMS[words], random.Random(words)
    rows = [{"a": draw.choice(SIZES), "b": draw.choice(SIZES)} for _ in range(30)]
    found = fit(rows, [rule(row["a"], row["b"]) for row in rows], ["a", "b"])
    assert found is not None
    for row in [{"a": draw.choice(SIZES), "b": draw.choice(SIZES)} for _ in range(30)]:
        assert parse_expression(found).value(row) == rule(row["a"], row["b"]), found


@pytest.mark.parametrize("seed", range(10))
def test_what_failed_before_hides_nothing_that_a_new_search_finds(seed: int) -> None:
    draw = random.Random(seed)
    rule = FORMS[draw.choice(list(FORMS))]
    rows = [{name: draw.choice(SIZES) for name in NAMES} for _ in range(30)]
    targets = [rule(row["a"], row["b"]) for row in rows]
    wrong = set(draw.sample(range(30), 3))  # what no rule gives
    failed = Failed()
    found: set[bool] = set()
    for _ in range(20):
        some = draw.sample(range(30), draw.choice((4, 12, 20)))
        own = [targets[n] + (97 * n if n in wrong else 0) for n in some]
        names = draw.choice((NAMES, ("a", "b"), ("a", "c")))
        text = fit([rows[n] for n in some], own, names)
        assert fit([rows[n] for n in some], own, names, failed=failed) == text
        found.add(text is None)
    assert found == {True, False}
