"""What people see: colours on a terminal alone, lines as wide as it is, commands that can be
pasted, steps with their seconds, and exit codes."""

from __future__ import annotations

import os
import pty
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hostile.build import entry, mapping, pickled, tensor, torch_zip
from hostile.build import safetensors as safe_bytes

import archfind
from archfind.cli import exit_codes, main, parser
from archfind.cli.terminal import styled
from archfind.errors import (
    AmbiguousError,
    ArchfindError,
    BuildError,
    InternalError,
    MissingLibrary,
    NotACheckpoint,
    Stopped,
    UnknownError,
)
from archfind.learning.commands import list_lines
from archfind.report.answer import guess_document, guess_lines

pytestmark = pytest.mark.light

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "archfind" / "demo" / "001.pth"
ODD = "it's $(x) a.pth"


def in_terminal(
    arguments: list[str], columns: int = 80, env: Mapping[str, str] | None = None
) -> str:
    """What `archfind` writes to a terminal of so many columns."""
    child, descriptor = pty.fork()
    if child == 0:
        settings = {"TERM": "xterm", "COLUMNS": str(columns), **(env or {})}
        words = [sys.executable, "-m", "archfind", *arguments]
        os.execve(sys.executable, words, {**os.environ, "NO_COLOR": "", **settings})
    said = b""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # how a terminal ends
            break
        if not piece:
            break
        said += piece
    os.close(descriptor)
    os.waitpid(child, 0)
    return said.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_nothing_else_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guess", str(DEMO)]) == 0
    plain = capsys.readouterr().out
    coloured = in_terminal(["guess", str(DEMO)], 300)
    first = coloured.split("\n")[0]
    assert first == f"{DEMO}: \x1b[1;32mtimm/test_efficientnet (EfficientNet)\x1b[0m"
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert in_terminal(["guess", str(DEMO)], 300, {"NO_COLOR": "1"}) == plain
    assert in_terminal(["guess", str(DEMO)], 300, {"TERM": "dumb"}) == plain


def test_lines_are_as_wide_as_the_terminal() -> None:
    said = in_terminal(["guess", str(DEMO)], 60)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in said.split("\n")]
    assert all(len(line) <= 60 for line in lines[1:])
    below = [line for line in lines if line.startswith(" " * 12)]
    assert below, "what doesn't fit goes on below what the line says"


def test_assumptions_stand_out_and_commands_stay_whole() -> None:
    command = f"archfind export {'x' * 90}.pth out.onnx"
    lines = ["a.pth: ambiguous", "  assumed   heads of a: 4", f"  Choose:  {command}"]
    first, assumed, choice = styled(lines, "ambiguous")
    assert first == "a.pth: \x1b[1;33mambiguous\x1b[0m"
    assert assumed == "  \x1b[33massumed   heads of a: 4\x1b[0m"
    assert f"\x1b[36m{command}\x1b[0m" in choice and "\n" not in choice


def _files(place: Path) -> list[Path]:
    """A file of each kind of answer that suggests a command."""
    shapes = {
        "two heads": {"a.weight": (8, 4), "a.bias": (8,), "b.weight": (2, 8), "b.bias": (2,)},
        "parts": {f"-{n}.{k}": v for n in "ab" for k, v in _demo_shapes().items()},
        "close": dict(list(_demo_shapes().items())[3:]),
    }
    found: list[Path] = []
    for name, keys in shapes.items():
        (place / name).mkdir()
        path = place / name / ODD
        header, end = {}, 0
        for key, shape in keys.items():
            size = 4
            for number in shape:
                size *= number
            header[key] = entry(shape, end, end + size)
            end += size
        path.write_bytes(safe_bytes(header, bytes(end)))
        found.append(path)
    return found


def _demo_shapes() -> dict[str, tuple[int, ...]]:
    canonical = archfind.guess(DEMO).canonical
    return {k: spec.shape for k, spec in canonical.index.items() if spec.dtype == "float32"}


def test_suggested_commands_can_be_pasted(tmp_path: Path) -> None:
    commands: list[str] = []
    for path in _files(tmp_path):
        lines = guess_lines(guess_document(archfind.guess(path)))
        commands += [line.partition(":  ")[2] for line in lines if ":  archfind " in line]
        commands += [
            f"archfind export x y {line[line.index('--set ') :]}"
            for line in lines
            if "--set" in line
        ]
    assert commands
    for command in commands:
        _, *words = shlex.split(command)
        arguments = parser().parse_args(words)
        given = getattr(arguments, "file", "") or arguments.files[0]
        assert given == "x" or Path(given).exists()


