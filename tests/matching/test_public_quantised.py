"""Networks that torch itself quantised: found, and loaded as torch computes them."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import quantised_and_pruned
import timm
import torch
import torchvision
from quantised_and_pruned import judged
from safetensors.torch import save_file
from torch import nn
from torch.ao import quantization as ao
from torch.ao.quantization import quantize_fx

import archfind
from archfind.cli import main
from archfind.errors import BuildError, ExportError
from archfind.formats.pickles.nodes import Global, PickledCall
from archfind.formats.torch_files.quantised_modules import packed
from archfind.frozen import replace
from archfind.learning.twins import randomise_seeded
from archfind.matching.torch_quantised import float_tensors
from archfind.types import TensorSpec
from archfind.values.reader import TensorReader

SMALL = ("timm/test_resnet", "timm/mobilenetv2_050", "torchvision/resnet18")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("way", ["fx", "eager", "dynamic"])
def test_a_drawn_network_loads_and_computes_the_same(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(quantised_and_pruned, "PLAIN", SMALL)
    monkeypatch.setattr(quantised_and_pruned, "TRANSFORMERS", ("timm/test_vit",))
    monkeypatch.setattr(quantised_and_pruned, "QUANTISABLE", ("mobilenet_v2", "resnet18"))
    counts: Counter[str] = Counter()
    assert judged(way, random.Random(f"{way} 1"), counts) == ""
    assert counts["equal"] == 1


@pytest.mark.parametrize("kind", ["static", "dynamic", "fx"])
def test_a_quantised_network_pickled_whole_is_its_state_dict(kind: str, tmp_path: Path) -> None:
    if kind == "fx":
        plain = timm.create_model("test_resnet", num_classes=5).eval()
        inputs, ways = torch.rand(1, 3, 96, 96), ao.get_default_qconfig_mapping("x86")
        module = quantize_fx.convert_fx(quantize_fx.prepare_fx(plain, ways, (inputs,)))
        torch.save(module.state_dict(), tmp_path / "state.pth")
    else:
        module = quantised(kind, tmp_path / "state.pth")
    torch.save(module, tmp_path / "net.pth")
    state, whole = (archfind.open(tmp_path / name) for name in ("state.pth", "net.pth"))
    read = TensorReader().read
    values = {key: read(spec, key) for key, spec in state.index.items()}
    assert whole.index.keys() == values.keys()
    for key, value in values.items():
        found = read(whole.index[key], key)
        assert found.dtype == value.dtype
        plain = (found.dequantize(), value.dequantize()) if value.is_quantized else (found, value)
        assert torch.equal(*plain)
    found, same = archfind.guess(tmp_path / "net.pth"), archfind.guess(tmp_path / "state.pth")
    assert (found.status, found.matches[0].entry) == (same.status, same.matches[0].entry)
    image = torch.rand(1, 3, 160, 160)
    assert torch.equal(archfind.load(tmp_path / "net.pth")(image), module(image))


@pytest.mark.parametrize(
    ("name", "dtype"), [("sequencer2d_s", torch.qint8), ("test_vit", torch.float16)]
)
def test_dynamic_layers_that_recur_or_are_halves(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    module = timm.create_model(name, num_classes=3).eval()
    module = ao.quantize_dynamic(module, {nn.LSTM, nn.Linear}, dtype=dtype)
    torch.save(module, tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert (found.status, found.matches[0].entry.id) == ("exact", f"timm/{name}")
    image = torch.rand(1, 3, *([160] * 2 if name == "test_vit" else [224] * 2))
    assert torch.equal(archfind.load(tmp_path / "net.pth")(image), module(image))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_the_float_names_of_recurrent_layers(layers: int, both: bool, tmp_path: Path) -> None:
    plain = nn.ModuleDict({"rnn": nn.LSTM(8, 6, layers, bidirectional=both)})
    module = ao.quantize_dynamic(plain, {nn.LSTM}).state_dict()
    torch.save(module, tmp_path / "net.pth")
    index = archfind.open(tmp_path / "net.pth").index
    shapes = {k: spec.shape for k, spec in float_tensors(names_of(index)).items()}
    assert shapes == {k: tuple(v.shape) for k, v in plain.state_dict().items()}


def names_of(index: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    return {key.replace("/", "."): spec for key, spec in index.items()}


def test_packed_weights_that_hold_themselves_are_none() -> None:
    cell = PickledCall(Global("torch.ScriptObject", None, 0), ())
    cell.state = (("x", [], [], [], [cell, cell]), "__torch__.torch.classes.rnn.CellParamsBase")
    assert packed(cell) is None


def test_the_librarys_own_quantised_network_is_named_with_how_it_is_built(tmp_path: Path) -> None:
    module = torchvision.models.quantization.mobilenet_v2(weights=None, quantize=True)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert (found.status, found.matches[0].entry.id) == (
        "exact",
        "torchvision/quantized_mobilenet_v2",
    )
    assert found.matches[0].config["quantize"].value is True
    loaded = archfind.load(tmp_path / "net.pth")
    image = torch.rand(1, 3, 96, 96)
    assert torch.equal(loaded(image), module(image))


def fused_for_training(path: Path) -> nn.Module:
    module: Any = torchvision.models.quantization.resnet18(weights=None, quantize=False)
    randomise_seeded(module)
    module.train().fuse_model(is_qat=True)
    module.qconfig = ao.get_default_qat_qconfig("fbgemm")
    module = ao.prepare_qat(module)
    module(torch.rand(2, 3, 96, 96))
    module.eval().apply(ao.disable_observer)
    torch.save(module.state_dict(), path)
    return module


def test_training_with_fused_norms_is_the_plain_network_and_its_ranges_are_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = fused_for_training(tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert found.is_assumed and found.matches[0].entry.id == "torchvision/resnet18"
    assert [item.place for item in found.matches[0].assumed] == ["qconfig"]
    assert main(["guess", str(tmp_path / "net.pth")]) == 1
    assert "quantisation-aware training (eager mode, norms fused)" in capsys.readouterr().out
    image = torch.rand(1, 3, 96, 96)
    assert torch.equal(archfind.load(tmp_path / "net.pth")(image), module(image))
    told = archfind.load(tmp_path / "net.pth", settings={"qconfig": "qnnpack"})
    assert not torch.equal(told(image), module(image))


def test_below_a_prefix_and_in_a_wrapper(tmp_path: Path) -> None:
    module = timm.create_model("test_vit", num_classes=4).eval()
    quantised = ao.quantize_dynamic(module, {nn.Linear})
    state = {f"module.{key}": value for key, value in quantised.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "net.pth")
    image = torch.rand(1, 3, 160, 160)
    assert torch.equal(archfind.load(tmp_path / "net.pth")(image), quantised(image))


def quantised(kind: str, path: Path) -> nn.Module:
    """A quantised network, its state dict in a file."""
    module: Any
    if kind == "training":
        return fused_for_training(path)
    if kind == "dynamic":
        module = timm.create_model("test_vit").eval()
        randomise_seeded(module)
        module = ao.quantize_dynamic(module, {nn.Linear})
    else:
        module = torchvision.models.quantization.resnet18(weights=None, quantize=False).eval()
        randomise_seeded(module)
        module.fuse_model(is_qat=False)
        module.qconfig = ao.get_default_qconfig("fbgemm")
        module = ao.prepare(module)
        module(torch.rand(2, 3, 96, 96))
        module = ao.convert(module)
    torch.save(module.state_dict(), path)
    return module


@pytest.mark.parametrize("kind", ["static", "dynamic", "training"])
def test_copies_compute_the_same_and_torch_loads_them(kind: str, tmp_path: Path) -> None:
    module = quantised(kind, tmp_path / "net.pth")
    image = torch.rand(1, 3, 160, 160)
    copy, back = tmp_path / "copy.safetensors", tmp_path / "back.pth"
    archfind.export(tmp_path / "net.pth", copy, accept_ambiguous=True)
    assert torch.equal(archfind.load(copy, accept_ambiguous=True)(image), module(image))
    archfind.export(copy, back, accept_ambiguous=True)
    state = torch.load(back, weights_only=True)
    assert state.keys() == module.state_dict().keys()
    assert not any(module.load_state_dict(state, strict=True))
    assert torch.equal(archfind.load(back, accept_ambiguous=True)(image), module(image))


def test_a_copy_is_not_cast_or_divided(tmp_path: Path) -> None:
    fused_for_training(tmp_path / "net.pth")
    ways: list[dict[str, Any]] = [{"dtype": "fp16"}, {"max_shard_size": 1 << 20}]
    for more in ways:
        with pytest.raises(ExportError, match="torch quantised this network"):
            archfind.export(
                tmp_path / "net.pth", tmp_path / "out.safetensors", accept_ambiguous=True, **more
            )
    assert not (tmp_path / "out.safetensors").exists()


def test_no_onnx_of_what_it_has_no_operators_for(tmp_path: Path) -> None:
    quantised("dynamic", tmp_path / "net.pth")
    with pytest.raises(ExportError, match=r"dynamic quantisation: ONNX has no .* write \.ts"):
        archfind.export(tmp_path / "net.pth", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    "said",
    [
        "no JSON",
        "[]",
        '{"weight": 3}',
        '{"weight": {"dtype": "quint8", "scale": 0.1, "zero_point": 0}}',
        '{"weight": {"dtype": "qint8", "scale": "x", "zero_point": 0}}',
        '{"weight": {"dtype": "qint8", "scale": 0.1, "zero_point": 1e99}}',
        '{"weight": {"dtype": "qint8", "axis": 0}}',
        '{"weight": {"dtype": "qint8", "axis": 7}}',
        '{"other": {"dtype": "qint8", "scale": 0.1, "zero_point": 0}}',
    ],
)
def test_a_note_that_fits_no_tensor_leaves_the_integers(said: str, tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(4, 3, dtype=torch.int8), "weight.scales": torch.rand(3)}
    save_file(tensors, tmp_path / "net.safetensors", {"archfind.quantisation": said})
    index = archfind.open(tmp_path / "net.safetensors").index
    assert {key: spec.dtype for key, spec in index.items()} == {
        "weight": "int8",
        "weight.scales": "float32",
    }
    assert index["weight"].quantiser is None


@pytest.mark.parametrize("by_channel", [False, True])
def test_quantised_tensors_of_unknown_networks_are_copied(by_channel: bool, tmp_path: Path) -> None:
    weight = torch.randn(5, 4)
    if by_channel:
        scales, zeros = torch.rand(5) + 0.1, torch.arange(5)
        weight = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    else:
        weight = torch.quantize_per_tensor(weight, 0.1, 3, torch.quint8)
    torch.save({"weight": weight}, tmp_path / "net.pth")
    archfind.export(tmp_path / "net.pth", tmp_path / "net.safetensors")
    index = archfind.open(tmp_path / "net.safetensors").index
    assert list(index) == ["weight"]
    read = TensorReader().read(index["weight"])
    assert read.qscheme() == weight.qscheme() and read.dtype == weight.dtype
    assert torch.equal(read.dequantize(), weight.dequantize())


@pytest.mark.parametrize("by_channel", [False, True])
def test_quantised_tensors_are_read_as_torch_reads_them(by_channel: bool, tmp_path: Path) -> None:
    weight = torch.randn(5, 4)
    if by_channel:
        scales, zeros = torch.rand(5) + 0.1, torch.arange(5)
        weight = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    else:
        weight = torch.quantize_per_tensor(weight, 0.1, 3, torch.quint8)
    torch.save({"weight": weight}, tmp_path / "net.pth")
    spec = archfind.open(tmp_path / "net.pth").index["weight"]
    read = TensorReader().read(spec)
    assert read.qscheme() == weight.qscheme() and read.dtype == weight.dtype
    assert torch.equal(read.dequantize(), weight.dequantize())
    if by_channel:
        assert spec.quantiser is not None
        fewer = replace(spec.quantiser, axis=1)
        with pytest.raises(BuildError, match="its scales don't fit it"):
            TensorReader().read(replace(spec, quantiser=fewer), "weight")
    with pytest.raises(BuildError, match="which are not read"):
        TensorReader().read(replace(spec, quantiser=None), "weight")


def test_nothing_of_torch_is_imported_to_name_one(tmp_path: Path) -> None:
    import subprocess

    quantised = torchvision.models.quantization.resnet18(weights=None, quantize=True)
    torch.save(quantised.state_dict(), tmp_path / "net.pth")
    code = (
        "import archfind, sys; found = archfind.guess(sys.argv[1]);"
        "print(found.matches[0].entry.id, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "net.pth")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torchvision/quantized_resnet18", "False", "False"]
