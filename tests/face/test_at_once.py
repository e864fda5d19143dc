"""Processes and threads at once, and folders of very many files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

import archfind
from archfind.cli import main
from archfind.errors import NotACheckpoint
from archfind.formats.many_files import folder
from archfind.providers import provider

PROCESSES, THREADS = 4, 8

# Every thread starts with nothing read of the database: that is when its tables are filled.
AT_ONCE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import archfind
from archfind.report.inspection import inspect_document
from archfind.report.answer import guess_document

sys.setswitchinterval(1e-5)  # so that half-filled tables are met
paths, threads = sys.argv[2:], int(sys.argv[1])
barrier = Barrier(threads)

def answers(number):
    barrier.wait()
    turned = paths[number % len(paths):] + paths[:number % len(paths)]
    found = {}
    for path in turned:
        one = archfind.guess(path)
        inspected = inspect_document(one.canonical.checkpoint)
        found[path] = json.dumps([guess_document(one), inspected], default=str)
    return found

with ThreadPoolExecutor(threads) as pool:
    every = list(pool.map(answers, range(threads)))
assert all(one == every[0] for one in every)
print(json.dumps(every[0], sort_keys=True))
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network of each kind: registered, with other arguments, with a config, unknown."""
    base = tmp_path_factory.mktemp("networks")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        vocab_size=90, max_position_embeddings=40,
    )  # fmt: skip
    torch.manual_seed(0)
    states = {
        "registered": provider("timm").create("test_resnet").state_dict(),
        "variant": archfind.variant("timm/test_vit", {"embed_dim": 96}).state_dict(),
        "configured": transformers.BertModel(config).state_dict(),
        "unknown": {f"a.{n}.w": torch.ones(n + 1, 3) for n in range(5)},
    }
    found: dict[str, Path] = {}
    for name, state in states.items():
        (base / name).mkdir()
        found[name] = base / name / "model.safetensors"
        save_file({key: value.clone() for key, value in state.items()}, found[name])
    said = {"model_type": "bert", "architectures": ["BertModel"], "num_attention_heads": 2}
    (found["configured"].parent / "config.json").write_text(json.dumps(said))
    return found


def test_processes_of_threads_give_one_answer(networks: dict[str, Path]) -> None:
    command = [sys.executable, "-c", AT_ONCE, str(THREADS), *map(str, networks.values())]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    said = [one.communicate() for one in running]
    assert [one.returncode for one in running] == [0] * PROCESSES, said[0][1][-2000:]
    assert len({out for out, _ in said}) == 1
    answers = json.loads(said[0][0])
    statuses = {path: json.loads(text)[0]["status"] for path, text in answers.items()}
    assert statuses[str(networks["configured"])] == "exact"
    assert statuses[str(networks["unknown"])] == "unknown"


def test_threads_load_at_once(networks: dict[str, Path]) -> None:
    """The same module for each, and the process is left as it was."""
    paths = [networks[name] for name in ("registered", "variant", "configured")]
    first = {path: archfind.load(path, accept_ambiguous=True) for path in paths}
    before = sys.stdout, torch.get_default_dtype(), list(warnings.filters)

    def loaded(number: int) -> bool:
        path = paths[number % len(paths)]
        module = archfind.load(path, accept_ambiguous=True)
        state, wanted = module.state_dict(), first[path].state_dict()
        assert type(module) is type(first[path]) and list(state) == list(wanted)
        return all(torch.equal(state[key], value) for key, value in wanted.items())

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(loaded, range(2 * THREADS)))
    assert (sys.stdout, torch.get_default_dtype(), list(warnings.filters)) == before


def test_nothing_is_fetched_while_building(
    networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen: list[bool] = []
    make = transformers.BertModel.__init__

    def spied(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        seen.append(constants.HF_HUB_OFFLINE)
        make(self, *args, **kwargs)

    monkeypatch.setattr(transformers.BertModel, "__init__", spied)
    module: Any = archfind.load(networks["configured"])
    assert module.config.num_attention_heads == 2, "as the config.json says, however wide a head is"
    assert seen and all(seen) and constants.HF_HUB_OFFLINE is False


def test_a_file_in_a_large_folder_is_read_without_listing_it(
    networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Side files are asked for by name."""

    def never(*_: object) -> None:
        raise AssertionError("a folder was listed")

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, never)
    assert main(["guess", str(networks["configured"])]) == 0
    assert main(["inspect", str(networks["configured"])]) == 0


def test_a_large_folder_is_looked_at_as_far_as_a_layout_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked = 0
    scandir = os.scandir

    class Counted:
        """os.scandir's, which counts its entries."""

        def __init__(self, path: str) -> None:
            self._entries = scandir(path)

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self._entries.close()

        def __iter__(self) -> Counted:
            return self

        def __next__(self) -> os.DirEntry[str]:
            nonlocal looked
            looked += 1
            return next(self._entries)

    monkeypatch.setattr(os, "scandir", Counted)
    monkeypatch.setattr(folder, "_FILES", 50)
    for number in range(200):
        (tmp_path / f"{number:04}.txt").touch()
    (tmp_path / "model.safetensors").touch()
    for command in ("guess", "inspect"):
        looked = 0
        assert main([command, str(tmp_path)]) == 2
        assert "a folder of more than 50 entries: give the file in it" in capsys.readouterr().err
        assert looked <= 52
    with pytest.raises(NotACheckpoint):
        archfind.open(tmp_path)