def test_convert_is_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "o.safetensors"
    assert main(["convert", str(DEMO), str(out)]) == 0 and out.exists()


def test_steps_are_shown_on_a_terminal_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(DEMO), str(tmp_path / "o.safetensors"), "--force"]
    assert main(words) == 0 and not capsys.readouterr().err
    said = re.sub(r"[^\n]*\r", "", in_terminal(words))  # what was drawn over
    assert re.search(r"^  identified +\d+\.\d s", said, re.MULTILINE)
    assert re.search(r"^  exported +\d+\.\d s", said, re.MULTILINE)


def test_signatures_are_looked_for_by_words() -> None:
    every = [line for line in list_lines([]) if "/" in line]
    found = [line for line in list_lines(["TIMM", "swinv2"]) if "/" in line]
    assert found == [name for name in every if name.startswith("timm/") and "swinv2" in name]
    assert "torchvision/resnet50" in list_lines(["resnet"]), "a class counts, too"
    with pytest.raises(ArchfindError, match="libraries are: "):
        list_lines(["nonesuch"])


ERRORS: tuple[tuple[ArchfindError, int], ...] = (
    (AmbiguousError("x", None, ()), exit_codes.EXIT_AMBIGUOUS),
    (BuildError("x", None, missing=("a",)), exit_codes.EXIT_CLOSE),
    (UnknownError("x", None, ()), exit_codes.EXIT_UNKNOWN),
    (NotACheckpoint("x"), exit_codes.EXIT_UNREADABLE),
    (MissingLibrary("x", "torch"), exit_codes.EXIT_MISSING_LIBRARY),
    (InternalError({"exception": "E", "message": "", "at": []}), exit_codes.EXIT_INTERNAL),
    (BuildError("x"), exit_codes.EXIT_FAILED),
    (Stopped("x"), exit_codes.EXIT_FAILED),
)


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda one: type(one).__name__)
def test_detailed_codes_tell_failures_apart(error: ArchfindError, code: int) -> None:
    assert exit_codes.code_of_error(error, is_detailed=True) == code
    assert exit_codes.code_of_error(error, is_detailed=False) == exit_codes.EXIT_FAILED


def test_detailed_codes_tell_answers_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = tmp_path / "unknown.pth"
    unknown.write_bytes(torch_zip(pickled(mapping(w=tensor()))))
    close = _files(tmp_path)[2]
    (tmp_path / "none.pth").write_bytes(b"")
    for path, detailed, plain in (
        (DEMO, exit_codes.EXIT_EXACT, 0),
        (close, exit_codes.EXIT_CLOSE, 1),
        (unknown, exit_codes.EXIT_UNKNOWN, 1),
        (tmp_path / "none.pth", exit_codes.EXIT_UNREADABLE, 2),
    ):
        assert main(["guess", str(path)]) == plain
        assert main(["guess", "--detailed-exit-codes", str(path)]) == detailed
    assert main(["guess", "--detailed-exit-codes", str(DEMO), str(unknown)]) == 12


def test_the_document_of_exit_codes_is_complete() -> None:
    text = (ROOT / "docs" / "terminal.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE))
    every = {**exit_codes.MEANINGS, **exit_codes.DETAILED_MEANINGS}
    assert rows == {str(code): words for code, words in every.items()}
    numbers = {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")}
    assert numbers == set(every)


def test_what_is_watched_says_its_steps_and_ends_when_told() -> None:
    steps: list[tuple[str, float]] = []
    with archfind.watching(lambda name, seconds: steps.append((name, seconds))):
        archfind.guess(DEMO)
    archfind.guess(DEMO)
    ((name, seconds),) = steps
    assert name == "identified" and 0 <= seconds < 60
    with pytest.raises(Stopped, match="longer than 0 s"), archfind.watching(timeout=0):
        archfind.guess(DEMO)
    with pytest.raises(Stopped), archfind.watching(cancel=lambda: True):
        archfind.guess(DEMO)
    assert archfind.guess(DEMO).status == "exact"
