"""State dicts written by `pickle.dump` alone: each storage is a file of torch.save, in bytes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from archfind import formats
from archfind.cli import main
from archfind.values.reader import TensorReader


@pytest.mark.parametrize("protocol", range(6))
def test_values_of_plain_pickles(tmp_path: Path, protocol: int) -> None:
    big = torch.randn(200, 200)
    state = {"small": torch.randn(3, 4), "big": big, "view": big.t(), "half": torch.ones(5).half()}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(state, protocol))
    found = formats.open(path)
    assert list(found.index) == list(state) and not found.danger
    reader = TensorReader()
    assert all(torch.equal(reader.read(found.index[key], key), state[key]) for key in state)
    assert len({spec.storage for spec in found.index.values()}) == 4  # nothing looks tied
    assert main(["export", str(path), str(tmp_path / "o.pth")]) == 0
    back = torch.load(tmp_path / "o.pth", weights_only=True)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_json_has_no_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {"w": torch.ones(2), "loss": float("nan"), "best": float("-inf"), "epoch": 3}
    torch.save(state, tmp_path / "x.pth")
    assert main(["inspect", "--json", str(tmp_path / "x.pth")]) == 0

    def refused(name: str) -> None:
        raise AssertionError(name)

    said = capsys.readouterr().out
    json.loads(said, parse_constant=refused)
    assert '"nan"' in said and '"-inf"' in said
