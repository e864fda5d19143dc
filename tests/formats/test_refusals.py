"""What is not a checkpoint, or no longer a whole one: one line that says what and what to do."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_torch import assert_tensors

from archfind import formats
from archfind.errors import ArchfindError, CheckpointError, NotACheckpoint, NoTensors, Truncated
from archfind.escape import escape
from archfind.formats.source import ByteSource

STATE = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.ones(3)}


def written(**options: object) -> bytes:
    file = io.BytesIO()
    torch.save(STATE, file, **options)
    return file.getvalue()


ZIP = written()
LEGACY = written(_use_new_zipfile_serialization=False)
SAFE = safetensors.torch.save(STATE)
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 98000000\n"
)

BAD: list[tuple[str, bytes, type[ArchfindError], str]] = [
    (
        "page.pth",
        b"<!DOCTYPE html>\n<html><head><title>Sign in</title>",
        NotACheckpoint,
        'a web page (starts with "<!DOCTYPE html>"), not a checkpoint: the download failed or '
        "needs a login. Download it again.",
    ),
    (
        "drive.pth",
        b"<html><title>Google Drive - Virus scan warning",
        NotACheckpoint,
        "Google Drive",
    ),
    ("x.pth", b"<?xml version='1.0'?><Error><Code>AccessDenied", NotACheckpoint, "an XML text"),
    (
        "lfs.bin",
        POINTER,
        NotACheckpoint,
        "a Git LFS pointer (133 bytes); the real file is 98 MB. Run: git lfs pull",
    ),
    ("empty.pth", b"", NotACheckpoint, "is empty (0 bytes)"),
    ("zeros.pth", b"\0" * 10_000, NotACheckpoint, "all zeros: an unfinished download"),
    ("half.pth", b"\0" * 5_000 + b"x" * 5_000, NotACheckpoint, "starts with zeros"),
    ("cut.pth", ZIP[: len(ZIP) // 2], Truncated, f"missing after {len(ZIP) // 2:,} bytes"),
    ("cut.pt", LEGACY[:-20], Truncated, f"the file has {len(LEGACY) - 20:,}"),
    ("cut2.pt", LEGACY[:300], Truncated, "ends in the middle"),
    ("cut.safetensors", SAFE[:-20], Truncated, f"the file has {len(SAFE) - 20:,}"),
    ("notes.pth", b"just some notes\nof mine\n", NotACheckpoint, 'starts with "just some notes"'),
    ("venv.pth", b"import _virtualenv\n", NotACheckpoint, "a Python path file"),
    ("config.json", b'{"hidden_size": 768}', NotACheckpoint, "a JSON text"),
    ("e.bin", b'{"error":"Repository not found"}', NotACheckpoint, "an error message"),
    ("e.bin", b"Entry not found", NotACheckpoint, "an error message"),
    ("list.pth", pickle.dumps(["a"] * 12), NoTensors, "the pickle holds a list of 12 str"),
    ("d.pkl", pickle.dumps({"lr": 1}), NoTensors, "the pickle holds a dict of 1 entry (lr)"),
    ("d.pkl", pickle.dumps({"lr": 1}, 0), NoTensors, "the pickle holds a dict of 1 entry (lr)"),
    ("o.pkl", pickle.dumps(io.UnsupportedOperation()), NoTensors, "class io.UnsupportedOperation"),
    ("w.gz", gzip.compress(ZIP), NotACheckpoint, "is gzip-compressed; unpack it first"),
    ("w.bz2", bz2.compress(ZIP), NotACheckpoint, "is bzip2-compressed"),
    ("w.xz", lzma.compress(ZIP), NotACheckpoint, "is xz-compressed"),
    ("w.7z", b"7z\xbc\xaf\x27\x1c" + b"\0" * 90, NotACheckpoint, "a 7z archive"),
    ("cat.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 90, NotACheckpoint, "an image (PNG)"),
    ("cat.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 90, NotACheckpoint, "an image (JPEG)"),
    ("w.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 90, NotACheckpoint, "an HDF5 file"),
    ("w.gguf", b"GGUF\x03\0\0\0" + b"\0" * 90, NoTensors, "a GGUF file"),
    ("w.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 90, NotACheckpoint, "a TFLite model"),
    ("a.out", b"\x7fELF\x02\x01\x01" + b"\0" * 90, NotACheckpoint, "(ELF)"),
    ("w.npy", b"\x93NUMPY\x01\0" + b"\0" * 90, NotACheckpoint, "numpy header"),
    ("noise", bytes(range(255, 100, -1)) * 9, NotACheckpoint, "not a checkpoint of a known format"),
    ("esc.pth", b"hi \x1b[31m\xe2\x80\xae there\n", NotACheckpoint, "not a checkpoint"),
]


@pytest.mark.parametrize(
    ("name", "data", "kind", "words"), BAD, ids=[f"{i}-{one[0]}" for i, one in enumerate(BAD)]
)
def test_bad_input(
    tmp_path: Path, name: str, data: bytes, kind: type[ArchfindError], words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(kind) as caught:
        formats.open(path)
    error = caught.value
    assert type(error) is kind
    assert words in str(error) and error.path == str(path)
    assert str(error).startswith(f"{path}: ")
    assert "\n" not in str(error) and "\x1b" not in str(error) and "\u202e" not in str(error)
    assert "can't be followed" not in str(error)


BROKEN = Path(__file__).parent / "broken"


def test_broken_files_as_they_were_met() -> None:
    """broken/ holds small literal files; manifest.toml has the exact message of each."""
    import tomllib

    manifest = tomllib.loads((BROKEN / "manifest.toml").read_text())
    names = {one.name for one in BROKEN.iterdir()} - {"manifest.toml"}
    assert names == set(manifest)
    for name, expected in manifest.items():
        with pytest.raises(CheckpointError) as caught:
            formats.open(BROKEN / name)
        assert type(caught.value).__name__ == expected["error"]
        assert caught.value.message == expected["message"], name


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint, match="is a folder: give a file, or a folder's model"):
        formats.open(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        formats.open(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="null byte"):
        formats.open("a\0b")
    with pytest.raises(CheckpointError, match="name too long"):
        formats.open("x" * 5000)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CheckpointError, match="symbolic links"):
        formats.open(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotACheckpoint, match="is not a regular file"):
        formats.open(tmp_path / "fifo")
    with pytest.raises(NotACheckpoint, match="is not a regular file"):
        formats.open("/dev/zero")
    (tmp_path / "real.pth").write_bytes(ZIP)
    (tmp_path / "link.pth").symlink_to("real.pth")
    assert formats.open(tmp_path / "link.pth").path == str(tmp_path / "link.pth")
    assert formats.open(str(tmp_path / "real.pth")).index.keys() == STATE.keys()
    if os.geteuid() != 0:
        (tmp_path / "real.pth").chmod(0)
        with pytest.raises(CheckpointError, match="permission denied"):
            formats.open(tmp_path / "real.pth")


def test_no_file_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    before = len(os.listdir("/proc/self/fd"))
    for data in (ZIP, ZIP[:200], b"", b"text", SAFE, LEGACY):
        path.write_bytes(data)
        with contextlib.suppress(ArchfindError):
            formats.open(path)
    (tmp_path / "y.pth").write_bytes(ZIP)  # a folder of two checkpoints could be either
    with pytest.raises(ArchfindError):
        formats.open(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


# --- damage ---


def outcome(path: Path) -> dict[str, object] | None:
    """The shapes, or None for a refusal; anything but an ArchfindError fails the test.

    This goes past the net in `formats.open`, which would hide a reader's own mistakes.
    """
    with ByteSource(str(path)) as source:
        try:
            found = formats._read(source)
        except ArchfindError as error:
            assert "\n" not in str(error)
            return None
    return {key: (spec.dtype, spec.shape) for key, spec in found.index.items()}


def onnx_bytes() -> bytes:
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper

    tensors = [numpy_helper.from_array(value.numpy(), key) for key, value in STATE.items()]
    graph = onnx.helper.make_graph([], "g", [], [], tensors)
    return onnx.helper.make_model(graph).SerializeToString()


def tar_bytes(tmp_path: Path) -> bytes:
    from test_tar import old_tar

    old_tar(tmp_path / "t")
    return (tmp_path / "t").read_bytes()


def script_bytes() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


def small_files(tmp_path: Path) -> dict[str, bytes]:
    return {
        "zip": ZIP,
        "legacy": LEGACY,
        "safetensors": SAFE,
        "onnx": onnx_bytes(),
        "tar": tar_bytes(tmp_path),
        "script": script_bytes(),
        "index": b'{"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}',
        "pickle": pickle.dumps({"a": [1, 2.5, "x"], "b": (None, {1, 2})}, 4),
    }


KINDS = ["zip", "legacy", "safetensors", "onnx", "tar", "script", "index", "pickle"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation(tmp_path: Path, kind: str) -> None:
    data = small_files(tmp_path)[kind]
    path = tmp_path / "cut"
    whole = None
    if kind not in ("index", "pickle"):
        path.write_bytes(data)
        whole = outcome(path)
        assert whole
    step = 1 if len(data) < 1000 else 7 if len(data) < 5000 else 31
    for length in range(0, len(data), step):
        path.write_bytes(data[:length])
        found = outcome(path)
        # zeros at the end of a tar, and of an ONNX file its last whole fields, can be spared
        assert found is None or (kind in ("tar", "onnx") and found == whole), length


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes(tmp_path: Path, kind: str) -> None:
    data = bytearray(small_files(tmp_path)[kind])
    path = tmp_path / "flipped"
    step = max(1, len(data) // 400)
    for at in range(0, len(data), step):
        for bit in (0x01, 0x10, 0x80, 0xFF):
            data[at] ^= bit
            path.write_bytes(data)
            outcome(path)
            data[at] ^= bit


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_spliced_files(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    base = tmp_path_factory.getbasetemp()
    whole = data.draw(st.sampled_from([ZIP, LEGACY, SAFE]))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    changed = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    path = base / "spliced"
    path.write_bytes(changed)
    outcome(path)


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x08\x07", b"("])
)
@settings(max_examples=400, deadline=None)
def test_noise(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(start + data)
    assert outcome(path) is None


# --- round trips ---

names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8
) | st.sampled_from(["a.weight", "a/b", "a~b", "~1", "weight"])
shapes = st.lists(st.integers(0, 4), max_size=4)
dtypes = st.sampled_from(
    [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
tensors = st.builds(lambda shape, dtype: torch.ones(shape).to(dtype), shapes, dtypes)
trees = st.dictionaries(
    names,
    st.recursive(
        tensors | st.integers(-5, 5) | st.text(max_size=5),
        lambda inner: st.dictionaries(names, inner, max_size=3) | st.lists(inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)


def flat(value: object, pointer: str = "") -> dict[str, torch.Tensor]:
    """The slow and plain way, to check the fast one against."""
    if isinstance(value, torch.Tensor):
        return {pointer: value}
    found: dict[str, torch.Tensor] = {}
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in items:
        name = str(key).replace("~", "~0").replace("/", "~1")
        found |= flat(one, f"{pointer}/{name}" if pointer else name)
    return found


@given(trees, st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nested_round_trip(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object], zipped: bool
) -> None:
    expected = flat(tree)
    assume(expected)
    path = tmp_path_factory.getbasetemp() / "tree.pt"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    assert_tensors(formats.open(path), expected)


@given(st.dictionaries(names, tensors, min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_safetensors_round_trip(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path_factory.getbasetemp() / "state.safetensors"
    assume("__metadata__" not in state)
    safetensors.torch.save_file(state, path)
    found = formats.open(path)
    assert_tensors(found, {key: state[key] for key in found.index})
    assert set(found.index) == set(state)


@given(st.text())
def test_escape_leaves_nothing_unseen(text: str) -> None:
    import unicodedata

    found = escape(text)
    assert len(found) <= 200 * 10 + 3
    for char in found:
        assert unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(char) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI")
    if text.isascii() and text.isprintable() and len(text) <= 200:
        assert found == text


def test_escape() -> None:
    assert escape("a\n\x1b\x7f\x9b") == "a\\x0a\\x1b\\x7f\\x9b"
    assert escape("\u202e\u200b\ud800") == "\\u202e\\u200b\\ud800"
    assert escape("é漢") == "é漢"
    assert escape("x" * 300) == "x" * 200 + "..."


# --- what opening a file may do to the process ---

AUDIT = """
import sys
sys.path.insert(0, sys.argv[1])
import archfind.formats as formats
opened, bad = set(), []
def hook(event, args):
    if event == "open":
        opened.add(str(args[0]))
    if event in ("exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class") or (
        event.startswith("socket.")
    ):
        bad.append((event, str(args)[:100]))
