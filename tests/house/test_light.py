"""`pytest -m light` answers in seconds: it imports no file that needs torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HEAVY, LIGHT

pytestmark = pytest.mark.light

TESTS = Path(__file__).parents[1]


def test_collecting_light_tests_imports_no_model_library() -> None:
    script = (
        "import sys, pytest; code = pytest.main(['-m', 'light', '--collect-only', '-qq', '-n0']);"
        f"loaded = {set(HEAVY)!r} & set(sys.modules); assert not loaded, loaded; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TESTS.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr
    collected = {line.partition(":")[0] for line in done.stdout.split("\n") if ".py:" in line}
    marked = {
        path.relative_to(TESTS.parent).as_posix()
        for path in TESTS.rglob("test_*.py")
        if f"\n{LIGHT}\n" in path.read_text()
    }
    assert collected == marked


def test_a_light_test_that_imports_torch_would_fail() -> None:
    with pytest.raises(AssertionError, match="a light test imports torch"):
        import torch  # noqa: F401
