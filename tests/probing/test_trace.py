"""Constructors traced: what their sizes are made of, and the families that follow."""

from __future__ import annotations

import math
import operator
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from tower import Tower, base_of, index_of

from archfind.classes.expression import parse_expression
from archfind.classes.notation import Family, family_text
from archfind.classes.program import Program
from archfind.classes.solve import solve
from archfind.learning.family import Preset
from archfind.learning.lines import lines_of
from archfind.learning.traced_family import traced_family
from archfind.probing.config import captured_call, leaves_of_config, moved
from archfind.probing.equations import equations, solved_leaves
from archfind.probing.numbers import Number, forked, leaf
from archfind.probing.probe import on_meta, shapes_of
from archfind.probing.trace import Refused, trace
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta

ENTRIES = """
    timm/vit_tiny_patch16_224 timm/efficientnet_b0 timm/hrnet_w18_small timm/levit_128s
    timm/mobilenetv3_small_050 timm/resnext26ts timm/xcit_nano_12_p16_224 timm/nf_resnet26
    torchvision/densenet121 torchvision/swin_t torchvision/googlenet spandrel/SwinIR spandrel/DAT
""".split()

OPERATORS: list[Callable[[Any, Any], Any]] = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.floordiv,
    operator.truediv,
    operator.mod,
]
steps = st.lists(
    st.tuples(st.sampled_from(OPERATORS), st.integers(1, 9), st.booleans()), max_size=6
)


@given(st.integers(1, 60), steps, st.sampled_from((None, round, math.floor, math.ceil)))
def test_a_traced_number_is_the_plain_one_and_its_text_computes_it(
    start: int, steps: list[tuple[Callable[[Any, Any], Any], int, bool]], last: Any
) -> None:
    plain: Any = start
    traced: Any = leaf(start, "x")
    for step, other, turned in steps:
        if turned and not plain:
            continue
        plain = step(other, plain) if turned else step(plain, other)
        traced = step(other, traced) if turned else step(traced, other)
    if last is not None and math.isfinite(plain):
        plain, traced = last(plain), last(traced)
    assert plain == traced and hash(plain) == hash(traced)
    assert (plain > 3) == (traced > 3) and bool(plain) == bool(traced)
    assert [0] * leaf(3, "x") == [0] * 3
    if isinstance(traced, Number):
        assert parse_expression(traced.text).value({"x": start}) == pytest.approx(plain)


def made(entry: str) -> tuple[type[nn.Module], dict[str, Any]]:
    library, _, name = entry.partition("/")
    return captured_call(lambda: create_on_meta(provider(library), name))[1:]


@pytest.mark.parametrize("entry", ENTRIES)
def test_sizes_are_what_their_expressions_say_for_other_numbers_too(entry: str) -> None:
    cls, base = made(entry)
    first = trace(cls, moved(base, {}))
    assert first.shapes == shapes_of(on_meta(cls, moved(base, {})))
    names = sorted(
        {n for texts in first.sizes.values() for t in texts for n in parse_expression(t).names}
    )
    assert names
    draw = random.Random(entry)
    compared = 0
    for path in draw.sample(names, min(len(names), 6)):
        value: Any = leaves_of_config(base)[path]
        move = {path: value * 2}
        try:
            other = trace(cls, moved(base, move))
        except Refused:
            continue
        values = leaves_of_config(moved(base, move))
        for key, texts in other.sizes.items():
            sizes = [parse_expression(text).value(values) for text in texts]
            assert sizes == list(other.shapes[key][0]), (path, key, texts)
        if other.shapes.keys() == first.shapes.keys():  # no rule has another branch
            same = [k for k, texts in first.sizes.items() if texts == other.sizes.get(k)]
            compared += len(same) > len(first.sizes) / 2
    assert compared


def test_a_refusal_says_what_was_asked_last() -> None:
    cls, base = made("timm/vit_tiny_patch16_224")
    with pytest.raises(Refused) as refused:
        trace(cls, moved(base, {"embed_dim": 100}))
    text, answer = refused.value.asked[-1]
    assert text.startswith("embed_dim%num_heads") and not answer
    assert "range" not in vars(sys.modules[cls.__module__])  # as it was before


