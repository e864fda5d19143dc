"""config.json and its like, beside files that are built: nothing that they say is run, fetched or
believed without measure."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from hostile.build import MARKERS
from hostile.configs import CONFIGS, HONEST, TEXTS
from safetensors.torch import save_file
from test_hostile import DRIVER, assert_clean

SECONDS, MEGABYTES = 60, 3000


def build(tasks: list[dict], markers: Path) -> list[dict]:
    """What the driver saw of each task that isn't honest; those run first, unwatched."""
    done = subprocess.run(
        [sys.executable, str(DRIVER)],
        input=json.dumps([{**task, "builds": True} for task in tasks]),
        capture_output=True,
        text=True,
        env=os.environ | {MARKERS: str(markers), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "0"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (12 << 30,) * 2),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def task(argv: list[str], out: Path, files: list[Path]) -> dict:
    out.mkdir(exist_ok=True)
    return {"argv": argv, "cwd": str(out), "files": [str(one) for one in files]}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT, without any config."""
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        vocab_size=90, max_position_embeddings=40,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bert") / "model.safetensors"
    torch.manual_seed(0)
    save_file(transformers.BertModel(config).state_dict(), path, {"format": "pt"})
    return path


@pytest.fixture(scope="module")
def seen(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """Every config beside the weights: guessed, loaded, and some exported."""
    base = tmp_path_factory.mktemp("configs")
    markers = base / "markers"
    markers.mkdir()
    texts = {name: json.dumps(HONEST | claims).encode() for name, claims, _ in CONFIGS}
    texts |= dict(TEXTS)
    honest = base / "honest"
    honest.mkdir()
    os.link(bert, honest / "model.safetensors")
    (honest / "config.json").write_text(json.dumps(HONEST))
    weights = str(honest / "model.safetensors")
    tasks = [
        task(["load", weights], honest, []) | {"honest": True},
        task(["export", weights, str(honest / "out.onnx")], honest, []) | {"honest": True},
    ]
    keys: list[str] = []
    for number, (name, data) in enumerate(texts.items()):
        folder = base / f"{number:03}"
        folder.mkdir()
        os.link(bert, folder / "model.safetensors")
        (folder / "config.json").write_bytes(data)
        files = [folder / "model.safetensors", folder / "config.json"]
        commands = [["guess"], ["load"], ["export", "hf/"]] + [["export", "o.onnx"]] * (not number)
        for command in commands:
            out = base / f"{number:03}-out"
            argv = [command[0], str(files[0]), *command[1:]]
            if command[0] == "export":
                argv.append("--accept-ambiguous")
            tasks.append(task(argv, out, files))
            keys.append(name)
    found: dict[str, list[dict]] = {}
    for name, one in zip(keys, build(tasks, markers), strict=True):
        found.setdefault(name, []).append(one)
    assert list(markers.iterdir()) == [], "a payload ran"
    return found


EVERY = [(name, what) for name, _, what in CONFIGS] + [(name, "aside") for name, _ in TEXTS]


@pytest.mark.parametrize(("name", "what"), EVERY, ids=[name for name, _ in EVERY])
def test_a_config_beside_it(name: str, what: str, seen: dict[str, list[dict]]) -> None:
    guessed, *built = seen[name]
    for one in (guessed, *built):
        said = one["out"] + one["err"]
        assert one["found"] == [], "it caused this"
        assert "Traceback" not in said and "internal error" not in said, said
        assert_clean(one["out"], one["err"])
        assert one["seconds"] < SECONDS and one["megabytes"] < MEGABYTES
    assert guessed["code"] in (0, 1), guessed["err"]
    assert ("config.json beside it is left aside" in guessed["out"]) == (what == "aside")
    for one in built:
        assert one["code"] == (2 if what == "refused" else 0), one["err"]
        if what == "refused":
            assert len(one["err"].splitlines()) == 1 and ": error: " in one["err"]
