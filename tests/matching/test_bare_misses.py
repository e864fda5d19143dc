"""Wrong answers that came as bare keys and shapes, answered right; and that these are enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bare import assert_right, checkpoint_of

import archfind
from archfind.cli import main
from archfind.database.entries import default
from archfind.matching.identify import guess_checkpoint
from archfind.report.answer import guess_document

pytestmark = pytest.mark.light

MISSES = Path(__file__).parents[1] / "misses"
CASES = [
    path for path in sorted(MISSES.glob("*.json")) if "wrappers" in json.loads(path.read_text())
]
DEMO = Path(archfind.__file__).parent / "demo" / "001.pth"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_miss_of_keys_and_shapes_stays_fixed(path: Path) -> None:
    case = json.loads(path.read_text())
    assert_right(guess_checkpoint(checkpoint_of(case), default()), case)


def test_what_inspect_prints_is_answered_as_the_file_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", str(DEMO)]) == 0
    printed = json.loads(capsys.readouterr().out)
    both = checkpoint_of(printed), archfind.open(DEMO)
    answers = [guess_document(guess_checkpoint(checkpoint, default())) for checkpoint in both]
    assert answers[0] == answers[1]
    assert answers[0]["status"] == "exact" and answers[0]["architecture"] == "test_efficientnet"
