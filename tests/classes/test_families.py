"""Families: expressions, programs, solving, and learning them by probing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from tower import NOWHERE, index_of

from archfind.classes.expression import parse_expression
from archfind.classes.notation import Family, family_text, numbered_template
from archfind.classes.numbered import joined_key, numbered
from archfind.classes.polish import polished
from archfind.classes.program import Program
from archfind.classes.score import Solution
from archfind.classes.solve import solve
from archfind.errors import SignatureError
from archfind.learning.family import Preset, families
from archfind.learning.unread import unread_leaves
from archfind.probing.config import captured_call, leaves_of_config, moved
from archfind.probing.probe import on_meta, shapes_of
from archfind.probing.proposals import alternates, literals
from archfind.types import TensorSpec
from archfind.work import Work

TEXT = """\
[toy.Net/1]
base    toy/net
held    12 12
direct  width depth
leaf    width 32 options [64, 16]
leaf    depth 2 options [3, 1]
leaf    bias true options [false]
leaf    img.# 2
leaf    img.0 32 options [64]
leaf    img.1 32 options [64]
leaf    patch 8 options [4]
leaf    kind "a" options ["b"]
preset  toy/net {}
preset  toy/large {"width": 64, "depth": 4}
stem.weight  width 3 patch patch
pos  1 (img.0//patch)*(img.1//patch)+1 width
blocks.{i<depth}.fc~.1.weight  4*width width
blocks.{i<depth}.fc~.1.bias  4*width  if bias
blocks.{i<depth}.norm.weight  width  if {i} == {i#}-1
extra.weight  case(kind == 'b',2*width,7) 5  if kind == 'b'
"""


def best(index: dict[str, TensorSpec], family: Family) -> Solution | None:
    """The values for a family, searched for where the shapes alone don't give them."""
    found = solve(index, family)
    return found and polished(index, family, found, Work(len(index)))


numbers = st.integers(1, 9)


@given(numbers, numbers, numbers, st.permutations(["+", "*", "-"]))
def test_expressions_compute_as_python_does(a: int, b: int, c: int, ops: list[str]) -> None:
    plain = {"+": int.__add__, "*": int.__mul__, "-": int.__sub__, "//": int.__floordiv__}
    level = {"+": 1, "-": 1, "*": 2, "//": 2}
    row: list[int] = [a, b, plain[ops[2]](c, 2), 3]
    signs = [ops[0], ops[1], "//"]
    while signs:  # the slow way: the leftmost of the strongest operators first
        at = max(range(len(signs)), key=lambda n: (level[signs[n]], -n))
        row[at : at + 2] = [plain[signs.pop(at)](row[at], row[at + 1])]
    text = f"a{ops[0]}b{ops[1]}(c{ops[2]}2)//3"
    assert parse_expression(text).value({"a": a, "b": b, "c": c}) == row[0]


@pytest.mark.parametrize(
    ("text", "values", "wanted"),
    [
        ("depths.{i-1}", {"{i}": 2, "depths.1": 7}, 7),
        ("not bias and {i} != 0", {"bias": False, "{i}": 1}, True),
        ("kind == 'x' or kind == 'y'", {"kind": "y"}, True),
        ("round8(32*w)", {"w": 1.4}, 48),
        ("case(n > 2,10,1/0)", {"n": 3}, 10),
        ("max(3*n-3,3)", {"n": 1}, 3),
        ("floor(n/2)+ceil(n/2)", {"n": 7}, 7),
        ("x != None", {}, False),
    ],
)
def test_expressions(text: str, values: dict[str, object], wanted: object) -> None:
    assert parse_expression(text).value(values) == wanted


@pytest.mark.parametrize("text", ["3*", "a b", "min(a", ")"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(SignatureError):
        parse_expression(text).value({"a": 1, "b": 2})


@given(
    st.lists(st.from_regex(r"[a-z_]{1,6}(0|[1-9][0-9]{0,2})?|[0-9]", fullmatch=True), min_size=1)
)
def test_numbers_taken_apart_come_back(parts: list[str]) -> None:
    key = ".".join(parts)
    assert joined_key(numbered(key)) == key
    assert numbered_template(numbered(key)) == numbered_template(key)


def test_a_program_expands_to_exact_keys() -> None:
    program = Family(TEXT).program
    values = {
        "width": 8,
        "depth": 2,
        "bias": False,
        "img.0": 16,
        "img.1": 8,
        "patch": 4,
        "kind": "a",
    }
    assert program.expand(values) == {
        "stem.weight": ((8, 3, 4, 4), "float"),
        "pos": ((1, 9, 8), "float"),
        "blocks.0.fc1.weight": ((32, 8), "float"),
        "blocks.1.fc1.weight": ((32, 8), "float"),
        "blocks.1.norm.weight": ((8,), "float"),
    }


@settings(deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 9), st.booleans(), st.sampled_from("ab"),
    st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip
def test_solving_undoes_expanding(
    width: int, depth: int, bias: bool, kind: str, patch: int, grid: int
) -> None:
    family = Family(TEXT)
    side = patch * grid
    values = {"width": width, "depth": depth, "bias": bias, "kind": kind, "patch": patch}
    values |= {"img.0": side, "img.1": side, "img.#": 2}
    found = best(index_of(family.program.expand(values)), family)
    assert found is not None and found.score == 1
    assert {path: found.values[path] for path in values} == values


def test_a_damaged_tensor_is_outvoted() -> None:
    family = Family(TEXT)
    values = {**family.leaves, "width": 48, "depth": 5}
    index = index_of(family.program.expand(values))
    index["blocks.3.fc1.weight"] = TensorSpec("float32", (192, 47), NOWHERE)
    found = best(index, family)
    assert found is not None and found.values["width"] == 48
    wrong = [k for k, (shape, _) in found.expected.items() if index[k].shape != shape]
    assert wrong == ["blocks.3.fc1.weight"]


class Block(nn.Module):
    def __init__(self, dim: int, ratio: float, bias: bool, last: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, int(dim * ratio), bias=bias)
        self.fc2 = nn.Linear(int(dim * ratio), dim)
        if last:
            self.norm = nn.LayerNorm(dim)


class Toy(nn.Module):
    """A network with what constructors do: lists, products, switches, a last block."""

    def __init__(
        self,
        dims: tuple[int, ...] = (32, 64),
        depths: tuple[int, ...] = (2, 5),
        ratio: float = 2.0,
        bias: bool = True,
        stem: str = "conv",
        heads: int = 4,
    ) -> None:
        super().__init__()
        if stem not in ("conv", "pool"):
            raise ValueError(stem)
        if stem == "conv":
            self.stem = nn.Conv2d(3, dims[0], 3)
        elif stem == "pool":
            self.stem = nn.Conv2d(3, dims[0] // 2, 1)
        self.heads = heads
        self.stages = nn.ModuleList(
            nn.Sequential(*[Block(dim, ratio, bias, n == depth - 1) for n in range(depth)])
            for dim, depth in zip(dims, depths, strict=True)
        )
        self.merge = nn.Linear(sum(dims), 2 * dims[1])


def test_a_family_is_learned_from_its_constructor() -> None:
    module, cls, config = captured_call(Toy)
    (found,) = families(cls, cls, [Preset("toy", config, shapes_of(module))], 20)
    assert found.right == found.held > 0
    assert {"dims.0", "depths.1", "ratio", "bias", "stem"} <= found.options.keys()
    assert "heads" not in found.options
    text = family_text(
        "t.Toy/1",
        "x/toy",
        (1, 1),
        [],
        found.options,
        {"x/toy": leaves_of_config(config)},
        found.lines,
    )
    family = Family(text)
    for moves in ({"dims.0": 48, "depths.1": 7}, {"bias": False, "stem": "pool"}, {"ratio": 3.0}):
        other = moved(config, moves)
        shapes = shapes_of(on_meta(cls, other))
        assert Program(found.lines).expand(leaves_of_config(other)) == shapes
        solved = best(index_of(shapes), family)
        assert solved is not None and solved.score == 1
        assert {path: solved.values[path] for path in moves} == moves


class Row(nn.Module):
    """Convolutions with or without a weighted activation between them."""

    def __init__(self, width: int = 8, count: int = 3, act: str = "prelu") -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3)]
        for _ in range(count):
            layers.append(nn.ReLU() if act == "relu" else nn.PReLU(width))
            layers.append(nn.Conv2d(width, width, 3))
        self.body = nn.Sequential(*layers)


def test_a_number_becomes_a_pair_where_a_pair_is_read() -> None:
    pair = {"img.#": 2, "img.1": 192}
    assert moved({"img": 224}, pair) == {"img": [224, 192]}
    assert moved({"img": (224, 160, 96)}, pair) == {"img": (224, 192)}


def test_what_a_family_does_not_read_is_found() -> None:
    preset = Preset("row", captured_call(Row)[2], shapes_of(Row()))
    assert unread_leaves(Row, preset, {"width", "act"}, 20) == ["count"]
    assert unread_leaves(Row, preset, {"width", "act", "count"}, 20) == []
    (found,) = families(Row, Row, [preset], 20)
    assert {"width", "act", "count"} <= found.options.keys() and found.right == found.held
    assert unread_leaves(Row, preset, found.options, 20) == []


def test_arguments_are_captured_and_moved() -> None:
    _, cls, config = captured_call(lambda: Toy(depths=[1, 2]))
    assert cls is Toy and config["ratio"] == 2.0
    assert leaves_of_config(config)["depths.#"] == 2
    longer = moved(config, {"depths.#": 3, "depths.2": 9})
    assert longer["depths"] == [1, 2, 9] and config["depths"] == [1, 2]


def test_probing_makes_no_storage() -> None:
    module = on_meta(Toy, captured_call(Toy)[2])
    assert all(p.is_meta for p in module.parameters())
    assert isinstance(module, Toy) and torch.is_grad_enabled()


class Denoiser(nn.Module):
    """Its default has no layers that upscale, and its source never names it."""

    def __init__(self, upscale: int = 1, upsampler: str = "") -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        if upsampler == "shuffle":
            twice = (nn.Conv2d(8, 32, 3), nn.PixelShuffle(2))
            self.up = nn.Sequential(*(upscale.bit_length() - 1) * twice)
        elif upsampler == "direct":
            self.up = nn.Sequential(nn.Conv2d(8, 3 * upscale**2, 3), nn.PixelShuffle(upscale))


def test_defaults_are_tried_where_the_network_looked_at_has_others() -> None:
    assert set(literals(Denoiser)["upsampler"]) == {"", "shuffle", "direct"}


def test_small_numbers_are_tried_up_to_the_scales_that_upscalers_have() -> None:
    for base in (1, 2, 4):
        tried = {base, *alternates("upscale", base, ())}
        assert tried >= {1, 2, 3, 4} and (base == 1 or 8 in tried)


def test_a_class_without_its_usual_layers_is_read_from_a_network_that_has_them() -> None:
    """Learned from 4 times with all layers: other scales, the other way, and none at all."""
    _, cls, config = captured_call(lambda: Denoiser(4, "shuffle"))
    preset = Preset("usual", config, shapes_of(on_meta(cls, config)))
    (family,) = families(cls, cls, [preset], seconds=10)
    program = Program(family.lines)
    for moves in ({"upscale": 8}, {"upscale": 2}, {"upsampler": ""}, {"upsampler": "direct"}):
        wanted = shapes_of(on_meta(cls, {**config, **moves}))
        assert program.expand({**config, **moves}) == wanted


@pytest.mark.parametrize("values", [{"a": 1 << 40}, {"a": 65}, {"a": 1e6}])
def test_a_power_is_no_larger_than_any_size(values: dict[str, float]) -> None:
    """A file says how large an exponent is; a number of a million digits takes minutes."""
    with pytest.raises(OverflowError, match="larger than any size"):
        parse_expression("3 + 2**a").value(values)
    with pytest.raises(OverflowError, match="larger than any size"):
        parse_expression("a**40").value({"a": 1 << 70})
    assert parse_expression("2**a").value({"a": 16}) == 1 << 16
