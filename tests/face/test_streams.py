"""Standard output and error that are closed, full or read by nobody: one line or silence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

FULL = "/dev/full"
pytestmark = pytest.mark.skipif(not os.path.exists(FULL), reason="has no /dev/full")


def run(
    arguments: Sequence[str], out: str = "", err: str = "", closed: Sequence[int] = ()
) -> tuple[int, bytes, bytes]:
    """The exit code of a command, what it said, and what it said of errors."""
    descriptors = "; ".join(f"exec {number}>&-" for number in closed)
    script = f'{descriptors or "true"}; exec "$@"'
    with open(out or os.devnull, "wb") as stdout, open(err or os.devnull, "wb") as stderr:
        done = subprocess.run(
            ["sh", "-c", script, "sh", sys.executable, "-m", "archfind", *arguments],
            stdout=stdout if out else subprocess.PIPE,
            stderr=stderr if err else subprocess.PIPE,
        )
    return done.returncode, done.stdout or b"", done.stderr or b""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("streams") / "in.pth"
    torch.save({"a": torch.arange(4.0)}, found)
    return found


@pytest.mark.parametrize("command", ["guess", "inspect", "repair", "guess --json", "--help"])
def test_a_full_output(command: str, path: Path) -> None:
    arguments = [*command.split(), *([] if command == "--help" else [str(path)])]
    code, _, err = run(arguments, out=FULL)
    assert (code, err) == (2, b"archfind: error: standard output: No space left on device\n")


def test_a_full_output_before_anything_is_written(path: Path, tmp_path: Path) -> None:
    """The first lines of an answer come before the work."""
    code, _, err = run(["export", str(path), str(tmp_path / "o.pth")], out=FULL)
    assert (code, err.count(b"\n")) == (2, 1) and not os.listdir(tmp_path)


@pytest.mark.parametrize("command", ["guess", "inspect"])
def test_a_closed_output_is_the_null_device(command: str, path: Path, tmp_path: Path) -> None:
    expected = run([command, str(path)])[0]
    for closed in ((1,), (2,), (1, 2), (0, 1, 2)):
        assert run([command, str(path)], closed=closed)[::2] == (expected, b"")
    # what is opened first isn't written to by whoever prints
    assert run(["export", str(path), str(tmp_path / "o.pth")], closed=(0, 1, 2))[0] == 0
    assert list(torch.load(tmp_path / "o.pth", weights_only=True)) == ["a"]


@pytest.mark.parametrize("arguments", [["guess", "nowhere.pth"], ["guess"], ["nonesuch"]])
def test_errors_that_nobody_can_read(arguments: list[str]) -> None:
    assert run(arguments, err=FULL)[:2] == (2, b"")
    assert run(arguments, closed=[2])[:2] == (2, b"")
    assert run(arguments, out=FULL, err=FULL)[0] == 2


def test_a_reader_that_went_away(path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "archfind", "guess", *[str(path)] * 3], stdout=write,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (2, b"")


def test_exit_codes_are_documented() -> None:
    said = " ".join(run(["--help"])[1].decode().split())
    for words in (
        "0 exact",
        "1 answered",
        "2 refused",
        "3 dangerous",
        "130 interrupted",
        "SIGTERM",
    ):
        assert words in said
