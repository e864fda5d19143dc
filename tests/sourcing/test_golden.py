"""Ten written sources, whole: what a person gets to read. `python tests/sourcing/test_golden.py`
writes them anew; read what differs before it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_sources import drawn
from written_sources import check_format, written_for

FOLDER = Path(__file__).parent / "golden"
KINDS = """mlp_norm lenet unet resnet vae generator words_rnn vit two_inputs gated""".split()


def text_of(kind: str) -> str:
    """The source for the first network of a kind."""
    module, _, _ = drawn(kind, 1, 0)
    return written_for(module.state_dict()).text


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_reads_as_it_did(kind: str) -> None:
    assert text_of(kind) == (FOLDER / f"{kind}.txt").read_text()


def test_they_pass_ruff_as_they_are(tmp_path: Path) -> None:
    check_format([(FOLDER / f"{kind}.txt").read_text() for kind in KINDS], tmp_path)


if __name__ == "__main__":
    for name in KINDS:
        (FOLDER / f"{name}.txt").write_text(text_of(name))
