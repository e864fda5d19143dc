"""Results in Python: what they show, that they can be sent to other processes, and what answers are
given about."""

from __future__ import annotations

import io
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hostile.build import entry
from hostile.build import safetensors as safe_bytes

import archfind
from archfind import types
from archfind.errors import BuildError, MissingLibrary, NotACheckpoint, Truncated

DEMO = Path(archfind.__file__).parent / "demo" / "001.pth"


def test_results_are_short_in_a_log_and_whole_as_a_dict() -> None:
    guess = archfind.guess(DEMO)
    assert repr(guess) == f"<Guess exact: timm/test_efficientnet, {str(DEMO)!r}>"
    checkpoint = guess.canonical.checkpoint
    assert all(len(repr(one)) < 700 for one in (checkpoint, guess.canonical, guess.matches[0]))
    assert guess.to_dict()["architecture"] == "test_efficientnet"
    assert checkpoint.to_dict()["tensors"] == len(checkpoint.index)
    json.dumps([guess.to_dict(), checkpoint.to_dict()])


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)


def test_a_notebook_shows_the_answer_and_nothing_of_the_file_is_markup(tmp_path: Path) -> None:
    path = tmp_path / "<img src=x>.safetensors"
    path.write_bytes(safe_bytes({"<script>.weight": entry((2,), 0, 8)}, bytes(8)))
    for result in (archfind.guess(path), archfind.open(path)):
        page = _Tags()
        page.feed(result._repr_html_())
        assert page.tags == {"details", "summary", "b", "pre"}


def test_results_come_back_from_processes() -> None:
    with ProcessPoolExecutor(1) as pool:
        there = pool.submit(archfind.guess, str(DEMO)).result()
    here = archfind.guess(str(DEMO))
    assert there == here and there.to_dict() == here.to_dict()
    for error in (
        MissingLibrary("x", "torch"),
        BuildError("x", "p", missing=("a",)),
        Truncated("x", "p"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)
        assert vars(again) == vars(error)


def test_every_public_annotation_resolves() -> None:
    hints: dict[str, Any] = {}
    for name in archfind.__all__:
        thing = getattr(archfind, name)
        if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception)):
            hints[name] = get_type_hints(
                getattr(thing, "__init__", thing) if isinstance(thing, type) else thing
            )
    import torch

    assert hints["load"]["return"] is torch.nn.Module and hints["guess"]["return"] is types.Guess
    for name in types.__all__:
        thing = getattr(types, name)
        if isinstance(thing, type):
            get_type_hints(thing)


def test_bytes_open_files_and_state_dicts_are_answered() -> None:
    import torch

    expected = archfind.guess(DEMO)
    with DEMO.open("rb") as file:
        state = torch.load(DEMO, weights_only=True)
        given: list[Any] = [file, DEMO.read_bytes(), io.BytesIO(DEMO.read_bytes()), state]
        answers = [archfind.guess(one) for one in given]
    for answer in answers:
        assert (answer.status, answer.matches[0].entry.id) == ("exact", "timm/test_efficientnet")
        assert answer.matches[0].config == expected.matches[0].config
    loaded = archfind.load(answers[1]).state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in archfind.load(DEMO).state_dict().items())
    with pytest.raises(BuildError, match="save it to one first"):
        archfind.load(answers[3])
    for wrong in (3, io.StringIO("text"), {}):
        with pytest.raises((NotACheckpoint, archfind.CheckpointError)):
            archfind.open(wrong)  # pyright: ignore
