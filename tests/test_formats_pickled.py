"""Layouts that torch, numpy and pickle write, row by row of docs/formats-read.md: keys, shapes and
values through archfind's own readers."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from layout_files import State, network, same, saved, values
from torch import nn

from archfind import formats
from archfind.canonical import networks
from archfind.errors import BuildError

# --- torch's own containers ---


@pytest.mark.parametrize("zipped", [True, False])
def test_views_strides_and_ties(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0)
    state = {
        "t": base.view(4, 6).t(),
        "slice": base[3:9:2],
        "row": base.view(2, 12)[1],
        "wide": base[:1].expand(5),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3, dtype=torch.int16),
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "bits": torch.tensor([True, False]),
        "complex": torch.randn(2, dtype=torch.complex64),
    }
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = values(tmp_path / "x.pth")
    same(found, state)
    assert found["t"].untyped_storage().data_ptr() == found["row"].untyped_storage().data_ptr()


def rezipped(data: bytes, method: int, big: bool = False) -> bytes:
    """A torch zip written again: deflated, or as a big-endian machine would have."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for name in old.namelist():
            member = old.read(name)
            if big and "/data/" in name:
                member = np.frombuffer(member, "<f4").byteswap().tobytes()
            new.writestr(name, b"big" if big and name.endswith("byteorder") else member)
    return out.getvalue()


@pytest.mark.parametrize(("method", "big"), [(zipfile.ZIP_DEFLATED, False), (0, True)])
def test_deflated_and_big_endian_storages(tmp_path: Path, method: int, big: bool) -> None:
    base = torch.randn(1000)
    state = {"a": base[10:20], "b": base.view(10, 100).t(), "zeros": torch.zeros(300, 300)}
    (tmp_path / "x.pth").write_bytes(rezipped(saved(state), method, big))
    found = values(tmp_path / "x.pth")
    same(found, state)


