"""A name says what it holds: no two public functions or classes of archfind share one."""

from __future__ import annotations

from pathlib import Path

import pytest
from house import defined_twice, figures

import archfind

pytestmark = pytest.mark.light

PACKAGE = Path(archfind.__file__).parent


def test_public_names_are_defined_once() -> None:
    assert defined_twice(PACKAGE) == {}


def test_no_room_is_in_a_circle_and_long_functions_get_no_more() -> None:
    found = figures(PACKAGE)
    assert found["rooms in a circle"] == 0
    assert found["functions over 60 lines"] <= 12


def test_the_table_of_the_house_is_todays() -> None:
    text = (PACKAGE.parent / "docs" / "how-it-works.md").read_text()
    for what in ("rooms in a circle", "public names defined twice"):
        row = text.partition(f"| {what} |")[2].partition("\n")[0]
        assert row.endswith(f" {figures(PACKAGE)[what]} |")
