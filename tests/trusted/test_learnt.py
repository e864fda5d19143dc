"""Classes of a user's own code, learnt once: files of theirs are named without the code afterwards,
and what a stranger's signature names is imported for nobody who doesn't say so.

The code is source that the tests write to disk, the files are state dicts of networks of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from trusted_code import BLOCKS, NETS, network, saved, written

import archfind
from archfind.cli import main
from archfind.errors import ArchfindError, CodeError, SignatureError
from archfind.learning.class_lines import said_of
from archfind.learning.from_class import signature_of
from archfind.trusted.learnt import located

RAN = "ARCHFIND_TEST_RAN"
PLAIN, NET = "team/plain", "team/net"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder: code, and two of its classes in the user's database."""
    folder = tmp_path_factory.mktemp("home")
    code = written(folder / "code")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setattr("archfind.database.user_folder.sys.platform", "linux")
        patch.setenv(RAN, "")
        Path("ran").unlink(missing_ok=True)  # other tests' modules of these names are theirs
        for name in ("nets", "blocks"):
            patch.delitem(sys.modules, name, raising=False)
        plain = '{"in_ch": 3, "width": 8, "depth": 2}'
        words = ["signatures", "learn", f"{code / 'nets.py'}:Plain", "--args", plain]
        assert main([*words, "--name", PLAIN]) == 0
        words = ["signatures", "learn", f"{code / 'nets.py'}:Net", "--args", '{"in_ch": 3}']
        assert main([*words, "--name", NET]) == 0
        # It was imported elsewhere, and what it wrote is gone with its folder.
        assert not os.environ[RAN] and "nets" not in sys.modules and not Path("ran").exists()
    return folder


