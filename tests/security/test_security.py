"""The promises of docs/security.md that a single file can't show."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hostile.build import entry, mapping, pickled, tensor, torch_zip
from hostile.build import safetensors as safe_bytes
from hypothesis import given
from hypothesis import strategies as st
from test_hostile import assert_clean

import archfind
from archfind import formats
from archfind.cli import main
from archfind.errors import CheckpointError
from archfind.formats.source import ByteSource

ROOT = Path(archfind.__file__).parent
STATE = {"conv.weight": torch.ones(2, 3, 1, 1), "conv.bias": torch.zeros(2)}

# Watches a cold start: what is imported by `archfind` itself is the first command's business, what
# a file could cause is not.
WATCHED = """
import sys
events = []
watched = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.remove",
           "os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
           "subprocess", "socket", "pickle", "ctypes", "shutil", "tempfile", "urllib")
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        name = args[0] if isinstance(args[0], str) else args[0].decode()
        events.append(("open", name, str(args[1]), int(args[2] or 0)))
    elif event == "import":
        events.append(("import", args[0], "", 0))
    elif event in ("exec", "compile"):
        code = args[0] if event == "exec" else args[1]
        name = str(getattr(code, "co_filename", code))
        if name == "<string>":  # a named tuple of the standard library
            name = sys._getframe(1).f_code.co_filename
        events.append((event, name, "", 0))
    elif event.startswith(watched):
        events.append((event, repr(args), "", 0))
sys.addaudithook(hook)
from archfind.cli import main
try:
    code = main(sys.argv[1:])
finally:
    seen, events = events, []
    import json
    sys.stderr.write("EVENTS" + json.dumps(seen))
"""


def watched(arguments: list[str], cwd: Path) -> list[tuple[str, str, str, int]]:
    """Every audit event of a cold `archfind`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert "EVENTS" in done.stderr, done.stderr
    return [tuple(one) for one in json.loads(done.stderr.partition("EVENTS")[2])]


def files(folder: Path) -> dict[str, tuple[list[str], list[Path]]]:
    """Arguments, and the files that they may open."""
    torch.save({"state_dict": STATE}, folder / "a.pth")
    torch.save(STATE, folder / "b.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(STATE, folder / "c.safetensors")
    (folder / "shards").mkdir()
    parts = {f"m-0000{i}-of-00002.safetensors": {k: STATE[k]} for i, k in enumerate(STATE, 1)}
    for name, part in parts.items():
        safetensors.torch.save_file(part, folder / "shards" / name)
    index = folder / "shards" / "m.safetensors.index.json"
    weights = {key: name for name, part in parts.items() for key in part}
    index.write_text(json.dumps({"weight_map": weights}))
    (folder / "shards" / "other.safetensors").write_bytes(b"not declared")
    (folder / "evil.pth").write_bytes(torch_zip(pickled(mapping(w=tensor()) + b"cos\nsystem\n0")))
    one = {name: ([str(folder / name)], [folder / name]) for name in ("a.pth", "b.pt", "evil.pth")}
    one["c.safetensors"] = ([str(folder / "c.safetensors")], [folder / "c.safetensors"])
    shards = [folder / "shards" / name for name in parts]
    one["shards"] = ([str(index)], [index, *shards])
    return one


@pytest.mark.parametrize("command", ["guess", "inspect"])
def test_only_the_named_files_are_opened_and_nothing_else_happens(
    tmp_path: Path, command: str
) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    standard = (os.path.dirname(os.__file__), sys.prefix, sys.base_prefix, str(ROOT))
    signatures = str(ROOT.parent / "signatures")
    for arguments, allowed in files(tmp_path).values():
        names = {str(path) for path in allowed}
        opened = set()
        for event, what, mode, flags in watched([command, *arguments], cwd):
            if event == "open":
                assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), what
                assert not set(mode) & set("wax+") or mode == "None", what
                if what in names:
                    opened.add(what)
                else:
                    assert os.path.abspath(what).startswith((*standard, signatures)), what
            elif event == "import":
                top = what.partition(".")[0]
                assert top == "archfind" or top in sys.stdlib_module_names, what
            elif event in ("exec", "compile"):
                assert what.startswith(("<frozen ", *standard)), what
            else:
                raise AssertionError(f"{event} {what}")
        assert opened == names
    assert list(cwd.iterdir()) == []


