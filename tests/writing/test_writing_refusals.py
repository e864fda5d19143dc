"""OUT is refused before anything is read or imported: the sources here don't even exist."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import archfind
from archfind.cli import main
from archfind.errors import ExportError
from archfind.writing import signals

LONG = "n" * 300
EARLY = """
import sys
HEAVY = ("torch", "transformers", "timm", "numpy")
sys.modules.update(dict.fromkeys(HEAVY))
"""
CLI = EARLY + "from archfind.cli import main; sys.exit(main())"
REFUSED: list[tuple[Sequence[str], str]] = [
    (("export", "in.pth", "missing/o.onnx"), "missing/o.onnx: error: there is no folder missing"),
    (("export", "in.pth", "file/o.onnx"), "file/o.onnx: error: there is no folder file"),
    (("export", "in.pth", "taken.onnx"), "taken.onnx: error: exists; --force overwrites"),
    (("export", "in.pth", "taken.pth"), "taken.pth: error: exists; --force overwrites"),
    (("export", "taken.pth", "./taken.pth", "--force"), "./taken.pth: error: is the checkpoint"),
    (("export", "taken.pth", "link.pth", "--force"), "link.pth: error: is the checkpoint itself"),
    (("export", "in.pth", "link.pth", "--force"), "link.pth: error: is a link, which isn't"),
    (("export", "in.pth", "dangling.pth", "--force"), "dangling.pth: error: is a link, which"),
    (("export", "in.pth", "pipe.pth", "--force"), "pipe.pth: error: is no regular file"),
    (("export", "in.pth", "folder.ts", "--force"), "folder.ts: error: is a folder"),
    (("export", "in.pth", "o.xyz"), "o.xyz: error: no exporter writes .xyz; known: .onnx"),
    (("export", "in.pth", ""), "archfind: error: names no folder"),
    (("export", "in.pth", "file/"), "file/: error: is a file; a transformers model is"),
    (("export", "in.pth", "full/"), "full/: error: exists; --force replaces its config.json"),
    (("export", "full/in.pth", "full/", "--force"), "full/: error: holds the checkpoint itself"),
    (("export", "in.pth", f"{LONG}.pth"), "error: can't be written: File name too long"),
    (("export", "in.pth", f"{LONG}/o.pth"), "error: can't be written: File name too long"),
    (("export", "in.pth", "n" * 250 + ".onnx"), "error: can't be written: File name too long"),
    (("export", "in.pth", "/proc/o.pth"), "/proc/o.pth: error: can't be written: No such file"),
    (("export", "in.pth", "o.pth", "--half"), "o.pth: error: half and opset are for .onnx"),
    (("export", "in.pth", "o/", "--opset", "18"), "o/: error: half and opset are for .onnx"),
    (("export", "in.pth", "o.onnx", "--dtype", "fp16"), "dtype and max_shard_size are for what"),
    (("export", "in.pth", "o.ts", "--max-shard-size", "1GB"), "dtype and max_shard_size are for"),
    (("export", "in.pth", "o.pth", "--set", "a=1", "--dtype", "fp16"), "dtype and max_shard_size"),
    (("export", "in.pth", "o.pth", "--dtype", "fp8"), "o.pth: error: no dtype fp8; there are fp16"),
    (("export", "in.pth", "o.pth", "--max-shard-size", "x"), "wants a size like 5GB, not 'x'"),
    (("export", "in.pth", "o.onnx", "--input", "1x3"), "--input is for a program that --trust"),
    (
        ("export", "in.pt", "o.pth", "--trust"),
        "o.pth: error: a trusted program is written to .onnx",
    ),
    (("export", "in.pt", "o.onnx", "--trust", "--input", "1y3"), "not 1y3"),
    (("export", "program.pt", "o.onnx", "--trust"), "say what it runs on: --input 1x3x224x224"),
    (("export", "in.pt", "o.onnx", "--trust", "--dtype", "fp16"), "are not for a program that"),
    (("repair", "in.pth", "-o", "o.onnx"), "o.onnx: error: writes .safetensors, .pth, .pt, .bin"),
    (("repair", "in.pth", "-o", "missing/o.pth"), "there is no folder missing"),
    (("repair", "in.pth", "-o", "taken.pth"), "taken.pth: error: exists; --force overwrites"),
    (("repair", "taken.pth", "-o", "taken.pth", "--force"), "is the checkpoint itself"),
    (
        ("repair", "in.pth", "--base", "taken.pth", "-o", "taken.pth", "--force"),
        "is the checkpoint",
    ),
    (("demo", "--folder", "file"), "file: error: can't write the demo there: File exists"),
    (("demo", "--folder", "full"), "full/001.onnx: error: exists, and isn't the demo's"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with something of every kind in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("file", "taken.pth", "taken.onnx"):
        Path(name).write_text("mine")
    Path("link.pth").symlink_to("taken.pth")
    Path("dangling.pth").symlink_to("nowhere")
    Path("folder.ts").mkdir()
    Path("full").mkdir()
    for name in ("in.pth", "001.onnx"):
        Path("full", name).write_text("mine")
    os.mkfifo("pipe.pth")
    gate = torch.nn.Conv2d(3, 4, 3).eval()
    torch.jit.trace(gate, torch.randn(1, 3, 9, 9)).save("program.pt")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names")
def test_what_can_be_said_without_loading_is_said_first(place: Path) -> None:
    """With torch, numpy and the model libraries out of reach."""
    before = names(place)
    for arguments, said in REFUSED:
        done = subprocess.run(
            [sys.executable, "-c", CLI, *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2 and done.stdout == "", (arguments, done)
        assert said in done.stderr and done.stderr.count("\n") == 1, (arguments, done.stderr)
        assert names(place) == before, arguments


PYTHON = """
import archfind
PLAN = archfind.repair.Plan("in.pth", ())
for call, said in (
    (lambda: archfind.export("in.pth", "missing/o.onnx"), "there is no folder"),
    (lambda: archfind.export("in.pth", "o.xyz"), "no exporter writes .xyz"),
    (lambda: archfind.export("in.pth", "a\\0.pth"), "null byte"),
    (lambda: archfind.export_program("in.pt", "o.pth"), "to .onnx only"),
    (lambda: archfind.export_program("in.pt", "o.onnx", inputs=["3 by 9"]), "1x128:int64"),
    (lambda: archfind.onnx.export("in.pth", "o.pth"), "writes .onnx"),
    (lambda: archfind.onnx.export("in.pth", "taken.onnx"), "exists"),
    (lambda: archfind.onnx.export({}, "missing/o.onnx"), "there is no folder"),
    (lambda: archfind.repair.apply(PLAN, "missing/o.pth"), "there is no folder"),
):
    try:
        call()
    except archfind.ArchfindError as error:
        assert said in str(error), error
    else:
        raise AssertionError(said)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names")
