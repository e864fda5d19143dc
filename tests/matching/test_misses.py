"""Every wrong answer ever found, answered right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from bare import assert_right

from archfind.database.entries import default
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta

MISSES = Path(__file__).parents[1] / "misses"
CASES = [path for path in sorted(MISSES.glob("*.json")) if "build" in json.loads(path.read_text())]


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
    found = guess_checkpoint(checkpoint_of(state), default())
    assert_right(found, case)
