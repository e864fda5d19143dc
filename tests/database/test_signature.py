"""The notation: what is written can be read, in the same order, and sizes solve back to fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archfind.database.grouping import group
from archfind.database.notation import Line, Size, expand, keys, ordered, parse_line
from archfind.errors import SignatureError

pytestmark = pytest.mark.light

NAMES = st.sampled_from(["conv", "bn", "weight", "bias", "0", "1", "2", "3", "10", "layer1", "fc"])
SHAPES = st.sampled_from([(), (64,), (64, 3, 7, 7), (Size({("num_classes",): 4, (): 3}), 8)])
DTYPES = st.sampled_from(["float", "int64"])


def _tree(draw_keys: list[tuple[str, ...]]) -> list[str]:
    """Keys that a module could own: no key is another's branch, and a branch's keys are
    together."""
    found: list[str] = []
    for parts in draw_keys:
        key = ".".join(parts)
        if not any(key == k or key.startswith(f"{k}.") or k.startswith(f"{key}.") for k in found):
            found.append(key)
    return ordered(found)


@given(
    st.lists(st.lists(NAMES, min_size=1, max_size=4).map(tuple), min_size=1, max_size=40), st.data()
)
def test_grouped_lines_expand_to_the_same_keys_in_order(
    parts: list[tuple[str, ...]], data: st.DataObject
) -> None:
    lines = {key: Line(key, data.draw(SHAPES), data.draw(DTYPES)) for key in _tree(parts)}
    found = list(expand([parse_line(text) for text in group(lines)]))
    assert ordered([key for key, _ in found]) == list(lines)
    assert {k: (ln.shape, ln.dtype) for k, ln in found} == {
        k: (ln.shape, ln.dtype) for k, ln in lines.items()
    }


def test_repeats_and_equal_neighbours_become_one_line() -> None:
    names = [f"layer.{n}.bn.{leaf}" for n in range(3) for leaf in ("weight", "bias")]
    assert group({name: Line(name, (64,)) for name in names}) == [
        "layer.{0..2}.bn.{weight|bias}  64"
    ]


def test_a_pattern_lists_every_combination() -> None:
    assert keys("a.{0..1}.{w|b}") == ["a.0.w", "a.0.b", "a.1.w", "a.1.b"]


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 30_000))
def test_a_size_solves_back_to_its_field(factor: int, rest: int, count: int) -> None:
    size = Size({("num_classes",): factor} | ({(): rest} if rest else {}))
    line = parse_line(str(Line("head.weight", (size, 7))))
    assert line.shape[0] == size
    assert size.solve(size.value({"num_classes": count})) == ("num_classes", count)


def test_a_size_that_no_count_gives_solves_to_nothing() -> None:
    assert Size({("num_classes",): 4}).solve(10) is None
    assert Size({("num_classes",): 4, (): 8}).solve(8) is None


@pytest.mark.parametrize(
    "text",
    ["conv.weight 64 3", "conv.weight  64 (3 x", "conv.weight  64 ?", "conv.weight  (3*x)"],
)
def test_what_does_not_parse_is_shown(text: str) -> None:
    with pytest.raises(SignatureError) as caught:
        parse_line(text)
    assert repr(text) in str(caught.value)


def test_an_open_brace_is_refused() -> None:
    with pytest.raises(SignatureError):
        keys("a.{0..3.weight")
