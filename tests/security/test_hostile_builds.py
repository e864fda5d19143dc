"""`load`, `export` and `repair` on files with payloads in every place that names code: nothing of
them runs, no socket is opened, and of files only those that were named, and their side files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnx
import pytest
import torch
from hostile import CASES
from hostile.build import PYTHON, SHELL
from safetensors.torch import save_file
from test_hostile import assert_clean
from test_side_files import build, task

import archfind
from archfind.cli import main
from archfind.from_onnx.recover import _said

DEMO = Path(archfind.__file__).parent / "demo" / "001.pth"
EVIL = f"__import__('os').system('{SHELL}')"
URL = "https://example.invalid/x"
ENTRY = "timm/test_efficientnet"
DANGEROUS = [case for case in CASES if case.danger and "bomb/" not in case.name]
COMMANDS = (["export", "o.safetensors"], ["repair", "-o", "o.safetensors"])
LOADED = 40  # of so many one is loaded: it is searched for, which takes seconds
LORA = {
    "base_model.model.conv.lora_A.weight": torch.ones(2, 4),
    "base_model.model.conv.lora_B.weight": torch.ones(4, 2),
}
# What an ONNX file may say that archfind exported: how to build the network.
# Each graph is traced several times, which takes long: two lies share a file.
VARIANTS: dict[str, dict[str, object]] = {
    "weights from elsewhere, classes by path": {
        "pretrained": True,
        "checkpoint_path": "/etc/passwd",
        "act_layer": "os.system",
        "norm_layer": EVIL,
    },
    "ten terabytes, no end of blocks": {
        "stem_size": 10_000_000,
        "num_features": 16_000_000,
        "block_args.0.#": 10**9,
        "in_chans": 10**15,
    },
}
SAID: dict[str, dict[str, object]] = {
    f"onnx: {name}": {
        "archfind.build": {"callable": "archfind.variant", "args": [ENTRY, moved]},
        "archfind.config": {"pretrained": {"value": True}, "weights": {"value": "DEFAULT"}},
    }
    for name, moved in VARIANTS.items()
}
SAID["onnx: another callable"] = {
    "archfind.build": {"callable": "os.system", "args": [SHELL], "kwargs": {}},
    "archfind.config": {"num_classes": {"value": 10**15}, "checkpoint_path": {"value": URL}},
    "archfind.architecture": EVIL,
}


def honest(base: Path) -> list[dict]:
    """Commands that make torch, the libraries and onnxruntime be there."""
    folder = base / "honest"
    folder.mkdir()
    graph, copy = str(folder / "a.onnx"), str(folder / "a.safetensors")
    every = (["load", str(DEMO)], ["export", str(DEMO), graph], ["load", graph],
             ["export", str(DEMO), copy], ["repair", copy])  # fmt: skip
    return [task(argv, folder, []) | {"honest": True} for argv in every]


def onnx_files(base: Path) -> list[tuple[str, list[str], list[Path]]]:
    graph = base / "honest.onnx"
    assert main(["export", str(DEMO), str(graph), "--force"]) == 0
    found = []
    for number, (name, said) in enumerate(SAID.items()):
        model = onnx.load(graph)
        for one in model.metadata_props:
            if one.key in said:
                value = said[one.key]
                one.value = value if isinstance(value, str) else json.dumps(value)
        path = base / f"g{number}.onnx"
        onnx.save(model, path)
        found.append((name, ["load", str(path)], [path]))
    return found


def side_files(base: Path) -> list[tuple[str, list[str], list[Path]]]:
    """Whatever else may stand beside weights: most of it is never opened."""
    folder = base / "beside"
    folder.mkdir()
    weights, adapter = folder / "model.safetensors", folder / "adapter_model.safetensors"
    said = {
        "format": "pt", "config": json.dumps({"auto_map": {"AutoModel": EVIL}}), "auto_map": EVIL,
        "modelspec.architecture": URL, "ss_network_module": "os.system", "archfind.tied": EVIL,
        "ss_network_alpha": "nan", "quantization_config": EVIL, "archfind.versions": '{"a": 1e999}',
    }  # fmt: skip
    state = archfind.load(DEMO).state_dict()
    save_file({k: v.clone() for k, v in state.items()}, weights, said)
    save_file(LORA, adapter, said)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({
        "auto_mapping": {"base_model_class": "os.system", "parent_library": "evil"},
        "base_model_name_or_path": URL, "lora_alpha": 4, "peft_type": EVIL, "use_rslora": "yes",
    }))  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": EVIL, "auto_map": {"A": EVIL}}))
    for name in ("quantize_config.json", "generation_config.json", "preprocessor_config.json",
                 "tokenizer_config.json", "model_index.json", "hyperparameters.yaml"):  # fmt: skip
        (folder / name).write_text(EVIL)
    for name in ("torch.py", "evil.py", "modeling_evil.py", "sitecustomize.py", "conftest.py"):
        (folder / name).write_text(PYTHON)
    beside = folder / "config.json"
    base_file = [weights, adapter, config, beside]
    return [
        ("metadata: load", ["load", str(weights)], [weights, beside]),
        ("metadata: export", ["export", str(weights), "o.onnx"], [weights, beside]),
        ("metadata: convert", ["export", str(weights), "o.pth"], [weights, beside]),
        ("an adapter", ["repair", str(adapter)], base_file),
        ("an adapter, merged", ["repair", str(adapter), "--base", str(weights)], base_file),
    ]


def plans(base: Path) -> list[tuple[str, list[str], list[Path]]]:
    source = base / "plan.safetensors"
    save_file({"a": torch.ones(4, 4), "b": torch.ones(4, 4)}, source)
    head = {"source": str(source)}

    def edit(kind: str, **options: object) -> dict[str, object]:
        return {"edits": [{"kind": kind, "keys": ["a"], "to": ["c"], "options": options}]}

    every: dict[str, dict[str, object]] = {
        "code for a kind": edit(EVIL),
        "code for a dtype": edit("cast", dtype=EVIL),
        "a function for a dtype": edit("cast", dtype="load"),
        "code for a way": edit("merge", how=EVIL),
        "code for a target": {"edits": [], "target": EVIL},
        "a file for a base": {"edits": [], "base": "/etc/passwd"},
        "a URL for a source": {"edits": [], "source": URL},
        "ten terabytes": edit("fill", shape=[10**6, 10**7]),
        "a shape of 2**80": edit("reshape", shape=[2**80]),
        "repeated without end": edit("resize", shape=[4, 10**13], how="repeat"),
        "an option that is none": edit("drop", __class__=EVIL),
    }
    found = []
    for number, (name, text) in enumerate(every.items()):
        path = base / f"plan{number}.json"
        path.write_text(json.dumps(head | text))
        argv = ["repair", str(source), "--plan", str(path), "-o", "o.safetensors", "--allow-fill"]
        found.append((f"plan: {name}", argv, [source, path]))
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    base = tmp_path_factory.mktemp("builds")
    markers = base / "markers"
    markers.mkdir()
    runs = [*onnx_files(base), *side_files(base), *plans(base)]
    for number, case in enumerate(DANGEROUS):
        folder = base / f"{number:03}"
        folder.mkdir()
        path = case.write(folder)
        command, *rest = COMMANDS[number % len(COMMANDS)] if number % LOADED else ["load"]
        files = [*folder.rglob("*"), path]
        runs.append((case.name, [command, str(path), *rest], files))
    tasks = honest(base)
    for number, (_, argv, files) in enumerate(runs):
        tasks.append(task(argv, base / f"{number:03}-out", files))
    found = dict(zip([name for name, _, _ in runs], build(tasks, markers), strict=True))
    assert list(markers.iterdir()) == [], "a payload ran"
    return found


NAMES = [case.name for case in DANGEROUS]


def assert_harmless(one: dict) -> None:
    said = one["out"] + one["err"]
    assert one["found"] == [], "it caused this"
    assert one["code"] in (0, 1, 2), said
    assert "Traceback" not in said and "internal error" not in said, said
    assert_clean(one["out"], one["err"])
    assert one["seconds"] < 60 and one["megabytes"] < 3000


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.encode("unicode_escape").decode())
def test_a_dangerous_file(name: str, seen: dict[str, dict]) -> None:
    assert_harmless(seen[name])


def test_what_names_code_beside_and_within(seen: dict[str, dict]) -> None:
    others = {name: one for name, one in seen.items() if name not in NAMES}
    assert len(others) == len(SAID) + 5 + 11
    for name, one in others.items():
        try:
            assert_harmless(one)
            if name.startswith("plan: "):
                assert one["code"] == 2 and len(one["err"].splitlines()) == 1, one["err"]
            if name.startswith(("onnx", "metadata")):
                assert one["code"] == 0, one["err"]
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    assert "neither true nor false" in others["an adapter"]["out"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("archfind.build", "[" * 100_000),
        ("archfind.build", "[]"),
        ("archfind.build", '{"callable": "archfind.variant", "args": [[], "x", 3]}'),
        ("archfind.build", '{"callable": "archfind.variant", "args": {"1": {"depth": 3}}}'),
        ("archfind.config", "[1, 2]"),
        ("archfind.config", '{"num_classes": {"value": {"a": 1}}, "x": 3, "y": null}'),
        ("archfind.config", '{"num_classes": {"value": 1e999}}'),
    ],
)
def test_what_an_export_says_of_itself(key: str, text: str) -> None:
    """What isn't of the form that archfind writes says nothing."""
    settings, variant = _said({key: text})
    assert settings == {}
    assert variant is None or variant.moved == {}


def test_the_audit_sees_what_it_should(tmp_path: Path) -> None:
    """Without this, nothing found could mean that nothing is looked at."""
    (tmp_path / "markers").mkdir()
    script = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2)}, script)
    honest = task(["export", str(DEMO), str(tmp_path / "o.safetensors")], tmp_path, [])
    other = task(["export", str(script), "o.pth"], tmp_path / "out", [])
    (one,) = build([honest | {"honest": True}, other], tmp_path / "markers")
    assert one["code"] == 0 and one["found"] and str(script) in one["found"][0]
    assert os.listdir(tmp_path / "out") == ["o.pth"]
