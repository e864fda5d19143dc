"""A state dict below a prefix: by all keys, and by those that the caller knows to have it."""

from __future__ import annotations

import random

import pytest

from archfind.matching.parts import children
from archfind.state_dicts.canonical import networks, strip
from archfind.types import Checkpoint, Storage, TensorSpec

pytestmark = pytest.mark.light


def test_known_keys_give_what_all_keys_give() -> None:
    draw = random.Random(4)
    for _ in range(30):
        names = {
            ".".join(draw.choice("abc") * draw.randint(1, 2) for _ in range(draw.randint(1, 4)))
            for _ in range(60)
        }
        spec = TensorSpec("float32", (2, 3), Storage("x", "x", -1, 24))
        checkpoint = Checkpoint("x.pth", "torch-zip", {f"model.{name}": spec for name in names})
        for canonical in networks(checkpoint).values():
            parts = children(canonical.index)
            assert sum(map(len, parts.values())) <= len(canonical.index)
            for prefix, keys in parts.items():
                known, looked = strip(canonical, prefix, keys), strip(canonical, prefix)
                assert list(known.index.items()) == list(looked.index.items())
                assert (known.origin, known.merged) == (looked.origin, looked.merged)
                assert known.steps == looked.steps
