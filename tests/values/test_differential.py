"""Keys, shapes, dtypes, strides and values are those of the libraries' own readers.

A sample of benchmarks/differential_sweep.py, which does the same a thousand times a writer.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from random_states import WRITERS, State, raw

from archfind import formats
from archfind.types import Checkpoint
from archfind.values.reader import TensorReader

SAMPLE = 25


def assert_same(found: Checkpoint, expected: State) -> None:
    """Everything that a tensor is, read from the file by archfind, against the library's."""
    assert list(found.index) == list(expected) or (
        found.format == "safetensors" and set(found.index) == set(expected)
    )
    assert found.danger == ()
    reader = TensorReader()
    for key, tensor in expected.items():
        spec = found.index[key]
        assert spec.shape == tuple(tensor.shape), key
        assert spec.dtype == str(tensor.dtype)[len("torch.") :], key
        value = reader.read(spec)
        assert value.shape == tensor.shape and value.dtype == tensor.dtype, key
        assert raw(value) == raw(tensor), key
        if tensor.numel() > 1 and found.format.startswith("torch"):
            steps = [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]
            ours = [s for s, n in zip(value.stride(), value.shape, strict=True) if n > 1]
            assert ours == steps, key
    assert_tied(found, expected)


def assert_tied(found: Checkpoint, expected: State) -> None:
    """Equal storages in memory are equal storages in the file, and the other way round."""
    theirs: dict[int, set[str]] = {}
    ours: dict[object, set[str]] = {}
    for key, tensor in expected.items():
        if tensor.numel():
            theirs.setdefault(tensor.untyped_storage().data_ptr(), set()).add(key)
            ours.setdefault(found.index[key].storage, set()).add(key)
    if found.format.startswith("torch"):
        assert sorted(map(sorted, ours.values())) == sorted(map(sorted, theirs.values()))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("seed", range(SAMPLE))
def test_as_the_library_reads_it(tmp_path: Path, writer: str, seed: int) -> None:
    file, save = WRITERS[writer]
    path = tmp_path / file
    expected = save(random.Random(f"{writer} {seed}"), path)
    if not expected:
        return
    assert_same(formats.open(path), expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_where_torchs_safe_loader_reads_damage_we_agree(tmp_path: Path, zipped: bool) -> None:
    """Bytes flipped in real files: wherever torch still loads and archfind says nothing of danger,
    keys and shapes are the same. torch checks no CRC of what it doesn't read; we flip no data."""
    draw = random.Random(5)
    path, whole = tmp_path / "whole.pt", tmp_path / "flipped.pt"
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2).half()}
    torch.save({"model": state, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    both = 0
    for _ in range(600):
        changed = bytearray(data)
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        whole.write_bytes(changed)
        try:
            theirs = torch.load(whole, weights_only=True)
        except Exception:
            continue
        try:
            ours = formats.open(whole)
        except formats.CheckpointError:
            continue
        if not ours.danger:
            from random_states import flat

            expected = {key: tuple(one.shape) for key, one in flat(theirs)}
            assert {key: spec.shape for key, spec in ours.index.items()} == expected
            both += 1
    assert both > 20
