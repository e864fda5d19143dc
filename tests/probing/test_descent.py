"""Arguments found by building a class, for classes whose rules are of every kind."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import pytest
import torch
from torch import nn
from tower import Tower, base_of

from archfind.probing.config import Config, moved
from archfind.probing.descent import Descent
from archfind.probing.misfit import axes, key_template, misfit, misfits
from archfind.probing.probe import on_meta, shapes_of


class Tree(nn.Module):
    """Every level doubles the leaves: what a line through two points says is far too much."""

    def __init__(self, levels: int = 1, width: int = 8) -> None:
        super().__init__()
        if levels > 0:
            self.left = Tree(levels - 1, width)
            self.right = Tree(levels - 1, width)
        else:
            self.leaf = nn.Linear(width, width)


class Pyramid(nn.Module):
    """Attention stands where the side of the picture is one of some: a level less takes it away,
    too."""

    def __init__(
        self,
        width: int = 16,
        steps: tuple[int, ...] = (1, 2, 2, 4, 4, 8),
        attention: tuple[int, ...] = (16,),
        side: int = 512,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for step in steps:
            level = nn.ModuleDict({"block": nn.Linear(width, width * step)})
            if side in attention:
                level["attention"] = nn.MultiheadAttention(width * step, 1)
                level["norm"] = nn.LayerNorm(width * step)
                level["proj"] = nn.Linear(width, width * step)
            self.levels.append(level)
            side //= 2


class Funnel(nn.Module):
    """Widths that are sums of rates, rounded: no line goes through what any of them does."""

    def __init__(
        self,
        start: int = 16,
        growth: int = 90,
        rate: float = 1.0,
        deep: float = 1.0,
        out: int = 640,
        act: str = "relu",
    ) -> None:
        super().__init__()
        count = math.ceil(7 * deep)
        widths = [round((start + growth * n / count) * rate) for n in range(count + 1)]
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.head = nn.Linear(widths[-1], round(out * rate))
        if act not in ("relu", "gelu", "prelu"):
            raise ValueError(act)
        self.act = nn.PReLU(round(out * rate)) if act == "prelu" else nn.Identity()


def _found(cls: type[nn.Module], moves: dict[str, Any]) -> Descent:
    base = base_of(cls)
    target = shapes_of(on_meta(cls, moved(base, moves)))
    descent = Descent(cls, base, target, {})
    assert descent.run(120), (moves, descent.moves, misfits(descent.shapes, target))
    assert shapes_of(on_meta(cls, moved(base, descent.moves))) == target
    return descent


@pytest.mark.parametrize("seed", range(12))
def test_random_arguments_are_found(seed: int) -> None:
    draw = random.Random(seed)
    heads = draw.choice((1, 2, 3, 5, 7))
    length = draw.choice((1, 2, 3))
    moves: dict[str, Any] = {"width": heads * draw.randrange(4, 40), "heads": heads}
    moves |= {"depths.#": length} | {f"depths.{n}": draw.randrange(1, 6) for n in range(length)}
    moves |= {"norm": draw.choice(("none", "batch", "layer")), "bias": draw.random() < 0.5}
    moves |= {"ratio": draw.choice((1.0, 2.5, 3.0)), "colors": draw.choice((1, 3, 4))}
    moves |= {"scale": draw.choice((1, 2, 3, 8))}
    _found(Tower, moves)


def test_a_product_is_told_apart_only_where_something_else_shows_a_factor() -> None:
    assert _found(Tower, {"colors": 1, "scale": 7}).moves == {"colors": 1, "scale": 7}


@pytest.mark.parametrize("seed", range(5))
def test_sums_of_rates_are_found_together(seed: int) -> None:
    draw = random.Random(seed)
    deep = {"deep": draw.choice((0.5, 1.5, 2.25))} if seed % 2 else {}
    _found(
        Funnel,
        {
            "start": draw.randrange(8, 40),
            "growth": draw.randrange(60, 200),
            "rate": draw.choice((0.75, 1.25, 1.375, 2.6)),
            **deep,
        },
    )


def test_rates_have_no_digits_that_do_nothing() -> None:
    moves = _found(Funnel, {"rate": 0.75, "growth": 141}).moves
    assert moves == {"rate": 0.75, "growth": 141}


def test_a_choice_is_free_where_another_has_the_same_tensors() -> None:
    descent = _found(Funnel, {"act": "prelu"})
    descent.look_until(time.monotonic() + 60)
    assert not descent.is_free("act") and not descent.is_free("growth")
    other = _found(Funnel, {"growth": 100})
    other.look_until(time.monotonic() + 60)
    assert other.is_free("act")


def test_what_was_not_asked_about_in_time_is_not_shown() -> None:
    descent = _found(Funnel, {"growth": 100})
    descent.look_until(time.monotonic() - 1)
    assert descent.is_free("growth")


def test_what_needn_t_move_stays() -> None:
    assert _found(Tower, {"depths.1": 5}).moves == {"depths.1": 5}
    assert _found(Tower, {}).moves == {}


def test_counts_that_double_the_network_end() -> None:
    found = _found(Tree, {"levels": 5, "width": 24})
    assert found.moves == {"levels": 5, "width": 24}


def test_a_move_that_stood_in_for_another_is_taken_back() -> None:
    assert _found(Pyramid, {"width": 12, "attention.0": 14}).moves.keys() == {
        "width",
        "attention.0",
    }


class Stages(nn.Module):
    """One row of blocks for all stages, each of which doubles the width where it starts."""

    def __init__(self, width: int = 8, stages: tuple[int, ...] = (2, 3, 16, 3)) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for number, depth in enumerate(stages):
            wide = width * 2**number
            first = [nn.Linear(wide // 2 if number else wide, wide)]
            self.blocks.extend(first + [nn.Linear(wide, wide) for _ in range(depth - 1)])


def test_blocks_of_one_stage_that_stood_in_for_anothers() -> None:
    assert _found(Stages, {"width": 12, "stages.1": 7}).moves == {"width": 12, "stages.1": 7}


class Windows(nn.Module):
    """A picture cut into windows of it, for nothing that stays."""

    def __init__(self, size: int = 64, window: int = 16, width: int = 8) -> None:
        super().__init__()
        cut = size // window
        torch.zeros(1, size, size, 1).view(1, cut, window, cut, window, 1)
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, width))


def test_what_a_tensor_s_elements_do_not_make_gives_way() -> None:
    found = _found(Windows, {"size": 84, "window": 12})
    assert found.moves["window"] == 12 and found.moves["size"] % 12 == 0


def test_what_the_class_cannot_give_is_left_with_its_misfit() -> None:
    target = shapes_of(on_meta(Tower, base_of(Tower)))
    target["stages.0.0.up.weight"] = (7, 48), "float"
    target["extra.weight"] = (3,), "float"
    descent = Descent(Tower, base_of(Tower), target, {})
    assert not descent.run(60)
    assert sorted(misfits(descent.shapes, target)) == ["extra.weight", "stages.0.0.up.weight"]


def test_a_misfit_is_zero_only_between_equals() -> None:
    one = shapes_of(on_meta(Tower, base_of(Tower)))
    assert misfit(one, one) == 0
    for key in list(one):
        less = {k: v for k, v in one.items() if k != key}
        assert misfit(one, less) == misfit(less, one) == (1 if one[key][1] == "float" else 0)
        if one[key][1] == "float":
            other = {**one, key: ((*one[key][0][:-1], one[key][0][-1] + 1), "float")}
            assert 0 < misfit(one, other) < 1
            assert misfit(one, {**one, key: (one[key][0], "int64")}) == 1


def test_counts_of_numbered_keys() -> None:
    shapes = {f"a.{n}.b{m}.weight": ((1,), "float") for n in range(3) for m in range(2)}
    assert key_template("a.10.b2.weight") == "a.#.b#.weight"
    assert axes(shapes)["a.", ".b0.weight"] == 3
    assert axes(shapes)["a.1.b", ".weight"] == 2


def test_a_constructor_that_is_stopped_leaves_gradients_on() -> None:
    def slow() -> nn.Module:
        with torch.no_grad():
            time.sleep(0.02)
        return nn.Linear(2, 2)

    with pytest.raises(TimeoutError):
        on_meta(slow, {}, 0.01)
    assert torch.is_grad_enabled()


class Joined(nn.Module):
    """A projection between two widths goes where they are the same; nothing else shows the one."""

    def __init__(self, width: int = 24, out_size: int = 768, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        if out_size != width:
            self.project = nn.Linear(width, width)


class Marked(nn.Module):
    """A norm stands behind the block that is so many before the last; by default none does."""

    def __init__(self, layers: int = 70, late_layers: int = 20, width: int = 8) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for number in range(layers):
            block = nn.ModuleDict({"line": nn.Linear(width, width)})
            if number == layers - late_layers - 1:
                block["norm"] = nn.LayerNorm(width)
            self.blocks.append(block)


class Mixture(nn.Module):
    """What the router counts are experts and such that do nothing and have no tensors."""

    def __init__(self, experts: int = 5, idle: int = 5, width: int = 8) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts + idle)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(experts))


@pytest.mark.parametrize(
    ("cls", "start", "wanted"),
    [
        (Mixture, {"experts": 5, "idle": 5, "width": 8}, {"experts": 4, "idle": 6}),
        (Mixture, {"experts": 8, "idle": 20, "width": 16}, {"experts": 10, "idle": 18}),
        (Joined, {"width": 24, "out_size": 768, "blocks": 2}, {"out_size": 24}),
        (Joined, {"width": 40, "out_size": 24, "blocks": 3}, {"out_size": 40}),
        (Marked, {"layers": 5, "late_layers": 20, "width": 8}, {"late_layers": 2}),
        (Marked, {"layers": 9, "late_layers": 50, "width": 8}, {"late_layers": 7}),
    ],
)
def test_what_no_step_alone_makes_better_is_found(
    cls: type[nn.Module], start: Config, wanted: dict[str, Any]
) -> None:
    target = shapes_of(on_meta(cls, {**start, **wanted}))
    descent = Descent(cls, start, target, {})
    assert descent.cost
    assert descent.run(20.0)
    assert descent.moves == wanted
