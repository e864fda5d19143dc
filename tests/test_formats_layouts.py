"""Layouts that checkpoints come in, row by row of docs/formats-read.md: keys, shapes and values
through archfind's own readers, from files that the real writers made, or bytes where those are
gone."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from archfind import formats
from archfind.canonical import networks
from archfind.errors import BuildError, CheckpointError, NotACheckpoint
from archfind.tensors import TensorReader

State = dict[str, torch.Tensor]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    made[1].running_mean.fill_(0.5)
    return made


def values(path: Path, prefix: str = "") -> State:
    found = formats.open(path)
    reader = TensorReader()
    return {
        key.removeprefix(prefix): reader.read(spec)
        for key, spec in found.index.items()
        if key.startswith(prefix)
    }


def same(found: State, expected: State) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype and torch.equal(found[key], value), key


def saved(value: object, **how: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)  # pyright: ignore
    return buffer.getvalue()


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


# --- GGUF ---


def gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write_gguf(path: Path, cut: int = 0) -> State:
    """As ggml's documentation has it: dimensions innermost first, data aligned to 32 bytes."""
    words = [f"w{i}" for i in range(100)]
    pairs = [
        ("general.architecture", 8, gguf_text("llama")),
        ("llama.block_count", 4, struct.pack("<I", 2)),
        ("llama.rope.freq_base", 6, struct.pack("<f", 10000.0)),
        ("general.flag", 7, b"\x01"),
        ("short", 9, struct.pack("<IQ3i", 5, 3, 1, 2, 3)),
        ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 100) + b"".join(map(gguf_text, words))),
    ]
    plain = {"token_embd.weight": torch.randn(6, 4), "blk.0.norm": torch.randn(4).half()}
    head = struct.pack("<4sIQQ", b"GGUF", 3, 3, len(pairs))
    head += b"".join(gguf_text(k) + struct.pack("<I", kind) + v for k, kind, v in pairs)
    data = b""
    for (name, value), code in zip(plain.items(), (0, 1), strict=True):
        dims = list(reversed(value.shape))
        head += gguf_text(name) + struct.pack(
            f"<I{len(dims)}QIQ", len(dims), *dims, code, len(data)
        )
        data += value.numpy().tobytes()
        data += b"\0" * (-len(data) % 32)
    head += gguf_text("blk.0.attn_q.weight") + struct.pack("<I2QIQ", 2, 64, 2, 2, len(data))
    data += b"\0" * (4 * 18)
    head += b"\0" * (-len(head) % 32)
    path.write_bytes((head + data)[: len(head + data) - cut])
    return plain


def test_gguf(tmp_path: Path) -> None:
    plain = write_gguf(tmp_path / "x.gguf")
    found = formats.open(tmp_path / "x.gguf")
    assert found.metadata["general.architecture"] == "llama"
    assert found.metadata["llama.rope.freq_base"] == 10000.0
    assert found.metadata["general.flag"] is True and found.metadata["short"] == [1, 2, 3]
    assert found.metadata["tokenizer.ggml.tokens"] == "array of 100 texts"
    assert "llama.block_count" in found.hints and found.container["version"] == 3
    packed = found.index["blk.0.attn_q.weight"]
    assert (packed.dtype, packed.shape) == ("q4_0", (2, 64))
    reader = TensorReader()
    for key, value in plain.items():
        assert torch.equal(reader.read(found.index[key]), value)
    with pytest.raises(BuildError, match="q4_0"):
        reader.read(packed)
    write_gguf(tmp_path / "cut.gguf", cut=40)
    with pytest.raises(CheckpointError, match="cut off"):
        formats.open(tmp_path / "cut.gguf")


# --- ONNX ---


def test_onnx_external_values(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((30, 40)).astype("f4")
    tensor = onnx.numpy_helper.from_array(weight, "w")
    small = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT16, [3], [1.0, 2.5, -3.0])
    graph = onnx.helper.make_graph([], "g", [], [], [tensor, small])
    onnx.save(
        onnx.helper.make_model(graph),
        tmp_path / "x.onnx",
        save_as_external_data=True,
        location="x.onnx.data",
        size_threshold=100,
    )
    same(
        values(tmp_path / "x.onnx"),
        {"w": torch.from_numpy(weight), "s": torch.tensor([1.0, 2.5, -3.0]).half()},
    )
    (tmp_path / "x.onnx.data").unlink()
    assert "missing" in formats.open(tmp_path / "x.onnx").warnings[0]


