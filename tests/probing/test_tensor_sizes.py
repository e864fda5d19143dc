"""Sizes that operations hand on: what a trace knows of masks and tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archfind.classes.expression import parse_expression
from archfind.probing.probe import on_meta, shapes_of
from archfind.probing.trace import trace


class Masked(nn.Module):
    """Buffers made the ways that windowed attention makes them."""

    def __init__(self, side: int = 16, window: int = 4, heads: int = 2) -> None:
        super().__init__()
        image = torch.zeros((1, side, side, 1))
        number, high, wide, channels = image.shape
        cut = image.view(number, high // window, window, wide // window, window, channels)
        parts = cut.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window, window, channels)
        rows = parts.view(-1, window * window)
        apart = rows.unsqueeze(1) - rows.unsqueeze(2)
        places = torch.arange(window)
        self.register_buffer("mask", apart.masked_fill(apart != 0, -100.0))
        self.register_buffer("places", places[:, None] - places[None, :])
        self.register_buffer("flat", image.flatten(1))
        self.register_buffer("turned", image.transpose(1, 3)[..., 0])
        self.register_buffer("heads", parts.reshape(-1, heads).expand(-1, heads))
        self.table = nn.Parameter(torch.zeros(heads, rows.shape[0], rows.size(1)))


@pytest.mark.parametrize("values", [(24, 4, 3), (16, 8, 2), (36, 6, 4), (8, 8, 1)])
def test_sizes_after_operations_hold_for_other_numbers(values: tuple[int, int, int]) -> None:
    traced = trace(Masked, {"side": 16, "window": 4, "heads": 2})
    assert set(traced.sizes) == set(traced.shapes)
    config = dict(zip(("side", "window", "heads"), values, strict=True))
    for key, (shape, _) in shapes_of(on_meta(Masked, config)).items():
        assert tuple(parse_expression(text).value(config) for text in traced.sizes[key]) == shape, (
            key
        )


def test_what_reads_a_shape_gets_plain_numbers() -> None:
    """A traced size is still an int to whatever computes with it."""

    class Reads(nn.Module):
        def __init__(self, width: int = 6) -> None:
            super().__init__()
            weight = torch.zeros(width, 3)
            assert weight.shape == (6, 3) and weight.numel() == 18 and isinstance(width, int)
            self.part = nn.Parameter(torch.zeros(weight.shape[0] // 2, weight.shape[-1]))

    assert trace(Reads, {"width": 6}).sizes["part"] == ["width//2", "3"]
