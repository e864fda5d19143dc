"""Imports point one way, and `archfind guess` stays light and runs nothing from a file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import archfind

pytestmark = pytest.mark.light

ROOT = Path(archfind.__file__).parent
# The rooms of archfind/, from the ground up: each may import itself and those before it.
LIGHT = tuple(
    """formats writing state_dicts classes database codebase evidence sourcing matching report
    scan""".split()
)
ROOMS = (
    *LIGHT,
    "evidence.weights",  # statistics of values, some of which need numpy
    *"values providers probing trusted learning building searching exporters".split(),
    *"from_onnx repair demo".split(),
)
GROUND = frozenset(
    "dtypes errors escape frozen internal_errors progress steps streams types version work".split()
)  # directly in archfind/
PIPELINE = "pipeline"  # a file directly in archfind/, too: repair and the demo are built on it
ABOVE_PIPELINE = ("repair", "demo")
FACE = frozenset(("", "cli", "onnx", "__main__"))
FOLDERS = frozenset(("types", "cli"))  # of the ground and of the face
# Within formats/: pickles and archives know no other folder, a reader of many files knows all.
SHELVES = ("pickles", "archives", "torch_files", "many_files")
BACK = {("torch_files.bare_pickle", "many_files.dcp")}  # a pickle that is DCP's .metadata
HEAVY = frozenset(
    """torch torchvision torchaudio timm transformers spandrel spandrel_extra_arches diffusers numpy
    scipy sklearn networkx onnx onnx2torch onnxruntime onnxscript safetensors PIL""".split()
)
# Late imports of these in the light core, and why.
LATE = {
    "writing.target": frozenset({"onnx"})  # its newest opset, where an export names a newer one
}


def _name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def _room(module: str) -> str:
    top, dot, _ = module.partition(".")
    if module.startswith("evidence.weights"):
        return "evidence.weights"
    if top in ROOMS:
        return top
    assert not dot or top in FOLDERS, f"archfind.{module} stands in no room"
    if module == PIPELINE:
        return PIPELINE
    module = top if top in FOLDERS else module
    assert module in GROUND | FACE, f"archfind/{module}.py belongs into a room"
    return "face" if module in FACE else "ground"


def _imports(path: Path, typed: bool = True) -> set[str]:
    """What a file imports, at any depth, as dotted names ("archfind.types.Guess"), what only a type
    checker sees with it or not."""
    found: set[str] = set()
    package = _name(path).split(".") if path.name == "__init__.py" else _name(path).split(".")[:-1]

    def look(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ["archfind", *base] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typed:
            return
        for child in ast.iter_child_nodes(node):
            look(child)

    look(ast.parse(path.read_text()))
    return found


def _module(name: str) -> str | None:
    """The module of archfind that a dotted name is, or is in; None for others."""
    if name != "archfind" and not name.startswith("archfind."):
        return None
    parts = name.split(".")[1:]
    while ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts)


def _arrows() -> Iterator[tuple[str, str]]:
    for own, path in MODULES.items():
        for name in sorted(_imports(path)):
            target = _module(name)
            if target is not None:
                yield own, target


def test_each_room_imports_only_rooms_below_it() -> None:
    below = [room for room in ROOMS if room not in ABOVE_PIPELINE]
    rooms = "ground", *below, PIPELINE, *ABOVE_PIPELINE, "face"
    order = {room: place for place, room in enumerate(rooms)}
    for own, target in _arrows():
        assert order[_room(target)] <= order[_room(own)], f"{own} imports {target}"


def test_each_shelf_of_formats_imports_only_shelves_before_it() -> None:
    back: set[tuple[str, str]] = set()
    for own, target in _arrows():
        places = [one.split(".")[1] for one in (own, target) if one.startswith("formats.")]
        if len(places) == 2 and set(places) <= set(SHELVES):
            before, after = map(SHELVES.index, places)
            if before < after or (after == 0 == before - 1):  # archives know no pickles
                back.add((own.partition(".")[2], target.partition(".")[2]))
    assert back == BACK


def test_every_folder_is_a_room() -> None:
    folders = {path.name for path in ROOT.iterdir() if any(path.glob("**/*.py"))}
    assert folders - FOLDERS == {room.partition(".")[0] for room in ROOMS}


def test_the_light_core_never_imports_heavy_libraries() -> None:
    """At no depth: a browser and a scanner's workers have these rooms and Python alone."""
    late: dict[str, frozenset[str]] = {}
    for own, path in MODULES.items():
        if _room(own) in (*LIGHT, "ground"):
            heavy = {name.partition(".")[0] for name in _imports(path, typed=False)} & HEAVY
            if heavy:
                late[own] = frozenset(heavy)
    assert late == LATE


def test_the_light_core_imports_without_any_library() -> None:
    names = [f"archfind.{own}" for own in MODULES if _room(own) in (*LIGHT, "ground")]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(HEAVY)!r}))\n"
        f"from importlib import import_module\nfor name in {names!r}: import_module(name)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT.parent)},
    )
    assert done.returncode == 0, done.stderr


def test_guess_leaves_heavy_libraries_out(mobilenet: Path) -> None:
    script = (
        "import sys; from archfind.cli import main; code = main(['guess', sys.argv[1]]);"
        f"loaded = {HEAVY!r} & set(sys.modules); assert not loaded, loaded;"
        "assert 'dataclasses' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(mobilenet)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_nothing_that_runs_what_a_file_holds_is_ever_named() -> None:
    banned = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "runpy", "code"}
    calls = {"eval", "exec", "compile", "__import__"}
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not {name.partition(".")[0] for name in _imports(path)} & banned, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in calls, f"{path}: {node.func.id}"
            if isinstance(node, ast.Attribute) and node.attr == "load":
                owner = ast.unparse(node.value)
                trusted = path.name == "program.py" and owner == "torch.jit"  # export --trust
                banned_owners = ("torch", "torch.jit", "numpy", "np")
                assert trusted or owner not in banned_owners, f"{path}: {owner}.load"
