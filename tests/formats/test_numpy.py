"""numpy's arrays: in pickles, in torch's files, as .npz and .npy."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from layout_files import same, values

from archfind import formats


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
