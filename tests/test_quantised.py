"""Packed weights, held against what the libraries that pack them make of them again."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import archfind
from archfind import formats
from archfind.canonical import networks, readings
from archfind.instantiate import read_state
from archfind.providers import provider
from archfind.quantised_values import dequantised

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # both warn of each other's and torch's versions
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from torchao import quantization
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict


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


TORCHAO = {
    "int8": quantization.Int8WeightOnlyConfig(),
    "fp8": quantization.Float8WeightOnlyConfig(),
    "intx": quantization.IntxWeightOnlyConfig(
        weight_dtype=torch.int4, granularity=quantization.PerGroup(32)
    ),
}


@pytest.mark.parametrize("name", TORCHAO)
@pytest.mark.parametrize("end", [".pth", ".safetensors"])
def test_torchao(name: str, end: str, tmp_path: Path) -> None:
    module = _network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.quantize_(module, TORCHAO[name])
    state = module.state_dict()
    path = tmp_path / f"packed{end}"
    if end == ".pth":
        torch.save(state, path)
    else:
        flat, metadata = flatten_tensor_state_dict(state)
        save_file({key: value.contiguous() for key, value in flat.items()}, path, metadata)
    packed = {key: type(value) is not Tensor for key, value in state.items()}
    assert sum(packed.values()) > 20
    _same(path, {k: v.dequantize() if packed[k] else v for k, v in state.items()})


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
    reach = 6.0 if args.type == "float" else 2 ** (args.num_bits - 1)
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
    canonical = next(readings(network))
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
