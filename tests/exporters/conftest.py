"""What exports are given in these tests."""

from __future__ import annotations

import pytest

from archfind.exporters import attempts


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempts are tried, not the machine's load; who tests a limit sets it."""
    monkeypatch.setattr(attempts, "_LEAST", 60.0)
