"""Whole objects: modules and learners of classes that are old or not installed."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
from pathlib import Path

import pytest
import torch
from layout_files import network, same, values
from torch import nn

from archfind import formats
from archfind.state_dicts.canonical import networks


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
