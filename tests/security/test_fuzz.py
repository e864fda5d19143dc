"""The fuzzers, for a moment: what a million runs found is in docs/security.md."""

from __future__ import annotations

import random

import pytest
from fuzz.mutate import MUTATORS, mutate
from fuzz.plain import fuzz
from fuzz.seeds import seeds
from fuzz.targets import TARGETS

pytestmark = pytest.mark.light

RUNS = 2_000
READ = ("torch", "pickle", "safetensors", "onnx", "gguf", "np", "zip", "tar")


@pytest.mark.parametrize("reader", TARGETS)
def test_nothing_but_archfinds_own_errors_escapes(reader: str) -> None:
    found = fuzz(reader, RUNS, seed=1)
    assert found.crashes == {}
    assert found.runs == RUNS
    assert found.outcomes > 20  # it reaches more than the first check


@pytest.mark.parametrize("reader", MUTATORS)
def test_mutations_of_honest_files_are_still_read_at_times(reader: str) -> None:
    """A mutator whose every output is refused at the first byte would test nothing."""
    draw = random.Random(3)
    target = TARGETS[reader]
    honest = [data for data in seeds(reader) if target(data).startswith(READ)]
    if reader == "index":  # its shards are other files
        return
    ended = [target(mutate(reader, draw.choice(honest), draw)) for _ in range(300)]
    assert sum(one.startswith(READ) for one in ended) > 10