def test_a_deflated_storage_with_a_wrong_checksum_is_not_loaded(tmp_path: Path) -> None:
    data = bytearray(rezipped(saved({"a": torch.randn(1000)}), zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = next(one for one in archive.infolist() if "/data/0" in one.filename)
    for at in (data.find(struct.pack("<L", info.CRC)), data.rfind(struct.pack("<L", info.CRC))):
        data[at] ^= 1
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(BuildError, match="checksum"):
        values(tmp_path / "x.pth")


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
    same(
        values(tmp_path / "x.pt", "model.model/") | {},
        {**values(tmp_path / "x.pt", "model.model/")},
    )
    got = values(tmp_path / "x.pt")
    assert torch.equal(got["model.extra/mean"], torch.ones(3))
    for key, value in module.state_dict().items():
        assert torch.equal(got[f"model.model/{key}"], value)


# --- whole objects ---


class _OldPickler(pickle.Pickler):
    """Writes classes as torch did until 1.x: with their source, for people to compare."""

    def __init__(self, file: io.BytesIO, storages: dict[str, torch.Tensor]) -> None:
        super().__init__(file, 2)
        self.storages, self.told = storages, False

    def persistent_id(self, obj: object) -> object:
        if obj is nn.Linear and not self.told:
            self.told = True  # the tuple names the class itself
            return ("module", nn.Linear, "linear.py", "class Linear(Module):\n    pass\n")
        if isinstance(obj, torch.storage.TypedStorage):
            key = str(obj._untyped_storage.data_ptr())
            self.storages[key] = torch.tensor([], dtype=obj.dtype).set_(obj._untyped_storage)
            return ("storage", torch.FloatStorage, key, "cpu", obj.size(), None)
        return None


def test_old_whole_module_with_its_source(tmp_path: Path) -> None:
    module = nn.Linear(3, 2)
    storages: dict[str, torch.Tensor] = {}
    body = io.BytesIO()
    _OldPickler(body, storages).dump(module)
    magic = 0x1950A86A20F9469CFC6C
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    data = b"".join(pickle.dumps(one, 2) for one in (magic, 1001, system)) + body.getvalue()
    data += pickle.dumps(list(storages), 2)
    for one in storages.values():
        data += struct.pack("<q", one.numel()) + one.numpy().tobytes()
    (tmp_path / "x.pth").write_bytes(data)
    found = formats.open(tmp_path / "x.pth")
    assert found.objects[""] == "torch.nn.modules.linear.Linear"
    assert found.sources["torch.nn.modules.linear.Linear"].startswith("class Linear")
    assert found.metadata["@in_features"] == 3
    same(values(tmp_path / "x.pth"), dict(module.state_dict()))


@pytest.fixture
def foreign() -> object:
    """Makes classes of libraries that aren't installed, as their pickles name them."""
    made: list[str] = []

    def make(dotted: str) -> type:
        module, _, name = dotted.rpartition(".")
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            if path not in sys.modules:
                sys.modules[path] = types.ModuleType(path)
                made.append(path)
        cls = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, cls)
        return cls

    yield make
    for path in made:
        del sys.modules[path]


def test_fastai_learner(tmp_path: Path, foreign) -> None:
    learner = foreign("fastai.learner.Learner")()
    learner.model, learner.lr, learner.path = network(), 0.001, Path("models")
    learner.opt = torch.optim.SGD(learner.model.parameters(), lr=0.1)
    torch.save(learner, tmp_path / "export.pkl")
    found = formats.open(tmp_path / "export.pkl")
    assert found.objects[""] == "fastai.learner.Learner" and found.metadata["lr"] == 0.001
    assert found.objects["model"] == "torch.nn.modules.container.Sequential"
    assert "model" in networks(found)
    same(values(tmp_path / "export.pkl", "model/"), dict(learner.model.state_dict()))


def test_foreign_whole_module_needs_no_library(tmp_path: Path, foreign) -> None:
    base = foreign("ultralytics.nn.tasks.DetectionModel")
    cls = type("DetectionModel", (nn.Module,), {"__module__": base.__module__})
    sys.modules[base.__module__].DetectionModel = cls
    module = cls()
    module.model = network()
    module.yaml, module.names = {"nc": 80, "depth_multiple": 0.33}, {0: "person"}
    value = {"epoch": -1, "model": module, "ema": None, "train_args": {"imgsz": 640}}
    torch.save(value, tmp_path / "yolo.pt")
    found = formats.open(tmp_path / "yolo.pt")
    assert found.objects["model"] == "ultralytics.nn.tasks.DetectionModel"
    assert found.metadata["model@yaml/nc"] == 80 and found.hints["train_args/imgsz"] == 640
    assert not found.danger
    same(values(tmp_path / "yolo.pt", "model/"), dict(module.state_dict()))


# --- numpy ---


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_pickles(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(protocol)
    weights = {
        "conv1_w": rng.standard_normal((4, 3)).astype("f4"),
        "fortran": np.asfortranarray(rng.standard_normal((5, 7))),
        "count": np.arange(5),
        "one": np.array(7, dtype="i2"),
        "long": rng.standard_normal(40_000).astype("f4"),  # beyond what is kept in memory
        "longer": rng.standard_normal(300_000),
        "text": np.frombuffer(b"plain text!!", dtype="u1"),
    }
    value = {"model": weights, "__author__": "someone", "matching_heuristics": True}
    with (tmp_path / "x.pkl").open("wb") as file:
        pickle.dump(value, file, protocol)
    found = formats.open(tmp_path / "x.pkl")
    assert found.metadata["__author__"] == "someone"
    same(
        values(tmp_path / "x.pkl", "model/"),
        {key: torch.from_numpy(one.copy()) for key, one in weights.items()},
    )


def test_numpy_inside_torch(tmp_path: Path) -> None:
    state = {"mean": np.random.default_rng(0).standard_normal(200_000), "w": torch.ones(2)}
    for zipped in (True, False):
        torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        same(
            values(tmp_path / "x.pth"),
            {"mean": torch.from_numpy(state["mean"]), "w": state["w"]},
        )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save) -> None:
    arrays = {
        "Transformer/encoder_norm/bias": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6, dtype="i4").reshape(2, 3)),
        "half": np.ones(3, "f2"),
        "step": np.array(3),
    }
    save(tmp_path / "x.npz", **arrays)
    found = formats.open(tmp_path / "x.npz")
    assert found.format == "npz"
    same(values(tmp_path / "x.npz"), {key: torch.from_numpy(a.copy()) for key, a in arrays.items()})
    np.savez(tmp_path / "o.npz", x=np.array([{}], dtype=object), y=np.ones(2))
    found = formats.open(tmp_path / "o.npz")
    assert list(found.index) == ["y"] and "pickle" in found.warnings[0]
    np.save(tmp_path / "one.npy", arrays["half"])
    same(values(tmp_path / "one.npy"), {"": torch.ones(3).half()})
