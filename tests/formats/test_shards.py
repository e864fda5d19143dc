"""Shards, with an index and without one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from layout_files import network, same, values
from test_torch import values_of

from archfind import formats
from archfind.errors import CheckpointError


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
