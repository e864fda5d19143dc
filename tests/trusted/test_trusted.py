"""`--code PLACE --trust`: the user's code is imported in a process of its own, and the class that
makes the file's tensors is the answer.

The code is source that the test writes to disk, the files are state dicts of networks of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from trusted_code import BLOCKS, NETS, network, saved, written

import archfind
from archfind.cli import main
from archfind.database.plain import Unplain, decoded, encoded
from archfind.trusted import asked as asking
from archfind.trusted.asked import Answer
from archfind.trusted.calls import Unsolved, started
from archfind.trusted.places import ways
from archfind.types import CodeClass, TrustedClass

RAN = "ARCHFIND_TEST_RAN"


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's modules are its own."""
    monkeypatch.setenv(RAN, "")
    for name in ("nets", "blocks"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_class_is_proven_loaded_exported_and_repaired(tmp_path: Path) -> None:
    code = written(tmp_path / "code")
    module = network("Plain", 1, width=24, depth=5)
    path = saved(tmp_path / "plain.pth", module)
    before = sorted(p for p in tmp_path.rglob("*"))
    guess = archfind.guess(path, code=str(code), trust=True)
    match = guess.matches[0]
    assert (guess.status, match.entry.id, match.entry.provider) == (
        "exact",
        "code/nets.Plain",
        "code",
    )
    config = {name: (setting.value, setting.source) for name, setting in match.config.items()}
    assert config == {"in_ch": (1, "shape"), "width": (24, "shape"), "depth": (5, "shape")}
    # Guessing ran it elsewhere, and there its file is gone with its folder.
    assert not os.environ[RAN] and "nets" not in sys.modules
    assert sorted(p for p in tmp_path.rglob("*") if "__pycache__" not in p.parts) == before

    loaded = archfind.load(guess)
    (here := Path("ran")).unlink(missing_ok=True)  # now it ran here, as its user allowed
    assert os.environ[RAN] and not here.exists() and type(loaded).__name__ == "Plain"
    image = torch.randn(2, 1, 16, 16)
    assert torch.equal(loaded(image), module(image))
    exported = archfind.export(guess, tmp_path / "plain.onnx", inputs=["2x1x20x20"])
    assert exported.max_abs_diff < 1e-4

    state = module.state_dict()
    del state["rest.4.down.bias"]
    torch.save(state, tmp_path / "broken.pth")
    plan = archfind.repair.plan(tmp_path / "broken.pth", code=str(code), trust=True)
    assert plan.target == "code/nets.Plain" and [edit.kind for edit in plan.edits] == ["fill"]
    out = tmp_path / "fixed.safetensors"
    with pytest.raises(archfind.RepairError, match="say where it is"):
        archfind.repair.apply(plan, out, allow_fill=True)
    archfind.repair.apply(plan, out, allow_fill=True, code=str(code), trust=True)
    assert out.exists()


def test_what_no_tensor_shows_is_assumed_and_classes_alike_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = written(tmp_path / "code")
    (code / "copy_of_nets.py").write_text(NETS.replace("0.1, act=0", "0.1, act=1"))
    path = saved(tmp_path / "net.pth", network("Net", 3, depth=4, width=24, classes=7))
    guess = archfind.guess(path, code=str(code), trust=True)
    assert (guess.status, guess.chosen_by) == ("ambiguous", "")
    assert [m.entry.id for m in guess.matches] == ["code/copy_of_nets.Net", "code/nets.Net"]
    for match, value in zip(guess.matches, (1, 0), strict=True):
        assert [(a.place, a.value) for a in match.assumed] == [("act", value)]  # no dropout
    with pytest.raises(archfind.AmbiguousError, match=r"code/copy_of_nets\.Net"):
        archfind.load(guess)
    chosen = archfind.guess(guess, choose="code/nets.Net")
    assert chosen.is_assumed
    told = archfind.guess(chosen, settings={"act": 1})
    assert told.status == "exact"
    assert isinstance(archfind.load(told).act, nn.GELU)
    Path("ran").unlink(missing_ok=True)
    assert main(["export", str(path), str(tmp_path / "n.onnx"), "--code", str(code)]) == 2
    assert "add --trust" in capsys.readouterr().err


def test_code_that_misbehaves_is_ended_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file has the class; what each does when it's imported comes first."""
    outside = tmp_path / "outside"
    bodies = {
        "a_connects": "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)",
        "b_forks": "import os\nwhile True: os.fork()",
        "c_writes": f"open({str(outside)!r}, 'w')",
        "d_exits": "raise SystemExit(3)",
        "e_lacks": "import a_module_that_is_not_there",
        "f_dies": "import os\nos._exit(7)",
        "g_sleeps": "import time\ntime.sleep(999)",
    }
    code = tmp_path / "code"
    code.mkdir()
    (code / "blocks.py").write_text(BLOCKS)
    for name, body in bodies.items():
        (code / f"{name}.py").write_text(body + NETS)
    monkeypatch.setattr(asking, "_SILENT", 12.0)
    path = saved(tmp_path / "plain.pth", network("Plain", 1, width=8, depth=2))
    guess = archfind.guess(path, code=str(code), trust=True)
    said = "\n".join(guess.warnings)
    for words in (
        "a_connects.py asked for a connection: refused",
        "b_forks.py asked for a process: refused",
        f"c_writes.py asked for writing {outside}: refused",
        "importing d_exits failed: SystemExit: 3",
        "importing e_lacks failed: ModuleNotFoundError: No module named 'a_module_that",
        "importing it ended its process",
        "importing it didn't end within",
    ):
        assert words in said, said
    assert guess.status == "unknown" and not outside.exists()


def test_arguments_that_cannot_be_solved_are_named() -> None:
    class Wanting(nn.Module):
        def __init__(self, width: int, encoder: nn.Module) -> None:
            super().__init__()
            self.tail = nn.Linear(width, 3)

    with pytest.raises(Unsolved, match="no value is known for encoder"):
        started(Wanting, {"width": 3}, {"tail.weight": ((3, 8), "float")}, 1e9)


def test_a_module_is_imported_as_part_of_its_package(tmp_path: Path) -> None:
    inner = tmp_path / "repo" / "src" / "pkg" / "models"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").touch()
    way = ways(str(tmp_path / "repo"), str(inner / "net.py"), "Net")[0]
    assert (way.module, way.paths[0]) == ("pkg.models.net", str(tmp_path / "repo" / "src"))
    loose = tmp_path / "loose" / "models"
    loose.mkdir(parents=True)
    found = ways(str(tmp_path / "loose"), str(loose / "net.py"), "Net")
    assert [one.module for one in found] == ["models.net", "net"]


@pytest.mark.parametrize("value", [1, 2.5, None, "relu", [1, (2, 3)], {"a": (1, [True])}])
def test_arguments_cross_as_they_are(value: object) -> None:
    assert decoded(encoded(value)) == value


@pytest.mark.parametrize(
    "value",
    [2**70, "x" * 9999, [[[[[[[[[[1]]]]]]]]]], {"set": [1]}, {"tuple": 3}, {"dict": [[1, 2]]}],
)
def test_what_is_no_argument_is_not_taken(value: object) -> None:
    with pytest.raises(Unplain):
        decoded(value)


@pytest.mark.parametrize("shapes", [[["w", [-1], "float"]], [["w", ["3"], "float"]], {"w": [3]}])
def test_an_answer_is_checked(shapes: object) -> None:
    code = CodeClass("nets.py", 1, "Net", "", 1, 0, 1, 0, {}, (), 1.0)
    trusted = TrustedClass("", (), "nets", "Net", "nets.py")
    plain = {"arguments": {}, "defaults": {}, "objects": {}, "shown": [], "assumed": [], "tries": 1}
    assert Answer(code, trusted, {**plain, "shapes": [["w", [3], "float"]]}).shapes
    with pytest.raises(Unplain):
        Answer(code, trusted, {**plain, "shapes": shapes})