# --- checkpoints inside zips and tars ---


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_stable_baselines_zip(tmp_path: Path, method: int) -> None:
    policy = {"mlp_extractor.policy_net.0.weight": torch.randn(4, 3), "log_std": torch.zeros(2)}
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    with zipfile.ZipFile(tmp_path / "ppo.zip", "w", method) as archive:
        archive.writestr("data", json.dumps({"gamma": 0.99, "policy_class": {":type:": "abc"}}))
        with archive.open("policy.pth", "w", force_zip64=True) as file:
            torch.save(policy, file)
        archive.writestr("policy.optimizer.pth", saved(optimizer.state_dict()))
        archive.writestr("pytorch_variables.pth", saved({}))
        archive.writestr("_stable_baselines3_version", "2.3.0")
        archive.writestr("system_info.txt", "- OS: Linux")
    found = formats.open(tmp_path / "ppo.zip")
    assert found.metadata["data/gamma"] == 0.99
    assert list(networks(found)) == ["policy"]
    same(values(tmp_path / "ppo.zip", "policy/"), policy)


def test_dduf_and_zipped_folder(tmp_path: Path) -> None:
    from safetensors.torch import save

    unet = {"conv_in.weight": torch.randn(4, 3), "conv_out.weight": torch.randn(2, 4)}
    vae = {"encoder.weight": torch.randn(3, 3)}
    with zipfile.ZipFile(tmp_path / "x.dduf", "w") as archive:
        archive.writestr("model_index.json", json.dumps({"_class_name": "StableDiffusionPipeline"}))
        archive.writestr("unet/config.json", json.dumps({"sample_size": 64}))
        first, second = (dict([one]) for one in unet.items())
        name = "unet/diffusion_pytorch_model-0000{}-of-00002.safetensors"
        archive.writestr(name.format(1), save(first))
        archive.writestr(name.format(2), save(second))
        archive.writestr("vae/diffusion_pytorch_model.safetensors", save(vae))
    found = formats.open(tmp_path / "x.dduf")
    assert found.metadata["model_index/_class_name"] == "StableDiffusionPipeline"
    assert found.metadata["unet.config/sample_size"] == 64
    same(values(tmp_path / "x.dduf", "unet/"), unet)
    same(values(tmp_path / "x.dduf", "vae/"), vae)


def test_diffusers_folder(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "model_index.json").write_text("{}")
    parts = {"unet": {"a.weight": torch.randn(2, 2)}, "vae": {"b.weight": torch.randn(3)}}
    for name, state in parts.items():
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "diffusion_pytorch_model.safetensors")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text("{}")
    same(values(tmp_path), {f"{n}/{k}": v for n, one in parts.items() for k, v in one.items()})


