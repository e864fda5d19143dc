"""Exports that can't be finished: one error, nothing left behind, the source as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import archfind
from archfind.errors import ExportError
from archfind.providers import provider

SCRIPT = """
import resource, sys
import timm, torch.onnx, onnxruntime, onnxscript  # their own files, before there is no room
from archfind.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for suffix in (".ts", ".pt2", ".onnx", ".pth"):
    more = ["--set", "num_classes=1000"] if suffix == ".pth" else []  # built, not copied
    code = main(["export", sys.argv[1], sys.argv[2] + suffix, "--as", "timm/test_vit", *more])
    print(suffix, code, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vit") / "in.pth"
    torch.save(provider("timm").create("test_vit").state_dict(), path)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_disk_that_fills_up(vit: Path, tmp_path: Path) -> None:
    before = vit.read_bytes()
    out = tmp_path / "out"
    command = [sys.executable, "-c", SCRIPT, str(vit), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("export: ")]
    assert said == [
        line
        for suffix in (".ts", ".pt2", ".onnx", ".pth")
        for line in (f"{out}{suffix}: error: can't be written: File too large", f"{suffix} 2")
    ]
    assert list(tmp_path.iterdir()) == []
    assert vit.read_bytes() == before


def test_a_network_of_nothing_but_nan(vit: Path, tmp_path: Path) -> None:
    state = torch.load(vit, weights_only=True)
    state["head.weight"] = torch.full_like(state["head.weight"], torch.nan)
    torch.save(state, tmp_path / "nan.pth")
    for suffix in (".onnx", ".ts", ".pt2"):
        with pytest.raises(ExportError, match="nothing but NaN"):
            archfind.export(tmp_path / "nan.pth", tmp_path / f"out{suffix}", choose="timm/test_vit")
    assert [path.name for path in tmp_path.iterdir()] == ["nan.pth"]
    # a copy needs no sense in the values: it has the same ones
    archfind.export(tmp_path / "nan.pth", tmp_path / "out.safetensors", choose="timm/test_vit")


def test_what_a_copy_has_no_use_for(vit: Path, tmp_path: Path) -> None:
    for options in ({"half": True}, {"opset": 18}):
        with pytest.raises(ExportError, match="half and opset are for"):
            archfind.export(vit, tmp_path / "out.safetensors", choose="timm/test_vit", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [3, 99])
def test_an_opset_that_no_exporter_writes(opset: int, vit: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"no exporter writes opset {opset}"):
        archfind.export(vit, tmp_path / "out.onnx", choose="timm/test_vit", opset=opset)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_with_operators_that_nobody_knows(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(torch.randn(4, 8).numpy(), "my.weight")
    node = helper.make_node("FancyOp", ["x", "my.weight"], ["y"], domain="com.acme")
    sides = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("x", [2, 8]), ("y", [2, 4]))
    ]
    graph = helper.make_graph([node], "g", sides[:1], sides[1:], [weight])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "fancy.onnx")
    with pytest.raises(archfind.ArchfindError, match="operators FancyOp"):
        archfind.load(tmp_path / "fancy.onnx")
    with pytest.raises(ExportError, match=r"com\.acme\.FancyOp"):
        archfind.export(tmp_path / "fancy.onnx", tmp_path / "out.onnx")
    done = archfind.export(tmp_path / "fancy.onnx", tmp_path / "out.pth")
    assert "operators FancyOp" in done.notes["module"]
    assert list(torch.load(done.path, weights_only=True)) == ["my.weight"]


def test_a_graph_of_nobody_in_halves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    torch.onnx.export(module, (torch.randn(2, 8),), tmp_path / "own.onnx", dynamo=False)
    archfind.export(tmp_path / "own.onnx", tmp_path / "half.onnx", half=True)
    kinds = {t.data_type for t in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert kinds == {TensorProto.FLOAT16}
    with pytest.raises(ExportError, match="half and opset are for"):
        archfind.export(tmp_path / "own.onnx", tmp_path / "half.pth", half=True)