def test_the_same_from_python(place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", EARLY + PYTHON], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_of_many_at_once_one_writes(tmp_path: Path) -> None:
    """Without --force nothing is replaced, however many begin at the same moment."""
    torch.save({"a.weight": torch.arange(6.0)}, tmp_path / "in.pth")
    for round in range(5):
        out = tmp_path / f"{round}.safetensors"

        def export(_: int, out: Path = out) -> str:
            try:
                return archfind.export(tmp_path / "in.pth", out).path
            except ExportError as error:
                return error.message

        with ThreadPoolExecutor(8) as pool:
            answers = sorted(pool.map(export, range(8)))
        assert answers == sorted([str(out), *["exists; --force overwrites"] * 7])
        assert list(archfind.open(out).index) == ["a.weight"]
    assert not list(tmp_path.glob(".archfind-*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_that_is_ended_puts_nothing_away(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("the parent's")
    with signals.put_away(marker.unlink):
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert marker.exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_handlers_of_the_caller_stay() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored
    try:
        with signals.put_away(lambda: came.append(0)):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), signals.held():
            signal.raise_signal(signal.SIGINT)
            came.append(1)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
    assert came == [signal.SIGTERM, 1]


def test_the_plan_is_an_input_too(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(4, 4)}, tmp_path / "s.pth")
    plan = json.dumps({"source": str(tmp_path / "s.pth"), "edits": []})
    (tmp_path / "p.bin").write_text(plan)
    os.link(tmp_path / "p.bin", tmp_path / "same.pth")
    for out in ("p.bin", "same.pth"):
        arguments = ["--plan", str(tmp_path / "p.bin"), "-o", str(tmp_path / out), "--force"]
        assert main(["repair", str(tmp_path / "s.pth"), *arguments]) == 2
    assert (tmp_path / "p.bin").read_text() == plan


@pytest.mark.parametrize("value", ["{[]:1}", "-" * 100_000 + "1", "(" * 9000, "9" * 5000])
def test_a_setting_that_python_cant_read_is_a_word(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a.weight": torch.ones(4, 4)}, tmp_path / "s.pth")
    assert main(["guess", str(tmp_path / "s.pth"), "--set", f"a={value}"]) == 2
    assert "nothing is assumed at a" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "0.5", "nan", "GB", "-1"])
def test_no_size_of_a_shard(size: str, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(4, 4)}, tmp_path / "s.pth")
    out = str(tmp_path / "o.pth")
    assert main(["export", str(tmp_path / "s.pth"), out, f"--max-shard-size={size}"]) == 2
    assert not os.path.exists(out)


def test_a_sample_of_less_than_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signatures", "check", "--sample=-5"]) == 2
    assert (
        capsys.readouterr().err == "archfind: error: --sample wants a number of entries, not -5\n"
    )
