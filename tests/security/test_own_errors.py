"""One file that archfind fails on is that file's answer: the others have theirs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile.build import entry, mapping, pickled, tensor, torch_zip
from hostile.build import safetensors as safe_bytes

import archfind
from archfind import cli
from archfind.errors import InternalError
from archfind.internal_errors import TRACEBACK
from archfind.matching import identify
from archfind.report import inspection

pytestmark = pytest.mark.light

FAULTS: tuple[Exception, ...] = (
    KeyError("codebook_params"),
    AssertionError(),
    RecursionError("maximum recursion depth exceeded"),
    MemoryError(),
    UnboundLocalError("cannot access 'x\x1b[31m\n'"),
)


def mixed(folder: Path, count: int) -> Iterator[str]:
    """Small files of several kinds, some of them no checkpoints."""
    makers: tuple[tuple[str, bytes], ...] = (
        ("a.pth", torch_zip(pickled(mapping(w=tensor())))),
        ("b.safetensors", safe_bytes({"w": entry((2, 3), 0, 24)}, bytes(24))),
        ("c.pth", b"not a checkpoint"),
        ("d.pkl", b"\x80\x02cos\nsystem\n)R."),
        ("e.safetensors", safe_bytes({"w": entry((2, 3), 0, 24)}, bytes(3))),
    )
    for number in range(count):
        name, data = makers[number % len(makers)]
        path = folder / f"{number:03}{name}"
        path.write_bytes(data)
        yield str(path)


def failing(work: Callable, faults: dict[str, Exception]) -> Callable:
    """`work`, which raises for some files, as a fault of its own would."""

    def fail(checkpoint, *args, **kwargs):  # type: ignore[no-untyped-def]
        if checkpoint.path in faults:
            raise faults[checkpoint.path]
        return work(checkpoint, *args, **kwargs)

    return fail


@pytest.mark.parametrize("command", ["guess", "inspect"])
@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_500_files_have_500_answers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    flag: list[str],
) -> None:
    paths = list(mixed(tmp_path, 500))
    readable = [path for path in paths if path.endswith(("a.pth", "b.safetensors"))]
    faults = dict(zip(random.Random(0).sample(readable, len(FAULTS)), FAULTS, strict=True))
    if command == "guess":
        monkeypatch.setattr(
            identify, "guess_checkpoint", failing(identify.guess_checkpoint, faults)
        )
    else:
        work = failing(inspection.inspect_document, faults)
        monkeypatch.setattr(inspection, "inspect_document", work)
    assert cli.main([command, *flag, *paths]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err and "\x1b" not in out + err
    said = [line for line in err.splitlines() if "internal error" in line]
    assert len(said) == 5
    for path, error in faults.items():
        (line,) = [line for line in said if line.startswith(f"{path}: error: internal error")]
        assert type(error).__name__ in line and "archfind inspect --json" in line
        assert archfind.__version__ in line and ", tensors 1" in line
        assert line.count(tmp_path.name) == 1, "the report has no paths"
    if flag:
        documents = [json.loads(line) for line in out.splitlines()]
        assert [one["path"] for one in documents] == paths
        reports = {one["path"]: one["report"] for one in documents if one["report"]}
        assert reports.keys() == faults.keys()
        for path, report in reports.items():
            assert report["exception"] == type(faults[path]).__name__
            assert report["at"] and all(":" in place for place in report["at"])
    else:
        answered = {line.partition(": ")[0] for line in (out + err).splitlines() if line[:1] == "/"}
        assert answered == set(paths)


def test_whoever_calls_it_gets_the_text_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = mixed(tmp_path, 1)
    monkeypatch.setattr(
        identify, "guess_checkpoint", failing(identify.guess_checkpoint, {path: KeyError("x")})
    )
    with pytest.raises(InternalError) as caught:
        archfind.guess(path)
    assert caught.value.report["format"] == "torch-zip"
    assert isinstance(caught.value.__cause__, KeyError) and caught.value.path == path
    for command in (["export", path, str(tmp_path / "x.onnx")], ["repair", path]):
        assert cli.main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{path}: error: internal error") and "KeyError: 'x'" in line
    monkeypatch.setenv(TRACEBACK, "1")
    assert cli.main(["guess", path]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_what_the_system_refuses_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = mixed(tmp_path, 2)
    error = OSError(5, "Input/output error", first)
    monkeypatch.setattr(
        identify, "guess_checkpoint", failing(identify.guess_checkpoint, {first: error})
    )
    assert cli.main(["guess", "-q", first, second]) == 2
    out, err = capsys.readouterr()
    assert err == f"{first}: error: can't be read or written: Input/output error\n"
    assert out.startswith(f"{second}: ")
