"""A sample of benchmarks/false_accepts.py: networks that no library has get no name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_no_outsider_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from false_accepts import run  # pyright: ignore[reportMissingImports]

    count = run(own=1, changed=4, inside=4, seed=1)
    assert count.total == 18 + 4 * 4 + 4
    assert not count.failures
    assert sys.modules.pop("false_accepts") and sys.modules.pop("outsiders")
