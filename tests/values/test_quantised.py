"""Packed weights, held against what the libraries that pack them make of them again."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import archfind
from archfind import formats
from archfind.building.instantiate import read_state
from archfind.providers import provider
from archfind.state_dicts.canonical import networks, training_readings
from archfind.values.quantised import dequantised

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch's version
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme


def _network() -> nn.Module:
    torch.manual_seed(0)
    return provider("timm").create("test_vit").eval()


def _same(path: Path, worth: dict[str, Tensor]) -> None:
    """The file is known, loads, and comes out of a repair, with these values."""
    guess = archfind.guess(path, choose="timm/test_vit")
    assert guess.status == "exact" and not guess.canonical.aside
    assert any(step.kind == "dequantise" for step in guess.canonical.steps)
    for key, value in archfind.load(guess).state_dict().items():
        torch.testing.assert_close(value, worth[key].to(value.dtype), rtol=1e-6, atol=1e-7)
    out = path.with_name("out.safetensors")
    archfind.repair.apply(archfind.repair.plan(guess), out)
    for key, value in archfind.load(out, choose="timm/test_vit").state_dict().items():
        torch.testing.assert_close(value, worth[key].to(value.dtype), rtol=1e-6, atol=1e-7)


TORCHAO = Path(__file__).parent / "torchao"


@pytest.mark.parametrize(
    "path", [p for p in sorted(TORCHAO.iterdir()) if ".worth." not in p.name], ids=lambda p: p.name
)
def test_torchao(path: Path) -> None:
    """Two linear layers written by torchao: 0.18 (int8, float8, groups of intx) as a pickle and by
    its flatten_tensor_state_dict, 0.9 (affine, and dynamic, which has activations quantised, too)
    as pickles; `.worth` is what its dequantize() gives. The library isn't needed for reading."""
    (network,) = networks(formats.open(path)).values()
    canonical = next(training_readings(network))
    worth = load_file(TORCHAO / f"{path.stem}.worth.safetensors")
    assert set(canonical.index) == set(worth) and not canonical.aside
    assert len(canonical.merged) == 2
    for key, value in read_state(canonical).items():
        torch.testing.assert_close(value, worth[key], rtol=1e-6, atol=1e-7)


def _args(bits: int, strategy: str, symmetric: bool) -> QuantizationArgs:
    size = 16 if strategy == "group" else None
    return QuantizationArgs(
        num_bits=bits, type="int", strategy=strategy, group_size=size, symmetric=symmetric
    )


def _compressed(
    weight: Tensor, name: str, args: QuantizationArgs
) -> tuple[dict[str, Tensor], Tensor]:
    """A weight as compressed-tensors writes it, and what that library reads from it."""
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(name)
    rows, columns = weight.shape
    groups = columns // args.group_size if args.group_size else 1
    blocks = weight.reshape(rows, groups, -1)
    reach = 2 ** (args.num_bits - 1)
    if args.type == "float":
        reach = 6.0 if args.num_bits == 4 else 448.0
    scale = blocks.abs().amax(-1) / reach
    state = {"weight": weight, "weight_scale": scale}
    if args.type == "float":
        state["weight_scale"] = torch.exp2(scale.log2().ceil())
        if args.group_size == 16:
            state["weight_global_scale"] = torch.tensor([16.0])
            state["weight_scale"] = state["weight_scale"] * 16
    if not args.symmetric:
        state["weight_zero_point"] = torch.randint(-2, 2, scale.shape).clamp(
            -(2 ** (args.num_bits - 1)), 2 ** (args.num_bits - 1) - 1
        ).to(torch.int8)  # fmt: skip
    packed = compressor.compress(dict(state), scheme)
    worth = compressor.decompress(dict(packed), scheme)["weight"]
    return packed, worth


SCHEMES = {
    "int8": ("int-quantized", _args(8, "channel", symmetric=True)),
    "nvfp4": ("nvfp4-pack-quantized", QuantizationArgs(
        num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True)),
    "mxfp8": ("mxfp8-quantized", QuantizationArgs(
        num_bits=8, type="float", strategy="group", group_size=32, symmetric=True,
        scale_dtype=torch.uint8)),
    "mxfp4": ("mxfp4-pack-quantized", QuantizationArgs(
        num_bits=4, type="float", strategy="group", group_size=32, symmetric=True)),
}  # fmt: skip
PACKED = {
    f"{bits} bits, {how}, {'no ' * symmetric}zero points": (
        "pack-quantized",
        _args(bits, how, symmetric),
    )
    for bits in range(1, 9)
    for how in ("group", "channel")
    for symmetric in (True, False)
}