@pytest.mark.parametrize(
    ("shape", "question"),
    [
        ((2, 30), "(size*2) == 2*30"),
        ((-1, 5), "(size*2) % (5) == 0"),
        ((2, -1), ""),
        ((4, 8), ""),
    ],
)
def test_a_refused_view_says_what_it_needed(shape: tuple[int, int], question: str) -> None:
    class Viewed(nn.Module):
        def __init__(self, size: int = 16) -> None:
            super().__init__()
            torch.zeros(size * 2).view(shape)

    if not question:
        trace(Viewed, {"size": 16})
        return
    with pytest.raises(Refused) as refused:
        trace(Viewed, {"size": 16})
    text, answer = refused.value.asked[-1]
    assert text == question and not answer
    assert not parse_expression(text).value({"size": 16}) and parse_expression(text).value(
        {"size": 30}
    )


@pytest.mark.parametrize("entry", ENTRIES)
def test_lines_give_the_network_that_they_are_of(entry: str) -> None:
    cls, base = made(entry)
    whole = trace(cls, moved(base, {}))
    texts = [
        f"{pattern}  {' '.join(sizes) or '()'}"
        + ("" if dtype == "float" else f" {dtype}")
        + (f"  if {' and '.join(conditions)}" if conditions else "")
        for pattern, sizes, dtype, conditions in lines_of(whole, {})
    ]
    found = Program(texts).expand(leaves_of_config(base))
    assert found == {key: whole.shapes[key] for key in found}
    left = [k for k, (_, dtype) in whole.shapes.items() if k not in found and dtype == "float"]
    assert all(key.rpartition(".")[2].startswith(("attn_mask", "rpe_biases")) for key in left)


def test_equations_move_only_what_a_file_speaks_against() -> None:
    base = base_of(Tower)
    draw = random.Random(0)
    for _ in range(20):
        heads = draw.choice((1, 2, 3, 4, 6))
        moves: dict[str, Any] = {"heads": heads, "width": heads * draw.randrange(3, 30)}
        moves |= {"depths.1": draw.randrange(1, 6), "scale": draw.choice((1, 2, 3, 5))}
        target = shapes_of(on_meta(Tower, moved(base, moves)))
        rows = equations(trace(Tower, moved(base, {})), target)
        values = leaves_of_config(base)
        assert solved_leaves(rows, values, {}) == {p: v for p, v in moves.items() if values[p] != v}


def test_a_traced_family_gives_networks_that_it_was_not_made_from() -> None:
    base = base_of(Tower)
    preset = Preset("tower", base, shapes_of(on_meta(Tower, base)))
    family = traced_family(preset, Tower, {}, [], 60)
    assert family is not None and family.right == family.held > 0
    program = Program(family.lines)
    draw = random.Random(1)
    for _ in range(20):
        moves: dict[str, Any] = {"width": 6 * draw.randrange(3, 30), "bias": draw.random() < 0.5}
        moves |= {"depths.0": draw.randrange(1, 7), "depths.1": draw.randrange(1, 7)}
        moves |= {"ratio": draw.choice((1.0, 2.5)), "scale": draw.choice((1, 3))}
        moves |= {"norm": draw.choice(("none", "batch", "layer"))}
        config = moved(base, moves)
        assert program.expand(leaves_of_config(config)) == shapes_of(on_meta(Tower, config)), moves