def test_a_reader_that_fails_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no second, looser way: where the one reader raises, no other is called."""
    paths = {one: arguments[0] for one, (arguments, _) in files(tmp_path).items()}
    wanted = {
        "a.pth": "torch_files.torch_zip",
        "b.pt": "torch_files.torch_legacy",
        "c.safetensors": "safetensors",
        "shards": "many_files.sharded",
    }
    called: list[str] = []
    raised: list[Exception] = []
    monkeypatch.setattr(torch, "load", lambda *_, **__: called.append("torch.load"))
    for one in {module for _, _, module in formats.FORMATS}:

        def failing(*_: object, one: str = one) -> None:
            called.append(one)
            raise raised[-1]

        monkeypatch.setattr(importlib.import_module(f"archfind.formats.{one}"), "read", failing)
    for name, module in wanted.items():
        for error in (CheckpointError("broken"), ValueError(), RecursionError(), MemoryError()):
            raised.append(error)
            called.clear()
            assert main(["inspect", paths[name]]) == 2
            assert called == [module]
            said = capsys.readouterr().err
            assert said.count("\n") == 1 and "Traceback" not in said


BANNED_MODULES = {
    "pickle", "_pickle", "cPickle", "pickletools", "copyreg", "dill", "cloudpickle", "joblib",
    "marshal", "shelve", "runpy", "code", "codeop", "imp", "ctypes", "socket", "urllib", "http",
    "requests", "ftplib", "webbrowser", "tarfile",
}  # fmt: skip
BANNED_CALLS = {"eval", "exec", "compile", "__import__", "execfile", "input", "breakpoint"}
BANNED_ATTRIBUTES = {
    "torch.load", "torch.jit.load", "torch.package", "torch.hub", "torch.export.load", "numpy.load",
    "np.load", "pickle.load", "pickle.loads", "os.system", "os.popen", "os.execv", "os.fork",
    "subprocess.run", "subprocess.Popen", "subprocess.call", "zipfile.ZipFile",
    "numpy.lib.format.read_array", "np.fromfile", "json.load",
}  # fmt: skip

# a copy of the process, to end what takes too long: no other program is run
COPIES = {"exporters/apart.py": {"os.fork"}, "trusted/confined.py": {"os.fork"}}
# what refuses connections while a library is learned
REFUSALS = {
    "providers/building.py": {"socket"},
    "trusted/confined.py": {
        "ctypes",
        "socket",
    },  # name spaces of the process apart, by the C library
}
# a wheel that a user names with --code: its Python files are read as text
WHEELS = {"codebase/files.py": {"zipfile.ZipFile"}}
# what --trust is for: tests/exporters/test_program.py and tests/trusted show that nothing else gets
# there
TRUSTED = {
    "exporters/program.py": {"torch.jit.load", "torch.export.load"},
    "trusted/asked.py": {"subprocess.Popen"},  # archfind itself, in a process apart
}


def test_no_module_of_archfind_can_run_what_a_file_holds() -> None:
    """Also import_module and getattr on names: only those of our own modules and of torch's
    dtypes, in places that are listed here."""
    named: list[str] = []
    for path in sorted(ROOT.rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                module = getattr(node, "module", None)
                tops = {one.partition(".")[0] for one in ([module] if module else names)}
                if not getattr(node, "level", 0):
                    banned = tops & BANNED_MODULES - REFUSALS.get(where, set())
                    assert not banned, f"{where} imports {banned}"
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name):
                    assert node.func.id not in BANNED_CALLS, f"{where} calls {node.func.id}"
                called = ast.unparse(node.func)
                if any(called in allowed.get(where, ()) for allowed in (TRUSTED, COPIES, WHEELS)):
                    continue
                assert called not in BANNED_ATTRIBUTES, f"{where} calls {called}"
                if called.endswith("import_module") and where.startswith("formats/"):
                    named.append(where)
    assert named == ["formats/__init__.py"]  # by the table of readers, no name is a file's


@pytest.mark.parametrize("command", ["guess", "inspect"])
def test_same_bytes_same_answer(tmp_path: Path, mobilenet: Path, command: str) -> None:
    """Whatever the seed of hashes, the locale, the installed packages or the file's name."""
    evil = tmp_path / "evil.pth"
    evil.write_bytes(torch_zip(pickled(mapping(w=tensor(), x=b"cos\nsystem\n)R"))))
    copy = tmp_path / "other.bin"
    copy.write_bytes(evil.read_bytes())

    def ran(path: Path, *flags: str, **environment: str) -> str:
        base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT.parent)}
        done = subprocess.run(
            [sys.executable, *flags, "-m", "archfind", command, "--json", str(path)],
            capture_output=True,
            text=True,
            env=base | environment,
            cwd=tmp_path,
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    for path in (evil, mobilenet):
        first = ran(path, PYTHONHASHSEED="0")
        assert first == ran(path, PYTHONHASHSEED="1", LC_ALL="C", LANG="C")
        assert first == ran(path, "-S", PYTHONHASHSEED="7", TZ="Asia/Tokyo")  # no site-packages
    renamed = json.loads(ran(copy)) | {"path": str(evil)}
    if "files" in renamed:
        renamed["files"] = [str(evil)]
    assert renamed == json.loads(ran(evil))


def test_tensor_data_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terabyte as safetensors, 4 GB as a stored zip member, and one deflated gigabyte."""
    size = 1 << 40
    sparse = tmp_path / "a.safetensors"
    data = safe_bytes({"w": entry((size // 4,), 0, size)}, b"")
    sparse.write_bytes(data)
    os.truncate(sparse, len(data) + size)
    deflated = tmp_path / "b.pth"
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        state = mapping(w=tensor(numel=1 << 28, size=(1 << 28,), stride=(1,)))
        archive.writestr("a/data.pkl", pickled(state))
        with archive.open("a/data/0", "w", force_zip64=True) as member:
            for _ in range(256):
                member.write(b"\0" * (4 << 20))
    count = 0
    plain = ByteSource._read

    def counted(self: ByteSource, start: int, length: int) -> bytes:
        nonlocal count
        count += length
        return plain(self, start, length)

    monkeypatch.setattr(ByteSource, "_read", counted)
    assert formats.open(sparse).index["w"].shape == (size // 4,)
    assert formats.open(deflated).index["w"].shape == (1 << 28,)
    assert count < 500_000


def test_arguments_cannot_write_to_the_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    """`archfind guess *` in a folder where a file is called like an option."""
    for arguments in (["guess", "--\x1b[2J"], ["\x1b[2J"], ["guess", "--as\x1b[2J"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        said = capsys.readouterr()
        assert_clean(said.out.encode().decode("latin-1"), said.err.encode().decode("latin-1"))


@given(st.text(min_size=1, max_size=60))
def test_any_key_is_printed_clean(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    import contextlib
    import io

    path = tmp_path_factory.getbasetemp() / "key.pth"
    path.write_bytes(
        torch_zip(pickled(mapping(**{key: tensor(), key + "x": tensor("1", 3, 0, (3,), (1,))})))
    )
    for command in ("guess", "inspect"):
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main(
                [command, "-v", str(path)] if command == "guess" else [command, str(path)]
            ) in (0, 1)
        for stream in (out, err):
            stream.flush()
            assert_clean(stream.buffer.getvalue().decode("latin-1"))  # type: ignore[attr-defined]


def test_broken_files_name_their_danger_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"\x80\x02cos\nsystem\n)R\xff\xff.")
    assert main(["guess", "--json", str(path)]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["status"] is None
    assert document["danger"] == [
        "loading this file with torch.load would call os.system (the pickle, byte 14)"
    ]
    assert main(["inspect", "--fail-on-danger", str(path)]) == 3
