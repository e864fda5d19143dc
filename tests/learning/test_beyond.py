"""Classes whose switches go together in threes, rows in which blocks take turns, and sizes that are
kept in numpy's arrays or set as values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from tower import base_of, index_of

from archfind.classes.notation import Family, family_text
from archfind.classes.program import Program
from archfind.classes.solve import solve
from archfind.learning.beyond import further
from archfind.learning.family import Preset
from archfind.learning.traced_family import traced_family
from archfind.probing.config import leaves_of_config, moved
from archfind.probing.probe import on_meta, shapes_of
from archfind.probing.proposals import literals


class Turns(nn.Module):
    """Two kinds of block in turn, and a first layer that is filled by hand."""

    def __init__(self, dim: int = 12, depth: int = 3, heads: int = 2) -> None:
        super().__init__()
        self.shift = nn.Conv2d(3, 3, 1)
        self.shift.weight.data = torch.eye(3).view(3, 3, 1, 1)
        assert self.shift.bias is not None
        self.shift.bias.data = torch.Tensor([0.4, 0.4, 0.4])
        self.blocks = nn.ModuleList()
        for number in range(depth * 2):
            block = nn.Module()
            block.mix = nn.Linear(dim, dim * 3)
            if number % 2:
                block.temperature = nn.Parameter(torch.ones(heads, 1, 1))
            else:
                block.bias = nn.Parameter(torch.zeros(heads, dim))
            self.blocks.append(block)


def test_rows_in_which_blocks_take_turns_are_read() -> None:
    config: dict[str, Any] = base_of(Turns)
    found = traced_family(
        Preset("turns", config, shapes_of(on_meta(Turns, config))), Turns, {}, [], 20
    )
    assert found is not None and found.right == found.held
    program = Program(found.lines)
    for depth in (1, 2, 5):
        other = {"dim": 20, "depth": depth, "heads": 5}
        assert program.expand(leaves_of_config(other)) == shapes_of(on_meta(Turns, other))


class Books(nn.Module):
    """Tables whose sizes are columns of an array."""

    def __init__(self, books: list[list[int]] = [[8, 40, 24]], dim: int = 16) -> None:  # noqa: B006
        super().__init__()
        sizes = np.array(books)
        counts, widths = sizes[:, 1].astype(int), sizes[:, 2].astype(int)
        self.books = nn.ModuleList(
            nn.Embedding(int(counts[n]), int(widths[n])) for n in range(len(books))
        )
        self.out = nn.Linear(int(widths[0]), dim)


def test_sizes_are_followed_through_arrays() -> None:
    config: dict[str, Any] = base_of(Books)
    found = traced_family(
        Preset("books", config, shapes_of(on_meta(Books, config))), Books, {}, [], 20
    )
    assert found is not None
    assert "books.{i<books.#}.weight  books.{i}.1 books.{i}.2" in found.lines
    assert type(np.array([1, 2])) is np.ndarray  # numpy is as it was


class Upsampler(nn.Module):
    """Layers that hang on what kind it is, how often it doubles, and a switch of one kind."""

    def __init__(
        self, dim: int = 8, kind: str = "plain", times: int = 1, wide: bool = False
    ) -> None:
        super().__init__()
        self.first = nn.Linear(3, dim)
        if kind == "plain":
            self.up = nn.Linear(dim, 3)
        elif kind == "steps":
            self.up = nn.ModuleList()
            for _ in range(times):
                self.up.append(nn.Linear(dim, dim * 4))
            if wide and times > 2:
                self.wide = nn.Linear(dim, dim * 9)
        else:
            self.up = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, 3)])


def test_what_no_family_gives_is_the_base_of_another() -> None:
    config: dict[str, Any] = base_of(Upsampler)
    preset = Preset("up", config, shapes_of(on_meta(Upsampler, config)))
    first = traced_family(preset, Upsampler, {}, [], 20)
    assert first is not None
    moves = {"kind": "steps", "times": 3, "wide": True, "dim": 24}
    shapes = shapes_of(on_meta(Upsampler, moved(config, moves)))
    more = further(Upsampler, [preset], [first], 30)
    assert [family.presets for family in more] == [[preset]] * len(more)
    families = [
        Family(
            family_text(
                "c/1",
                "p/up",
                (1, 1),
                [],
                one.options,
                {"p/up": preset.values()},
                one.lines,
                one.around,
            )
        )
        for one in more
    ]
    solutions = [solve(index_of(shapes), family) for family in families]
    best = max((one for one in solutions if one is not None), key=lambda one: one.score)
    assert best.score == 1 and {p: best.values[p] for p in moves} == moves


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("decoder_name", {"MultiScaleColorDecoder", "SingleColorDecoder"}),
        ("last_norm", {"Batch", "BatchZero", "Weight", "Spectral"}),
    ],
)
def test_values_that_only_a_loader_names_are_known(name: str, values: set[str]) -> None:
    arch = pytest.importorskip("spandrel_extra_arches.architectures.DDColor")
    assert values <= set(literals(arch.DDColor)[name])
