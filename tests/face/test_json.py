"""What commands print with --json is what the shipped schema says, errors included."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hostile.build import entry, mapping, pickled, tensor, torch_zip
from hostile.build import safetensors as safe_bytes
from hostile.keys import bert as bert_shapes
from jsonschema import Draft202012Validator

from archfind.cli import main
from archfind.report.errors import SCHEMA

pytestmark = pytest.mark.light

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "archfind" / "demo" / "001.pth"
CONTRACT: dict[str, Any] = json.loads(Path(SCHEMA).read_text())


def held(command: str, text: str) -> dict[str, Any]:
    """The object of a line, held against the schema of its command: each key and no other."""
    document = json.loads(text)
    schema = {"$defs": CONTRACT["$defs"], "$ref": f"#/$defs/{command}"}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(document)]
    assert not errors
    return document


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A file of each kind of answer."""
    linear = {"a.weight": entry((8, 4), 0, 128), "a.bias": entry((8,), 128, 160)}
    lora = {
        f"base_model.model.a.lora_{name}.weight": entry(shape, start, start + 64)
        for name, shape, start in (("A", (2, 8), 0), ("B", (8, 2), 64))
    }
    bert: dict[str, Any] = {}
    end = 0
    for key, shape in bert_shapes(("0", "1"), 96).items():
        size = 4 * prod(shape)
        bert[key] = entry(shape, end, end + size)
        end += size
    data = {
        "bert.safetensors": safe_bytes(bert, bytes(end)),
        "unknown.safetensors": safe_bytes(linear, bytes(160)),
        "lora.safetensors": safe_bytes(lora, bytes(128)),
        "small.pth": torch_zip(pickled(mapping(w=tensor()))),
        "empty.pth": b"",
        "evil.pkl": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
    }
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    return {"exact": str(DEMO), **{name: str(tmp_path / name) for name in data}}


def test_the_schema_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    Draft202012Validator.check_schema(CONTRACT)
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == CONTRACT


@pytest.mark.parametrize("command", ["guess", "inspect", "source", "repair"])
def test_every_object_is_as_the_schema_says(
    files: dict[str, str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in files.values():
        main([command, "--json", path])
        (line,) = capsys.readouterr().out.splitlines()
        document = held(command, line)
        assert document["source" if command == "repair" else "path"] == path
        assert Draft202012Validator(CONTRACT).is_valid(document)


def test_a_failed_export_prints_its_object(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "o.safetensors")
    for path, code in ((files["exact"], 0), (files["empty.pth"], 2), (files["exact"], 2)):
        assert main(["export", "--json", path, out]) == code
        document = held("export", capsys.readouterr().out)
        assert document["path"] == out and (document["error"] is None) == (code == 0)


def _printed(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    main(list(words))
    return capsys.readouterr().out


def test_formats_say_the_same(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    paths = list(files.values())
    lines = [
        json.loads(line) for line in _printed(["guess", "--json", *paths], capsys).splitlines()
    ]
    assert _printed(["guess", "--format", "jsonl", *paths], capsys).count("\n") == len(paths)
    assert json.loads(_printed(["guess", "--format", "json", *paths], capsys)) == lines
    rows = list(csv.DictReader(io.StringIO(_printed(["guess", "--format", "csv", *paths], capsys))))
    assert [row["path"] for row in rows] == paths
    assert [row["status"] or None for row in rows] == [one["status"] for one in lines]
    head, *table = _printed(["guess", "--format", "table", *paths], capsys).splitlines()
    assert head.startswith("path ") and len(table) == len(paths)


def test_a_spreadsheet_runs_no_formula(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in what a file says, nor in what it is called."""
    path = tmp_path / "=1+1.safetensors"
    path.write_bytes(safe_bytes({"=cmd()": entry((2,), 0, 8)}, bytes(8)))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path)
        text = _printed(["guess", "--format", "csv", path.name, "@none\t.pth"], capsys)
    cells = [value for row in csv.reader(io.StringIO(text)) for value in row]
    assert "'=1+1.safetensors" in cells
    assert not [value for value in cells if value[:1] in ("=", "+", "-", "@", "\t", "\r")]