@pytest.mark.parametrize("scheme", [*SCHEMES, *PACKED])
def test_compressed_layers(scheme: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    name, args = {**SCHEMES, **PACKED}[scheme]
    parts, worth = _compressed(torch.randn(24, 160), name, args)
    path = tmp_path / "packed.safetensors"
    save_file({f"layer.{part}": one.contiguous() for part, one in parts.items()}, path)
    (network,) = networks(formats.open(path)).values()
    canonical = next(training_readings(network))
    assert list(canonical.index) == ["layer.weight"]
    (found,) = read_state(canonical).values()
    torch.testing.assert_close(found, worth.float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scheme", ["nvfp4", "4 bits, group, zero points"])
def test_compressed_networks(scheme: str, tmp_path: Path) -> None:
    name, args = {**SCHEMES, **PACKED}[scheme]
    packed: dict[str, Tensor] = {}
    worth: dict[str, Tensor] = {}
    for key, value in _network().state_dict().items():
        if key.startswith("blocks") and value.dim() == 2:
            parts, worth[key] = _compressed(value, name, args)
            packed |= {key.removesuffix("weight") + part: one for part, one in parts.items()}
        else:
            packed[key] = worth[key] = value
    path = tmp_path / "packed.safetensors"
    save_file({key: value.contiguous() for key, value in packed.items()}, path)
    _same(path, {key: value.float() for key, value in worth.items()})


def test_groups_in_another_order() -> None:
    """`g_idx` says which group each column is of, by hand."""
    words = torch.tensor([[0x0000_0F21]], dtype=torch.int32)  # 1, 2, 15 less 8
    scale = torch.tensor([[1.0, 10.0]])
    order = torch.tensor([1, 0, 1], dtype=torch.int32)
    found = dequantised("packed-4", [words, scale, order], (1, 3))
    assert found.tolist() == [[-70.0, -6.0, 70.0]]


def test_experts_of_four_bit_floats() -> None:
    """gpt-oss's experts, against the library that runs them."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    torch.manual_seed(0)
    blocks = torch.randint(0, 256, (3, 10, 2, 16), dtype=torch.uint8)
    scales = torch.randint(118, 130, (3, 10, 2), dtype=torch.uint8)
    worth = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    found = dequantised("mxfp4-experts", [blocks, scales], (3, 64, 10))
    assert found.shape == (3, 64, 10) and torch.equal(found, worth)


def test_modelopts_four_bit_floats() -> None:
    """By hand: 0x21 is 0.5, then 1."""
    packed = torch.full((2, 8), 0x21, dtype=torch.uint8)
    scale = torch.tensor([[2.0], [4.0]]).to(torch.float8_e4m3fn)
    found = dequantised("modelopt-fp4", [packed, scale, torch.tensor(0.25)], (2, 16))
    assert torch.equal(found, torch.tensor([[0.25, 0.5], [0.5, 1.0]]).repeat(1, 8))


def test_a_class_without_a_recipe_stays_as_it_is(tmp_path: Path) -> None:
    """Metadata that names a class of another layout: nothing is made up."""
    state = {
        "a._weight_qdata": torch.zeros(4, 4, dtype=torch.int8),
        "a._weight_scale": torch.ones(4),
    }
    said = {"a.weight": json.dumps({"_type": "Int4TilePackedTo4dTensor"})}
    save_file(state, tmp_path / "x.safetensors", said)
    found = archfind.guess(tmp_path / "x.safetensors").canonical.index
    assert sorted(found) == sorted(state)


@pytest.mark.parametrize("note", ["[" * 4000, '{"_type": 3}', "{", "[1]", '{"a": [' + "[" * 3000])
def test_odd_files_with_packed_names_are_unknown(note: str, tmp_path: Path) -> None:
    """Scalars where matrices are expected, and notes that no library wrote."""
    state = {
        "a.weight": torch.tensor(3, dtype=torch.uint8),
        "a.weight_scale": torch.tensor(1.0),
        "a.weight_scale_2": torch.tensor(1.0),
        "b.weight_packed": torch.tensor(3, dtype=torch.int32),
        "b.weight_scale": torch.tensor(1.0),
        "c._weight_qdata": torch.tensor(3, dtype=torch.int8),
        "c._weight_scale": torch.tensor(1.0),
        "d_blocks": torch.tensor(3, dtype=torch.uint8),
        "d_scales": torch.tensor(3, dtype=torch.uint8),
    }
    save_file(state, tmp_path / "odd.safetensors", {"c.weight": note, "archfind.versions": note})
    assert archfind.guess(tmp_path / "odd.safetensors").status == "unknown"
    archfind.export(tmp_path / "odd.safetensors", tmp_path / "odd.pth")