def rounded(width: float, step: int = 8, least: int | None = None) -> int:
    found = max(least or step, int(width + step / 2) // step * step)
    return found + step if found < 0.9 * width else found


def scaled(width: int, least: float = 2.5) -> float:
    return 0.75 * width if width > 8 else least * width


def stepped(width: int, few: int, many: int) -> int:
    if width > 100:
        return few if width % 2 == 0 else few + 1
    return many - width if width >= 12 else rounded(many / 3, 4)


@given(st.integers(1, 300), st.integers(1, 300))
def test_what_a_function_decides_is_part_of_the_expression(one: int, two: int) -> None:
    whole = forked(stepped)(leaf(one, "x"), few=7, many=leaf(61, "y"))
    assert whole == stepped(one, 7, 61)
    values = {"x": two, "y": 61}
    assert parse_expression(whole.text).value(values) == stepped(two, 7, 61)
    part = forked(scaled)(leaf(one, "x"))  # fractions come first, and don't ask
    assert part == scaled(one)
    assert parse_expression(part.text).value(values) == scaled(two)


class Rounded(nn.Module):
    def __init__(self, width: float, step: int) -> None:
        super().__init__()
        self.body = nn.Linear(3, rounded(width * 1.5, step))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 9))
def test_rounding_to_what_divides_has_a_name(one: int, two: int, step: int) -> None:
    found = trace(Rounded, {"width": one / 4, "step": step})
    assert found.sizes["body.weight"] == ["divisible(width*1.5,step)", "3"]
    other = shapes_of(Rounded(two / 4, step))["body.bias"][0]
    assert other == (
        parse_expression(found.sizes["body.bias"][0]).value({"width": two / 4, "step": step}),
    )


def test_a_function_of_other_things_is_left_as_it_is() -> None:
    def pair(value: int, word: str, names: list[str] | None = None) -> object:
        if value > 3:
            raise ValueError(word)
        return (value, word) if names is None else value + len(names)

    assert forked(pair)(leaf(2, "x"), "w") == (2, "w")
    assert forked(pair)(leaf(2, "x"), "w", ["a"]).text == "x+1"  # not all of them are numbers
    with pytest.raises(ValueError, match="w"):
        forked(pair)(leaf(4, "x"), "w")

    def closed(value: int) -> int:
        return value if value > 3 else int("none")

    assert forked(closed)(leaf(5, "x")) == 5  # the other way is none


class Switched(nn.Module):
    """The width of the last layer hangs on three switches together."""

    def __init__(
        self, width: int = 32, merge: bool = False, out: int = 64, classes: int = 0
    ) -> None:
        super().__init__()
        self.body = nn.Linear(8, width)
        last = 4 * width if merge else width
        if out:
            self.proj = nn.Linear(last, out)
            last = out
        if classes:
            self.head = nn.Linear(last, classes)


def test_switches_that_change_each_other_are_turned_together() -> None:
    base = Preset("base", {"width": 32, "merge": False, "out": 64, "classes": 0}, {})
    base = Preset("base", base.config, shapes_of(on_meta(Switched, base.config)))
    found = traced_family(base, Switched, {}, [], 20)
    assert found is not None
    program = Program(found.lines)
    for classes in (0, 1, 10):
        for out in (0, 64, 24):
            for merge in (False, True):
                config = {"width": 40, "merge": merge, "out": out, "classes": classes}
                assert program.expand(config) == shapes_of(on_meta(Switched, config))


