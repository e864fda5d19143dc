"""The page about a file: whole by itself, escaped, and small whatever the file holds."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hostile.build import entry
from hostile.build import safetensors as safe_bytes

import archfind
from archfind.cli import main
from archfind.report.module_tree import tree_with_signatures
from archfind.types import Storage, TensorSpec

pytestmark = pytest.mark.light

DEMO = Path(archfind.__file__).parent / "demo" / "001.pth"
HOSTILE = "</script><script>alert(1)</script>\x1b[31m<img src=x onerror=y>.w\u202e"


class _Page(HTMLParser):
    """What a page has in it: its tags, what it would fetch or run, its words, its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [name for name, _ in attrs if name in ("src", "href") or name[:2] == "on"]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"] and data.startswith("{"):
            self.data = data
        self.words += data


def written(path: Path, out: Path) -> tuple[_Page, dict[str, Any], str]:
    assert main(["report", str(path), "-o", str(out)]) == 0
    text = out.read_text()
    page = _Page(text)
    return page, json.loads(page.data), text


def keys_of(tree: dict[str, Any], node: int, path: str = "") -> dict[str, list[str]]:
    """Every key of a tree, with its kind, as the page's script reads them."""
    found: dict[str, list[str]] = {}
    for name, at in tree["nodes"][node][2:]:
        if at < 0:
            found[path + name] = tree["kinds"][-1 - at]
        else:
            found |= keys_of(tree, at, f"{path}{name}.")
    return found


def test_a_page_has_the_answer_and_every_tensor(tmp_path: Path) -> None:
    guess = archfind.guess(DEMO)
    page, tree, _ = written(DEMO, tmp_path / "page.html")
    assert "timm/test_efficientnet" in page.words and "num_classes" in page.words
    assert page.links == [] and page.tags.count("script") == 2
    found = keys_of(tree, tree["root"])
    shapes = {
        k: " x ".join(map(str, s.shape)) or "scalar" for k, s in guess.canonical.index.items()
    }
    assert {key: kind[1] for key, kind in found.items()} == shapes
    assert found["classifier.weight"][2].endswith(": num_classes 256 if num_classes")
    assert tree["nodes"][tree["root"]][1] == len(shapes)


def test_what_a_file_says_is_text(tmp_path: Path) -> None:
    path = tmp_path / "<b>x.safetensors"
    path.write_bytes(safe_bytes({HOSTILE: entry((2,), 0, 8)}, bytes(8)))
    page, tree, text = written(path, tmp_path / "page.html")
    assert page.links == [] and page.tags.count("script") == 2 and "b" in page.tags
    assert "img" not in page.tags and "\x1b" not in text and "\u202e" not in text
    assert any("onerror" in key for key in keys_of(tree, tree["root"]))


def test_a_page_is_not_written_over_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    out.write_text("mine")
    assert main(["report", str(DEMO), "-o", str(out)]) == 2 and out.read_text() == "mine"
    assert main(["report", str(tmp_path / "none.pth"), "-o", str(tmp_path / "o.html")]) == 2
    assert not (tmp_path / "o.html").exists()


@pytest.mark.parametrize("name", ["layers.{n}.block{n}.weight", "{n}", "a." * 300 + "{n}"])
def test_200_000_keys_are_a_few_megabytes(name: str) -> None:
    spec = TensorSpec("float32", (4, 4), Storage("", "", -1, 64))
    index = {name.replace("{n}", str(n)): spec for n in range(200_000)}
    tree = tree_with_signatures(index, lambda key: "")
    assert len(json.dumps(tree, separators=(",", ":"))) < 5_000_000
    assert tree["nodes"][tree["root"]][1] + tree["left"] == len(index)
