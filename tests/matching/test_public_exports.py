"""archfind's own exports are recognised as what they were exported from, with what was told and
what was only assumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_dialects import IDS, NanoGpt, close

import archfind
from archfind.report.answer import guess_document, guess_lines


def saved_with(path: Path, metadata: dict[str, str]) -> Path:
    """An .onnx with other metadata."""
    onnx: Any = pytest.importorskip("onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registered network with three classes as .onnx, whose norms are folded away."""
    timm: Any = pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("exports")
    module = timm.create_model("test_resnet", num_classes=3)
    torch.save(module.state_dict(), folder / "net.pth")
    archfind.export(folder / "net.pth", folder / "net.onnx")
    return folder / "net.onnx"


def test_a_graph_is_what_it_was_exported_from(exported: Path) -> None:
    found = archfind.guess(exported)
    best = found.matches[0]
    assert (found.status, found.chosen_by, best.entry.id) == ("exact", "file", "timm/test_resnet")
    assert (best.config["num_classes"].value, best.config["num_classes"].source) == (3, "file")
    text = "\n".join(guess_lines(guess_document(found)))
    assert "says      exported by archfind from timm/test_resnet" in text
    plan = archfind.repair.plan(exported)
    assert not plan.complete and "lost their names" in plan.problems[0]


@pytest.mark.parametrize(
    "metadata",
    [
        {"archfind.architecture": "timm/resnet50"},  # whose shapes the graph hasn't
        {"archfind.architecture": "timm/nothing_such"},
        {"archfind.architecture": "timm/test_resnet", "archfind.config": "[" * 90},
        {"archfind.architecture": "transformers/os.system", "archfind.build": '{"config": 3}'},
        {"archfind.architecture": "x" * 4000},
    ],
)
def test_metadata_that_lies_proves_nothing(
    metadata: dict[str, str], exported: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(exported.read_bytes())
    found = archfind.guess(saved_with(path, metadata))
    assert found.status != "exact"


def test_values_of_other_types_are_left_aside(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(exported.read_bytes())
    config = {"num_classes": {"value": "many", "source": "shape"}, "x": {"value": {}}, "y": 3}
    build = {"callable": "timm.create_model", "args": ["test_resnet"], "kwargs": {}}
    told = {"config": json.dumps(config), "build": json.dumps(build)}
    props = {f"archfind.{name}": text for name, text in told.items()}
    found = archfind.guess(saved_with(path, {"archfind.architecture": "timm/test_resnet", **props}))
    assert all(setting.value != "many" or found.status != "exact"
               for setting in found.matches[0].config.values())  # fmt: skip


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_was_told_and_what_was_assumed_come_along(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    own = NanoGpt().eval()
    torch.save({"model": own.state_dict()}, tmp_path / "ckpt.pt")
    settings = {"n_head": 4}
    built = archfind.build(tmp_path / "ckpt.pt", settings=settings, accept_ambiguous=True)
    path = tmp_path / f"out{suffix}"
    archfind.export(built, path)
    found = archfind.guess(path)
    best = found.matches[0]
    assert (best.entry.name, found.chosen_by) == ("GPT2LMHeadModel", "file")
    assert (best.config["n_head"].value, best.config["n_head"].source) == (4, "file")
    assert "activation_function" in [item.place for item in best.assumed]
    assert found.status == "ambiguous"
    again = archfind.load(path, settings={"activation_function": "gelu"}, accept_ambiguous=True)
    with torch.no_grad():
        assert close(own(IDS), again(IDS).logits)