class Staged(nn.Module):
    """Stages of their own depths, each of twice the width, the last of which the head is on."""

    def __init__(
        self, dim: int = 16, depths: tuple[int, ...] = (2, 2, 2), heads: tuple[int, ...] = (2, 4, 4)
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for at, depth in enumerate(depths):
            stage = nn.Module()
            stage.blocks = nn.ModuleList(
                nn.Linear(dim * 2**at, heads[at] * 3) for _ in range(depth)
            )
            if at:
                stage.down = nn.Linear(dim * 2 ** (at - 1), dim * 2**at)
            self.stages.append(stage)
        self.heads = nn.Linear(dim * 2 ** (len(depths) - 1), heads[-1])
        self.count = nn.Linear(len(depths) + 1, 1)


def test_a_family_knows_rows_of_other_lengths_than_it_was_made_from() -> None:
    config = {"dim": 16, "depths": (2, 2, 2), "heads": (2, 4, 4)}
    base = Preset("base", config, shapes_of(on_meta(Staged, config)))
    found = traced_family(base, Staged, {}, [], 30)
    assert found is not None and "depths.#" in found.options
    family = Family(
        family_text(
            "c/1",
            "base",
            (1, 1),
            [],
            found.options,
            {"base": leaves_of_config(config)},
            found.lines,
        )
    )
    draw = random.Random(2)
    for length in (1, 2, 4, 5, 7):
        depths = tuple(draw.randrange(1, 5) for _ in range(length))
        heads = tuple(draw.randrange(1, 9) for _ in range(length))
        config = {"dim": 24, "depths": depths, "heads": heads}
        shapes = shapes_of(on_meta(Staged, config))
        assert family.program.expand(leaves_of_config(config)) == shapes
        solution = solve(index_of(shapes), family)
        assert solution is not None and solution.score == 1
        read = {p: v for p, v in solution.values.items() if p in leaves_of_config(config)}
        assert read == leaves_of_config(config)
        assert solution.values["heads.#"] == length  # no row counts them


class Masked(nn.Module):
    """Stages in which every second block has a mask, where the picture is larger than a window."""

    def __init__(
        self, dim: int = 8, depths: tuple[int, ...] = (4, 6), size: int = 32, window: int = 4
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for depth in depths:
            stage = nn.Module()
            stage.blocks = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))
            for number, block in enumerate(stage.blocks):
                if number % 2 and size > window:
                    mask = torch.zeros((size // window) ** 2, window * window)
                    block.register_buffer("attn_mask", mask)
            self.stages.append(stage)


def test_rows_in_which_some_have_masks_are_read() -> None:
    config: dict[str, Any] = {"dim": 8, "depths": (4, 6), "size": 32, "window": 4}
    base = Preset("base", config, shapes_of(on_meta(Masked, config)))
    found = traced_family(base, Masked, {}, [], 20)
    assert found is not None
    program = Program(found.lines)
    for depths, size in (((2, 5), 32), ((1, 3, 6), 64), ((6, 2), 4)):
        config = {"dim": 12, "depths": depths, "size": size, "window": 4}
        assert program.expand(leaves_of_config(config)) == shapes_of(on_meta(Masked, config))


class Asking(nn.Module):
    """What it has hangs on how its numbers compare."""

    def __init__(self, size: int = 32, patch: int = 2, window: int = 8) -> None:
        super().__init__()
        self.near = nn.Linear(window, window)
        if size // patch > window:
            self.far = nn.Linear(size // patch, 5)


class Chained(nn.Module):
    """A block between different widths has a projection."""

    def __init__(self, widths: tuple[int, ...] = (8, 12, 12, 12, 20)) -> None:
        super().__init__()
        for at in range(1, len(widths)):
            block = nn.Module()
            block.body = nn.Linear(widths[at - 1], widths[at])
            if widths[at - 1] != widths[at]:
                block.project = nn.Linear(widths[at - 1], widths[at])
            self.add_module(f"block{at}", block)


def test_what_is_asked_of_numbers_is_a_condition() -> None:
    config: dict[str, Any] = {"size": 32, "patch": 2, "window": 8}
    base = Preset("base", config, shapes_of(on_meta(Asking, config)))
    found = traced_family(base, Asking, {}, [], 20)
    assert found is not None
    program = Program(found.lines)
    for size, patch, window in ((64, 8, 8), (64, 8, 7), (8, 1, 20), (100, 3, 33), (99, 3, 33)):
        config = {"size": size, "patch": patch, "window": window}
        assert program.expand(config) == shapes_of(on_meta(Asking, config))


def test_one_of_many_equal_widths_is_told_from_the_next() -> None:
    config: dict[str, Any] = {"widths": (8, 12, 12, 12, 20)}
    base = Preset("base", config, shapes_of(on_meta(Chained, config)))
    found = traced_family(base, Chained, {}, [], 20)
    assert found is not None
    program = Program(found.lines)
    draw = random.Random(3)
    for _ in range(20):
        config = {"widths": tuple(draw.choice((8, 12, 20)) for _ in range(5))}
        assert program.expand(leaves_of_config(config)) == shapes_of(on_meta(Chained, config))