for path in sys.argv[2:]:
    formats.open(path)  # imports the readers
sys.addaudithook(hook)
for path in sys.argv[2:]:
    assert formats.open(path).index
assert not bad, bad
assert opened == set(sys.argv[2:]), opened
heavy = {"torch", "numpy", "zipfile", "tarfile", "pickle", "pickletools", "pathlib", "hashlib",
         "shutil", "tempfile", "typing"} & set(sys.modules)
print(sorted(heavy))
"""


def test_only_the_named_file_is_opened_and_nothing_run(tmp_path: Path) -> None:
    paths = []
    for kind, data in small_files(tmp_path).items():
        if kind not in ("index", "pickle"):
            (tmp_path / kind).write_bytes(data)
            paths.append(str(tmp_path / kind))
    root = str(Path(formats.__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", AUDIT, root, *paths],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_the_same_answer_under_another_name_and_hash_seed(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(ZIP)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import archfind.formats as f\n"
        "c = f.open(sys.argv[2]); print(c.index, c.metadata, c.foreign, c.danger)"
    )
    root = str(Path(formats.__file__).parents[2])
    answers = {
        subprocess.run(
            [sys.executable, "-S", "-c", code, root, "a.pth"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "LC_ALL": "C", "PATH": os.environ["PATH"]},
        ).stdout
        for seed in ("0", "1")
    }
    assert len(answers) == 1


def test_no_reader_imports_what_could_run_a_file() -> None:
    import ast

    banned = {"pickle", "_pickle", "torch", "numpy", "marshal", "shelve", "runpy", "subprocess"}
    calls = {"eval", "exec", "compile", "__import__", "Unpickler", "find_class"}
    for path in Path(formats.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not banned & {one.name.split(".")[0] for one in node.names}, path
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] not in banned, path
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in calls, (path, node.func.id)
