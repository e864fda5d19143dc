"""Imports point one way, and `archfind guess` stays light and runs nothing from a file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import archfind

ROOT = Path(archfind.__file__).parent
# Each layer may import those before it.
LAYERS = [
    {"escape"},
    {"errors", "frozen", "ordinary", "streams", "usual_arguments", "work"},
    {"types", "progress"},
    {"formats", "signature", "key_names", "key_trees"},
    {"quantised", "writing", "key_rules"},
    {"canonical", "grouping", "database", "recipe", "alignment", "own_errors"},
    {"compile_index", "counted", "older_names"},
    {"families"},
    {"training", "uses", "expansion"},
    {"shortlist", "match", "evidence", "inspection", "inspection_text", "providers"},
    {"render_assumed", "render_parts", "render_pretrained", "render_said"},
    {"render_unknown"},
    {"head_functions", "variant_assumptions"},
    {
        "head_layers",
        "head_assumptions",
        "parts",
        "resized",
        "torch_quantised",
        "rebuild_head",
        "renamed",
        "storage_bound",
    },
    {"heads"},
    {"assumed", "nearest", "variants", "pretrained"},
    {
        "by_origin",
        "own_exports",
        "told",
        "quantised_values",
        "resize_layers",
        "older_values",
        "variant_heads",
    },
    {"decided", "wrapper"},
    {"renamed_guess"},
    {"larger_net"},
    {"identify", "harvest", "tensors"},
    {"probing"},
    {"claimed_size", "rebuild_quantised"},
    {"config_probing", "from_config"},
    {"attempt", "attempt_configured", "instantiate"},
    {"doubt", "search_configured", "search_heads"},
    {"search"},
    {"check", "twins", "render"},
    {"exporters", "database_commands", "demo"},
    {"from_onnx"},
    {"pipeline"},
    {"repair"},
    {"render_repair"},
    {"", "cli", "onnx"},
    {"__main__"},
]
HEAVY = {"torch", "torchvision", "timm", "numpy", "sklearn", "networkx", "onnx", "safetensors"}


def _layer(module: str) -> int:
    top = module.partition(".")[0]
    found = [level for level, names in enumerate(LAYERS) if top in names]
    assert found, f"archfind.{module} stands in no layer"
    return found[0]


def _name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    package = _name(path).split(".") if path.name == "__init__.py" else _name(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ["archfind", *base] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def test_imports_point_one_way() -> None:
    for path in ROOT.rglob("*.py"):
        own = _name(path)
        for name in _imports(path):
            if name.startswith("archfind."):
                target = name.removeprefix("archfind.")
                if (
                    not (ROOT / target.partition(".")[0]).exists()
                    and not (ROOT / f"{target.partition('.')[0]}.py").exists()
                ):
                    continue  # a name of the package itself: only the command line uses those
                same = own.partition(".")[0] == target.partition(".")[0]
                assert same or _layer(target) < _layer(own), f"{own} imports {target}"


def test_light_modules_never_import_heavy_ones() -> None:
    for path in ROOT.rglob("*.py"):
        if _name(path) == "" or _layer(_name(path)) <= _layer("inspection"):
            if _name(path).startswith("providers"):
                continue
            heavy = {name.partition(".")[0] for name in _imports(path)} & HEAVY
            typed = path.read_text().partition("TYPE_CHECKING:")[2]
            assert all(f"from {h} " in typed or f"from {h}." in typed for h in heavy), path


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
