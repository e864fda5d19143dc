"""Model types learned anew are taken where they are better."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from archfind.config_probing.again import adopted
from archfind.database import folder

NAME = "trocr"


def types(place: Path, change: tuple[str, str] | None = None) -> Path:
    """The known types in a folder of their own, one with a change."""
    shutil.copytree(Path(folder()) / "transformers" / "types", place)
    if change is not None:
        file = place / f"{NAME}.txt"
        text = file.read_text()
        assert change[0] in text
        file.write_text(text.replace(*change))
    return place


def test_the_better_of_two_texts_stays(tmp_path: Path) -> None:
    worse = ("  decoder_ffn_dim ", "  4096 ")
    good, bad = types(tmp_path / "good"), types(tmp_path / "bad", worse)
    told = adopted(good, bad / f"{NAME}.txt")
    assert told.endswith("left") and "  4096 " not in (good / f"{NAME}.txt").read_text()
    told = adopted(bad, good / f"{NAME}.txt")
    assert told.endswith("taken")
    assert (bad / f"{NAME}.txt").read_text() == (good / f"{NAME}.txt").read_text()
    before, now, total = map(int, re.findall(r"\d+", told))
    assert before < now == total
