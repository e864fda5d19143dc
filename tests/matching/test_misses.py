"""Every wrong answer ever found, answered right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from archfind.database.entries import default
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta

CASES = sorted((Path(__file__).parents[1] / "misses").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_miss_stays_fixed(path: Path) -> None:
    case = json.loads(path.read_text())
    library, _, name = case["build"].partition("/")
    state = dict(create_on_meta(provider(library), name, **case.get("fields", {})).state_dict())
    for pattern, replacement in case.get("rename", []):
        state = {re.sub(pattern, replacement, key): tensor for key, tensor in state.items()}
    for key, shape in case.get("add", {}).items():
        state[key] = torch.empty(shape, device="meta")
    for key in case.get("drop", []):
        del state[key]
    found = guess(checkpoint_of(state), default())
    assert found.status == case["status"]
    best = found.matches[0]
    assert case["architecture"] in {best.entry.name, *(twin.architecture for twin in best.twins)}
    for name, value in case.get("config", {}).items():
        assert best.config[name].value == value
    for name in case.get("assumed", []):
        assert best.config[name].source != "shape"
    if "places" in case:
        assert [item.place for item in best.assumed] == case["places"]
