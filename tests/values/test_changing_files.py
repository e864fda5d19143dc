"""A file that is cut or rewritten while it is read ends in one line, never in a signal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from archfind import formats
from archfind.errors import BuildError
from archfind.values.reader import TensorReader

# Runs a command line, and does something to the source as soon as the first of its tensors was
# read, or when the copy has begun.
AMID = """
import os, sys
source, what, argv = sys.argv[1], sys.argv[2], sys.argv[3:]

def change():
    if what == "cut":
        os.truncate(source, 4096)
    elif what == "emptied":
        os.truncate(source, 0)
    elif what == "removed":
        os.remove(source)
    elif what == "rewritten":
        with open(source, "r+b") as file:
            file.seek(8192)
            file.write(b"x" * 65536)
    elif what == "replaced":
        os.replace(source + ".other", source)
    else:
        os.remove(source)
        os.mkfifo(source)

def once(function, at):
    calls = []
    def changed(*args, **kwargs):
        calls.append(1)
        if len(calls) == at:
            change()
        return function(*args, **kwargs)
    return changed

from archfind.exporters.output import NewFile
NewFile.copy = once(NewFile.copy, 2)
if "torch" in argv:
    argv.remove("torch")
    from archfind.values.reader import TensorReader
    TensorReader.read = once(TensorReader.read, 3)
from archfind.cli import main
sys.exit(main(argv))
"""


def amid(source: Path, what: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AMID, str(source), what, *argv],
        capture_output=True,
        text=True,
        timeout=120,
    )


def written(path: Path, strided: bool = True) -> dict[str, torch.Tensor]:
    """A state dict of a few megabytes; `strided`: every second tensor is one that can't be copied
    as it lies."""
    random = torch.Generator().manual_seed(0)
    state = {
        f"layer.{n}.weight": torch.randn(512, 512, generator=random)[:, :: 1 + n % 2 * strided]
        for n in range(6)
    }
    torch.save(state, path)
    return state


@pytest.mark.parametrize(
    ("what", "cast"),
    [(what, False) for what in ("cut", "emptied", "removed", "rewritten", "replaced", "a pipe")]
    + [("cut", True), ("rewritten", True), ("a pipe", True)],
)
def test_changed_amid_an_export(tmp_path: Path, what: str, cast: bool) -> None:
    source, out = tmp_path / "x.pth", tmp_path / "o.safetensors"
    written(source, strided=cast)
    written(tmp_path / "x.pth.other", strided=cast)
    more = ["torch", "--dtype", "fp16"] if cast else []
    done = amid(source, what, "export", str(source), str(out), *more)
    assert done.returncode in (0, 2), done.stderr  # no signal
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or len(done.stderr.splitlines()) == 1, done.stderr
    assert out.exists() == (done.returncode == 0)
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]
    if what in ("cut", "emptied"):
        assert done.returncode == 2


def test_changed_between_two_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    state = written(path)
    index, reader = formats.open(path).index, TensorReader()
    assert torch.equal(reader.read(index["layer.0.weight"]), state["layer.0.weight"])
    with path.open("r+b") as file:
        file.seek(9000)
        file.write(b"xxxx")
    os.utime(path, ns=(1, 1))
    with pytest.raises(BuildError, match="changed while it was read"):
        reader.read(index["layer.2.weight"])


def test_what_was_read_outlives_the_file(tmp_path: Path) -> None:
    """Nothing is mapped: the values stay when their file is cut to nothing."""
    path = tmp_path / "x.pth"
    state = written(path)
    reader = TensorReader()
    found = {key: reader.read(spec) for key, spec in formats.open(path).index.items()}
    os.truncate(path, 0)
    assert all(torch.equal(found[key], value) for key, value in state.items())
    found["layer.0.weight"].zero_()  # memory of its own, that can be written to
