"""What the documents say of the project's own files is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_arrows import ROOMS

pytestmark = pytest.mark.light

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "signatures" / "README.md")
)
ROOMS_OF_TESTS = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/*/")]
PLACES = ("", "archfind", "tests", *ROOMS_OF_TESTS)
# a folder that a benchmark writes, and what docs/formats-read.md says for tests/formats/test_*.py
FOREIGN = {"own/", "torch.py", "tar.py"}
# `formats/`, `matching/nearest.py`, `benchmarks/cold_cost.py`; [a table](archfind/x.py)
PATHS = re.compile(r"`([a-z_.]+(?:/[a-zA-Z_.]+)*(?:\.py|/))`|\((archfind/[^)]*)\)")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_a_document_names_exists(name: str) -> None:
    """From one of PLACES: a document of attacks says `headers.py`."""
    for found in PATHS.finditer((ROOT / name).read_text()):
        path = found[1] or found[2]
        if "NAME" not in path and path not in FOREIGN:
            assert any((ROOT / place / path).exists() for place in PLACES), path


def test_the_table_of_rooms_is_the_order_that_is_tested() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    rows = text.partition("| room | step |\n|---|---|\n")[2].partition("\n\n")[0].split("\n")
    rooms = [row[3:].partition("/`")[0].replace("/", ".") for row in rows[1:]]
    assert rooms == list(ROOMS)