@pytest.fixture(autouse=True)
def _user(home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.delenv("ARCHFIND_SIGNATURES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setattr("archfind.database.user_folder.sys.platform", "linux")
    monkeypatch.setenv(RAN, "")
    for name in ("nets", "blocks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    request.addfinalizer(lambda: Path("ran").unlink(missing_ok=True))


def stranger(home: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Another user, who merged this one's signatures and learnt nothing."""
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    assert main(["signatures", "add", str(home / "data" / "archfind" / "signatures")]) == 0
    return folder / "archfind" / "signatures"


def test_a_class_is_named_without_its_code_and_built_with_it(tmp_path: Path) -> None:
    module = network("Plain", 3, width=8, depth=2)
    guess = archfind.guess(saved(tmp_path / "a.pth", module))
    match = guess.matches[0]
    assert (guess.status, match.entry.id, match.entry.cls) == ("exact", PLAIN, "nets.Plain")
    assert dict(match.entry.fixed) == {"in_ch": 3, "width": 8, "depth": 2}
    assert not os.environ[RAN] and "nets" not in sys.modules
    loaded = archfind.load(guess)  # learnt on this machine: no word more is asked
    assert os.environ[RAN]
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(image), module(image))


def test_other_arguments_are_solved_and_what_no_tensor_shows_is_assumed(tmp_path: Path) -> None:
    image = torch.randn(2, 1, 16, 16)
    wide = network("Plain", 1, width=20, depth=3)
    guess = archfind.guess(saved(tmp_path / "wide.pth", wide))
    config = {
        name: (setting.value, setting.source) for name, setting in guess.matches[0].config.items()
    }
    assert config == {"in_ch": (1, "shape"), "width": (20, "shape"), "depth": (3, "shape")}
    assert guess.status == "exact"  # each of its arguments is seen
    assert torch.equal(archfind.load(guess)(image), wide(image))

    other = network("Net", 1, depth=2, width=12, classes=4, act=1)
    path = saved(tmp_path / "other.pth", other)
    guess = archfind.guess(path)
    best = guess.matches[0]
    assert (guess.status, best.entry.id) == ("ambiguous", NET)
    assert [(item.place, item.value) for item in best.assumed] == [("act", 0)]
    told = archfind.guess(path, settings={"act": 1})
    assert told.status == "exact"
    assert torch.equal(archfind.load(told)(image), other(image))


def test_what_is_mended_is_of_the_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "a.pth", network("Plain", 3, width=8, depth=2))
    assert main(["guess", "--json", str(path)]) == 0
    document = json.loads(capsys.readouterr().out)
    kwargs = {"in_ch": 3, "width": 8, "depth": 2}
    assert document["build"] == {"callable": "nets.Plain", "args": [], "kwargs": kwargs}
    state = torch.load(path)
    torch.save({**state, "stray.weight": torch.zeros(3)}, tmp_path / "stray.pth")
    mended = tmp_path / "mended.safetensors"
    assert main(["repair", str(tmp_path / "stray.pth"), "-o", str(mended)]) == 0
    assert archfind.guess(mended).matches[0].entry.id == PLAIN


def test_a_strangers_signature_imports_nothing_unless_it_is_trusted(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = stranger(home, monkeypatch, tmp_path / "theirs")
    monkeypatch.setenv("PYTHONPATH", str(home / "code"))
    path = saved(tmp_path / "a.pth", network("Plain", 3, width=8, depth=2))
    script = (
        "import sys, warnings\n"
        "seen = []\n"
        "def look(event, args):\n"
        "    name = str(args[0]) if event == 'open' else ''\n"
        "    if 'nets.' in name or 'blocks.' in name:\n"
        "        seen.append(name)\n"
        "sys.addaudithook(look)\n"
        "import archfind\nfrom archfind.cli import main\n"
        "path, place = sys.argv[1:]\n"
        "guess = archfind.guess(path)\n"
        f"assert guess.status == 'exact' and guess.matches[0].entry.id == {PLAIN!r}\n"
        "def written(path, **options): archfind.export(path, path + '.onnx', **options)\n"
        "for options in ({}, {'signatures': place}):\n"
        "    for use in (archfind.load, archfind.build, written):\n"
        "        try:\n"
        "            use(path, **options)\n"
        "        except archfind.ArchfindError as error:\n"
        "            assert '--trust' in str(error), error\n"
        "        else:\n"
        "            raise SystemExit('built')\n"
        "assert main(['export', path, path + '.onnx']) == 2\n"
        "archfind.repair.plan(path)\n"
        "assert not seen and 'nets' not in sys.modules, seen\n"
        "module = archfind.load(path, trust=True)\n"
        "assert type(module).__name__ == 'Plain' and seen\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(place)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_a_learnt_class_with_anothers_words_is_a_strangers(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learnt is the whole of a signature: another's arguments, lines or rules for the same
    class are theirs, though that class was imported here."""
    text = (home / "data" / "archfind" / "signatures" / "team" / "plain.txt").read_text()
    assert '"depth": 2' in text and "options" in text
    path = saved(tmp_path / "a.pth", network("Plain", 3, width=8, depth=2))
    forged = {
        "arguments": text.replace('"in_ch": 3', '"in_ch": "/etc"'),
        "rules": text.replace("leaf    in_ch 3 options [", 'leaf    in_ch 3 options ["/etc", '),
    }
    for name, other in forged.items():
        assert other != text
        place = tmp_path / name
        place.mkdir()
        (place / "plain.txt").write_text(other)
        with pytest.raises(ArchfindError, match=r"--trust|not a signature|other tensors"):
            guess = archfind.guess(path, signatures=str(place))
            assert guess.matches[0].entry.id == PLAIN, guess.warnings
            archfind.load(guess)
        assert not os.environ[RAN]


def test_classes_that_fit_equally_are_both_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = stranger(home, monkeypatch, tmp_path / "two")
    text = (place / "team" / "plain.txt").read_text()
    twin = text.replace(PLAIN, "other/twin").replace("nets.Plain", "blocks.Twin")
    (place / "twin.txt").write_text(twin)
    path = saved(tmp_path / "a.pth", network("Plain", 3, width=8, depth=2))
    guess = archfind.guess(path)
    twins = {f"{twin.provider}/{twin.architecture}" for twin in guess.matches[0].twins}
    assert (guess.status, guess.is_named) == ("ambiguous", False)
    assert {guess.matches[0].entry.id, *twins} == {PLAIN, "other/twin"}
    assert archfind.guess(path, choose=PLAIN).status == "exact"
    with pytest.raises(archfind.AmbiguousError):
        archfind.load(path, trust=True)


def test_a_record_beside_a_class_is_no_rival_of_it(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger(home, monkeypatch, tmp_path / "more")
    path = saved(tmp_path / "a.pth", network("Plain", 3, width=8, depth=2))
    assert main(["signatures", "learn", "--from", str(path), "--name", "a/record"]) == 0
    guess = archfind.guess(path)
    assert (guess.status, guess.matches[0].entry.id) == ("exact", PLAIN)
    with pytest.raises(ArchfindError, match="record of keys and shapes"):
        archfind.load(path, choose="a/record")


WRONG = {
    "nets.py": "is no PACKAGE.MODULE:CLASS",
    "none.py:Net": "no such file",
    "no.such.module:Net": "no Python file of a module no.such.module",
}


@pytest.mark.parametrize("target", WRONG)
def test_what_cant_be_learnt_is_said_in_one_line(
    target: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SignatureError, CodeError)) as caught:
        signature_of(target, "team/x")
    assert WRONG[target] in str(caught.value) and "\n" not in str(caught.value)


def test_arguments_that_are_wanted_are_named() -> None:
    names: dict[str, type] = {}
    exec(BLOCKS, names)
    with pytest.raises(SignatureError, match=r'it wants more arguments: --args .\{"width"'):
        said_of(names["Block"], "blocks.Block", "team/block", {}, 1.0)


def test_arguments_are_an_object_of_json() -> None:
    for wrong in ("width=3", "[1]", '{"a b": 1}', "[" * 100_000):
        with pytest.raises(SignatureError, match="--args"):
            signature_of(f"{__file__}:Net", "team/x", wrong)


def test_modules_are_located_without_importing_them(tmp_path: Path) -> None:
    (tmp_path / "apackage" / "inner").mkdir(parents=True)
    (tmp_path / "apackage" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "apackage" / "inner" / "nets.py").write_text(BLOCKS + NETS)
    found = located("apackage.inner.nets", (str(tmp_path),))
    assert found == str(tmp_path / "apackage" / "inner" / "nets.py")
    assert "apackage" not in sys.modules
    for name in ("apackage.none", "apackage.inner", "sys"):
        with pytest.raises(CodeError):
            located(name, (str(tmp_path),))