def test_nemo_tar(tmp_path: Path) -> None:
    state = dict(network().state_dict())
    with tarfile.open(tmp_path / "x.nemo", "w") as archive:
        for name, data in (
            ("./model_config.yaml", b"sample_rate: 16000\n"),
            ("./model_weights.ckpt", saved(state)),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    found = formats.open(tmp_path / "x.nemo")
    assert "sample_rate" in str(found.metadata["model_config.yaml"])
    same(values(tmp_path / "x.nemo"), state)


def test_zip_in_zip_in_zip_ends(tmp_path: Path) -> None:
    data = saved({"w": torch.ones(1)})
    for _ in range(6):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("inner.pth", data)
        data = buffer.getvalue()
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(NotACheckpoint, match="unpack it first"):
        formats.open(tmp_path / "x.pth")


def test_danger_inside_a_zip_is_told(tmp_path: Path) -> None:
    payload = b"cposix\nsystem\n(S'true'\ntR."
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("good.pth", saved({"w": torch.ones(2)}))
        archive.writestr("bad.pkl", payload)
    found = formats.open(tmp_path / "x.zip")
    assert list(found.index) and any("posix.system" in line for line in found.danger)


# --- folders ---


def test_shards_without_index(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = dict(network().state_dict())
    halves = [dict(list(state.items())[:4]), dict(list(state.items())[4:])]
    for number, half in enumerate(halves, 1):
        save_file(half, tmp_path / f"model-0000{number}-of-00002.safetensors")
    found = formats.open(tmp_path)
    assert "index" in found.warnings[0] and not found.danger
    same(dict(sorted(values(tmp_path).items())), dict(sorted(state.items())))
    alone = formats.open(tmp_path / "model-00002-of-00002.safetensors")
    assert any("shard 2 of 2" in line for line in alone.warnings)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    assert "1 of its 2 shards are missing" in formats.open(tmp_path).warnings


@pytest.mark.parametrize("vocabulary_split", [False, True])
def test_consolidated_ranks(tmp_path: Path, vocabulary_split: bool) -> None:
    torch.manual_seed(0)
    state = {
        "tok_embeddings.weight": (torch.randn(10, 8), 0 if vocabulary_split else 1),
        "norm.weight": (torch.randn(8), None),
        "layers.0.attention.wq.weight": (torch.randn(8, 8), 0),
        "layers.0.attention.wo.weight": (torch.randn(8, 8), 1),
        "layers.0.feed_forward.w1.weight": (torch.randn(12, 8), 0),
        "layers.0.feed_forward.w2.weight": (torch.randn(8, 12), 1),
        "output.weight": (torch.randn(10, 8), 0),
    }
    for rank in range(2):
        part = {
            key: value if dim is None else value.chunk(2, dim)[rank].clone()
            for key, (value, dim) in state.items()
        }
        torch.save(part, tmp_path / f"consolidated.0{rank}.pth")
    (tmp_path / "params.json").write_text("{}")
    same(values(tmp_path), {key: value for key, (value, _) in state.items()})


@pytest.mark.parametrize("gated", [True, False])
def test_megatron_ranks(tmp_path: Path, gated: bool) -> None:
    torch.manual_seed(1)
    gate, up = torch.randn(6, 4), torch.randn(6, 4)
    stem = "decoder.layers.0."
    whole = {
        "embedding.word_embeddings.weight": torch.randn(8, 4),
        f"{stem}self_attention.linear_qkv.weight": torch.randn(12, 4),
        f"{stem}self_attention.linear_proj.weight": torch.randn(4, 4),
        f"{stem}mlp.linear_fc1.weight": torch.cat([gate, up]),
        f"{stem}mlp.linear_fc2.weight": torch.randn(4, 6),
        f"{stem}input_layernorm.weight": torch.randn(4),
    }
    dims = dict(zip(whole, (0, 0, 1, 0, 1, None), strict=True))
    root = tmp_path / "iter_0000050"
    for rank in range(2):
        part = {
            key: value if dims[key] is None else value.chunk(2, dims[key])[rank].clone()
            for key, value in whole.items()
        }
        if gated:
            fc1 = torch.cat([gate.chunk(2)[rank], up.chunk(2)[rank]])
            part[f"{stem}mlp.linear_fc1.weight"] = fc1
        folder = root / f"mp_rank_0{rank}"
        folder.mkdir(parents=True)
        args = {"swiglu": gated, "num_layers": 1}
        value = {"model": part, "args": args, "checkpoint_version": 3.0, "iteration": 50}
        torch.save(value, folder / "model_optim_rng.pt")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("50")
    found = formats.open(tmp_path)
    assert found.format == "megatron" and found.hints["args/num_layers"] == 1
    same(values(tmp_path, "model/"), whole)


def zero_files(folder: Path, stage: int, ranks: int) -> State:
    """What DeepSpeed writes, made by the plainest code: pad, concatenate, cut."""
    torch.manual_seed(stage)
    weights = {
        "fc.weight": torch.randn(5, 3),
        "fc.bias": torch.randn(5),
        "out.weight": torch.randn(2, 5),
    }
    shapes = OrderedDict((key, value.shape) for key, value in weights.items())
    parts: list[torch.Tensor] = []
    if stage == 3:
        for rank in range(ranks):
            held = []
            for value in weights.values():
                share = -(-value.numel() // ranks)
                padded = torch.cat([value.reshape(-1), torch.zeros(share * ranks - value.numel())])
                held.append(padded[rank * share : (rank + 1) * share])
            parts.append(torch.cat(held))
    else:
        flat = torch.cat([value.reshape(-1) for value in weights.values()])
        padded = torch.cat([flat, torch.zeros(-flat.numel() % (2 * ranks))])
        parts = [one.clone() for one in padded.chunk(ranks)]
    buffers = {"bn.running_mean": torch.ones(3)}
    module = buffers if stage == 3 else {**{k: v.half() for k, v in weights.items()}, **buffers}
    model = {
        "module": module,
        "param_shapes": [shapes],
        "buffer_names": list(buffers),
        "ds_version": "0.14",
    }
    torch.save(model, folder / "mp_rank_00_model_states.pt")
    for rank, part in enumerate(parts):
        key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
        state = {"zero_stage": stage, "partition_count": ranks, key: [part]}
        name = f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": state}, folder / name)
    return {**weights, **buffers}


@pytest.mark.parametrize(("stage", "ranks"), [(1, 1), (2, 2), (2, 3), (3, 2), (3, 4)])
def test_deepspeed_zero(tmp_path: Path, stage: int, ranks: int) -> None:
    folder = tmp_path / "global_step10"
    folder.mkdir()
    expected = zero_files(folder, stage, ranks)
    (tmp_path / "latest").write_text("global_step10")
    found = formats.open(tmp_path)
    assert found.format == "deepspeed-zero" and found.container["ranks"] == ranks
    got = values(tmp_path, "module/")
    assert set(got) == set(expected)
    assert all(torch.equal(got[key], value) for key, value in expected.items())
    alone = formats.open(folder / "mp_rank_00_model_states.pt")
    assert alone.index["module/fc.weight"].shape == (5, 3)
    if stage == 3:
        assert any("give the folder" in line for line in alone.warnings)


def test_deepspeed_pipeline(tmp_path: Path) -> None:
    layers = {f"layer_0{i}-model_00-model_states.pt": {"weight": torch.randn(2, 2)} for i in (1, 2)}
    for name, value in layers.items():
        torch.save(value, tmp_path / name)
    torch.save({"module": None, "dp_world_size": 1}, tmp_path / "mp_rank_00_model_states.pt")
    first, second = layers.values()
    same(values(tmp_path), {"1.weight": first["weight"], "2.weight": second["weight"]})


@pytest.mark.filterwarnings("ignore")
def test_distributed_checkpoint(tmp_path: Path) -> None:
    from torch.distributed import checkpoint as dcp

    module = network()
    optimizer = torch.optim.AdamW(module.parameters())
    dcp.save(
        {"model": module.state_dict(), "step": 7, "config": {"lr": 0.1}},
        checkpoint_id=str(tmp_path),
        no_dist=True,
    )
    torch.save(
        {"hyper_parameters": {"width": 3}, "optimizer": optimizer.state_dict()},
        tmp_path / "meta.pt",
    )
    for path in (tmp_path, tmp_path / ".metadata"):
        found = formats.open(path)
        assert found.format == "torch-dcp" and found.metadata["step"] == 7
        assert found.metadata["config/lr"] == 0.1 and not found.danger
        got = values(path, "model/")
        assert set(got) == set(module.state_dict())
        assert all(torch.equal(got[key], value) for key, value in module.state_dict().items())
    assert formats.open(tmp_path).hints["hyper_parameters/width"] == 3


def test_distributed_checkpoint_in_chunks(tmp_path: Path) -> None:
    from torch.distributed.checkpoint import metadata as m
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    value = torch.arange(24.0).view(6, 4)
    chunks, places = [], {}
    for rank, (row, rows) in enumerate(((0, 2), (2, 4))):
        offsets, sizes = torch.Size([row, 0]), torch.Size([rows, 4])
        chunks.append(m.ChunkStorageMetadata(offsets=offsets, sizes=sizes))
        data = saved(value[row : row + rows].clone())
        name = f"__{rank}_0.distcp"
        (tmp_path / name).write_bytes(b"\0" * 10 + data)
        places[m.MetadataIndex("w", offsets, rank)] = _StorageInfo(name, 10, len(data))
    properties = m.TensorProperties(dtype=torch.float32)
    held = m.TensorStorageMetadata(properties=properties, size=value.size(), chunks=chunks)
    whole = m.Metadata(state_dict_metadata={"w": held}, storage_data=places)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(whole))
    same(values(tmp_path), {"w": value})
    (tmp_path / "__1_0.distcp").unlink()
    assert any("missing" in line for line in formats.open(tmp_path).warnings)
    with pytest.raises(BuildError):
        values(tmp_path)


def test_a_chunk_outside_the_folder_is_refused(tmp_path: Path) -> None:
    from torch.distributed.checkpoint import metadata as m
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    size = torch.Size([2])
    held = m.TensorStorageMetadata(
        properties=m.TensorProperties(dtype=torch.float32),
        size=size,
        chunks=[m.ChunkStorageMetadata(offsets=torch.Size([0]), sizes=size)],
    )
    places = {m.MetadataIndex("w", torch.Size([0]), 0): _StorageInfo("../secret", 0, 8)}
    whole = m.Metadata(state_dict_metadata={"w": held}, storage_data=places)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(whole))
    with pytest.raises(CheckpointError, match="plain file name"):
        formats.open(tmp_path)


# --- names that training changed ---


def test_flat_averages_of_latent_diffusion(tmp_path: Path) -> None:
    raw = {f"model.diffusion_model.{key}": one for key, one in network().state_dict().items()}
    flat = {f"model_ema.{key[6:].replace('.', '')}": one + 1 for key, one in raw.items()}
    flat |= {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(5)}
    torch.save({"state_dict": {**raw, **flat}}, tmp_path / "x.ckpt")
    (found,) = networks(formats.open(tmp_path / "x.ckpt")).values()
    assert list(found.index) == list(raw)
    assert all(at.startswith("state_dict/model_ema.") for at in found.origin.values())
    assert any(step.kind == "prefer" for step in found.steps)


def test_flat_averages_of_mmdetection(tmp_path: Path) -> None:
    raw = {f"backbone.{key}": one for key, one in network().state_dict().items()}
    flat = {f"ema_{key.replace('.', '_')}": one + 1 for key, one in raw.items()}
    torch.save({"state_dict": {**raw, **flat}, "meta": {"epoch": 3}}, tmp_path / "x.pth")
    (found,) = networks(formats.open(tmp_path / "x.pth")).values()
    assert list(found.index) == list(raw) and len(found.aside) == len(raw)


WRAPPERS = (
    "state_dict model_state_dict model_state model module net network params weights weight "
    "generator state_dict_ema model_ema ema_state_dict params_ema params-ema ema teacher G_ema"
).split()


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("twice", [False, True])
def test_wrappers(tmp_path: Path, wrapper: str, twice: bool) -> None:
    state = network().state_dict()
    value: object = {"model": state} if twice else state
    torch.save({"epoch": 3, wrapper: value, "best": 0.5}, tmp_path / "x.pth")
    (place,) = networks(formats.open(tmp_path / "x.pth"))
    assert place == (f"{wrapper}/model" if twice else wrapper)


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("params", "params_ema"),
        ("params", "params-ema"),
        ("student", "teacher"),
        ("G", "G_ema"),
        ("model", "ema"),
    ],
)
def test_averaged_weights_are_preferred(tmp_path: Path, raw: str, averaged: str) -> None:
    value = {raw: network(1).state_dict(), averaged: network(2).state_dict()}
    torch.save(value, tmp_path / "x.pth")
    (place,) = networks(formats.open(tmp_path / "x.pth"))
    assert place == averaged


def test_a_part_of_a_distributed_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "__0_0.distcp").write_bytes(saved({"w": torch.ones(1)}))
    with pytest.raises(NotACheckpoint, match="give its folder"):
        formats.open(tmp_path / "__0_0.distcp")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("flax_model.msgpack", b"\x81\xa6params\x80" + b"\x91" * 9, "Flax"),
        ("x.t7", b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1" + b"\0" * 9, "Lua Torch"),
        ("model.index", b"\0\x01" * 40 + (0xDB4775248B80FB57).to_bytes(8, "little"), "TensorFlow"),
        ("yolo.weights", b"\0\0\0\0\x02\0\0\0" + b"\x81\x92" * 40, "darknet"),
        ("x.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO"),
        ("x.pte", b"\x1c\0\0\0ET12" + b"\0" * 40, "ExecuTorch"),
        ("x.ptl", b"PTMF" + b"\0" * 40, "PyTorch Mobile"),
        ("x.ort", b"\x1c\0\0\0ORTM" + b"\0" * 40, "ONNX Runtime"),
    ],
)
def test_foreign_models_are_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(NotACheckpoint, match=words):
        formats.open(tmp_path / name)


# --- the quick way through a long pickle ---
