"""A folder of files of every kind: a row each, whatever is wrong with it, in every table."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

import archfind
from archfind.cli import main
from archfind.errors import CheckpointError, ExportError
from archfind.scan import scan
from archfind.scan.rows import COLUMNS, row_of_file

HOSTILE = '=1+1<script>alert("x")</script>.pth'


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind, in folders with loops."""
    root = tmp_path_factory.mktemp("tree")
    torch.manual_seed(0)
    state = archfind.variant("timm/test_resnet", {}).state_dict()
    (root / "deep" / "er").mkdir(parents=True)
    torch.save(state, root / "a.pth")
    wrapped = {"state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(wrapped, root / "deep" / "copy.ckpt")
    save_file(
        {k: v * 2 if v.is_floating_point() else v for k, v in state.items()},
        root / "deep" / "er" / "tuned.safetensors",
    )
    torch.save({"w": torch.zeros(3, 5)}, root / HOSTILE.replace("/", "_"))
    (root / "cut.pth").write_bytes((root / "a.pth").read_bytes()[:3000])
    (root / "bad.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (root / "notes.txt").write_text("no weights")
    (root / "other.dat").write_text("no weights either")
    os.symlink(root, root / "deep" / "loop")
    os.symlink(root / "a.pth", root / "link.pth")
    os.symlink(root / "nowhere", root / "broken.pth")
    os.mkfifo(root / "pipe.pth")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_file_has_a_row_and_the_rest_is_counted(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    summary = scan([str(tree)], str(out), is_hashed=True)
    rows = {Path(str(found["path"])).name: found for found in _lines(out)}
    assert len(rows) == 6 == summary.files
    assert rows["a.pth"]["architecture"] == "timm/test_resnet"
    assert rows["a.pth"]["status"] == "exact"
    assert rows["cut.pth"]["error"] and not rows["cut.pth"]["status"]
    assert rows["bad.pkl"]["is_dangerous"] or rows["bad.pkl"]["error"]
    assert all(found.keys() == COLUMNS.keys() for found in rows.values())
    copies = [sorted(Path(p).name for p in group) for group in summary.copies()]
    assert copies == [["a.pth", "copy.ckpt"]]
    (alike,) = summary.alike()
    assert {Path(p).name for p in alike} == {"a.pth", "tuned.safetensors"}
    assert summary.others == 1  # other.dat; notes.txt isn't opened


def test_all_tables_hold_the_same(tree: Path, tmp_path: Path) -> None:
    for suffix in (".jsonl", ".csv", ".parquet", ".html"):
        scan([str(tree)], str(tmp_path / f"out{suffix}"))
    rows = _lines(tmp_path / "out.jsonl")
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == rows
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [c["status"] for c in cells] == [r["status"] for r in rows]
    assert not any(value[:1] in "=+-@" for cell in cells for value in cell.values() if value)
    page = (tmp_path / "out.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    assert page.count("<tr data-status") == len(rows)


def test_processes_give_the_rows_of_one_in_its_order(tree: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(40):
        if number % 7:
            os.link(tree / "a.pth", many / f"{number:02}.pth")
        else:
            data = (tree / "a.pth").read_bytes()
            (many / f"{number:02}.pth").write_bytes(data[: 100 * number])
    for jobs in (1, 2):
        scan([str(many)], str(tmp_path / f"{jobs}.jsonl"), jobs=jobs, is_cached=False)
    assert (tmp_path / "1.jsonl").read_text() == (tmp_path / "2.jsonl").read_text()
    rows = _lines(tmp_path / "2.jsonl")
    assert len(rows) >= 34
    assert [r["path"] for r in rows] == sorted(str(r["path"]) for r in rows)


def test_what_has_not_changed_is_not_read_again(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    path = folder / "a.pth"
    path.write_bytes((tree / "a.pth").read_bytes())
    assert scan([str(folder)]).statuses == {"exact": 1}
    before = path.stat()
    path.write_bytes(b"\0" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scan([str(folder)]).statuses == {"exact": 1}
    assert scan([str(folder)], is_cached=False).statuses != {"exact": 1}
    os.utime(path)
    assert scan([str(folder)]).statuses != {"exact": 1}


def test_refusals_come_before_any_file_is_read(tree: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.csv"
    kept.write_text("kept")
    for out in (kept, tmp_path / "out.xlsx", tmp_path / "no" / "out.csv"):
        with pytest.raises(ExportError):
            scan([str(tree)], str(out))
    assert kept.read_text() == "kept"
    with pytest.raises(CheckpointError):
        scan([str(tmp_path / "gone")])
    scan([str(tree)], str(kept), force=True)
    assert kept.read_text().startswith("path,size")


def test_an_error_inside_is_that_file_s_row(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of our own")

    monkeypatch.setattr("archfind.matching.identify.guess_checkpoint", broken)
    found = row_of_file(str(tree / "a.pth"))
    assert found is not None and "ZeroDivisionError" in str(found["error"])


def test_the_command(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(tree), "--hash"]) == 0
    out = capsys.readouterr().out
    assert f"{tree}/a.pth: exact, timm/test_resnet" in out
    assert "6 files with weights, 1 others without weights" in out
    assert "copies    2: " in out and "alike     2: " in out
    dangerous = "danger    " in out
    assert main(["scan", str(tree), "--fail-on-danger"]) == (3 if dangerous else 0)
