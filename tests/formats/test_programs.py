"""TorchScript, exported programs and torch.package: the tensors beside the code."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import torch
from layout_files import State, network, same, saved, values

from archfind import formats


def test_torchscript(tmp_path: Path) -> None:
    module = network().eval()
    torch.jit.save(torch.jit.script(module), tmp_path / "x.pt")
    found = formats.open(tmp_path / "x.pt")
    assert found.format == "torchscript" and found.container["code_files"]
    got = values(tmp_path / "x.pt")
    expected = module.state_dict()
    assert set(got) == set(expected)
    assert all(torch.equal(got[key], value) for key, value in expected.items())


def script_1_0(path: Path) -> State:
    """A TorchScript file as torch 1.0 wrote it: protobuf in JSON, which leaves zeros out."""
    weight, bias = torch.randn(2, 3), torch.arange(4, dtype=torch.int64)
    tensors = [
        {"dims": ["2", "3"], "strides": ["3", "1"], "dataType": "FLOAT"},
        {"dims": ["2"], "offset": "1", "strides": ["2"], "dataType": "INT64"},
    ]
    for i, one in enumerate(tensors):
        one |= {"data": {"key": f"tensors/{i}"}, "device": "cpu"}
    model = {
        "protoVersion": "2",
        "producerName": "pytorch",
        "producerVersion": "1.0",
        "mainModule": {
            "name": "m",
            "optimize": True,
            "submodules": [
                {
                    "name": "fc",
                    "parameters": [
                        {"name": "weight"},
                        {"isBuffer": True, "tensorId": "1", "name": "steps"},
                    ],
                }
            ],
        },
        "tensors": tensors,
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/version", "1\n")
        archive.writestr("m/code/m.py", "op_version_set = 0\n")
        archive.writestr("m/tensors/0", weight.numpy().tobytes())
        archive.writestr("m/tensors/1", bias.numpy().tobytes())
        archive.writestr("m/model.json", json.dumps(model))
    return {"fc.weight": weight, "fc.steps": bias[1::2]}


def test_torchscript_of_torch_1_0(tmp_path: Path) -> None:
    expected = script_1_0(tmp_path / "x.pt")
    same(values(tmp_path / "x.pt"), expected)
    found = formats.open(tmp_path / "x.pt")
    assert found.format == "torchscript-1.0" and found.container["version"] == "1.0"


def test_exported_program(tmp_path: Path) -> None:
    module = network().eval()
    program = torch.export.export(module, (torch.zeros(1, 3, 4, 4),))
    torch.export.save(program, tmp_path / "x.pt2")
    found = formats.open(tmp_path / "x.pt2")
    assert found.format == "torch-export" and found.container["programs"] == ["model"]
    got = values(tmp_path / "x.pt2")  # parameters come before buffers here
    same(dict(sorted(got.items())), dict(sorted(module.state_dict().items())))


def test_exported_program_of_earlier_torch(tmp_path: Path) -> None:
    state = dict(network().state_dict())
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as archive:
        archive.writestr("version", "5.1")
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", saved(state))
        archive.writestr("serialized_constants.pt", saved({"c": torch.ones(2)}))
    same(values(tmp_path / "x.pt2"), {**state, "constants/c": torch.ones(2)})


def test_torch_package(tmp_path: Path) -> None:
    from torch import package

    module = network()
    with package.PackageExporter(tmp_path / "x.pt") as exporter:
        exporter.extern("torch.**")
        exporter.save_source_string("mine.layers", "class Block:\n    pass\n")
        exporter.save_pickle("model", "model.pkl", module)
        exporter.save_pickle("model", "extra.pkl", {"mean": torch.ones(3)})
    found = formats.open(tmp_path / "x.pt")
    assert found.format == "torch-package"
    assert found.sources["mine/layers.py"].startswith("class Block")
    assert found.objects["model.model"] == "torch.nn.modules.container.Sequential"
    got = values(tmp_path / "x.pt")
    assert torch.equal(got["model.extra/mean"], torch.ones(3))
    for key, value in module.state_dict().items():
        assert torch.equal(got[f"model.model/{key}"], value)
