"""Model types learned anew are taken where they are better."""

from __future__ import annotations

import random
import re
import shutil
from graphlib import TopologicalSorter
from pathlib import Path

from archfind.classes.blocks import parse_blocks
from archfind.database.entries import signatures_folder
from archfind.learning.configs.again import adopted
from archfind.learning.configs.bench import Bench, shrunk
from archfind.learning.configs.build import acyclic, build_types
from archfind.learning.configs.challenge import drawn_fields
from archfind.learning.configs.harvest import Harvest
from archfind.providers import transformers as library

NAME = "trocr"


def types(place: Path, change: tuple[str, str] | None = None) -> Path:
    """The known types in a folder of their own, one with a change."""
    shutil.copytree(Path(signatures_folder()) / "transformers" / "types", place)
    if change is not None:
        file = place / f"{NAME}.txt"
        text = file.read_text()
        assert change[0] in text
        file.write_text(text.replace(*change))
    return place


def test_the_better_of_two_texts_stays(tmp_path: Path) -> None:
    worse = ("  decoder_ffn_dim ", "  4096 ")
    good, bad = types(tmp_path / "good"), types(tmp_path / "bad", worse)
    told = adopted(good, bad / f"{NAME}.txt")
    assert told.endswith("left") and "  4096 " not in (good / f"{NAME}.txt").read_text()
    told = adopted(bad, good / f"{NAME}.txt")
    assert told.endswith("taken")
    assert (bad / f"{NAME}.txt").read_text() == (good / f"{NAME}.txt").read_text()
    before, now, total = map(int, re.findall(r"\d+", told))
    assert before < now == total


def test_a_type_is_learned_in_a_process_and_what_is_there_stays(tmp_path: Path) -> None:
    shutil.copytree(Path(signatures_folder()) / "presets", tmp_path / "presets")
    out = tmp_path / "transformers" / "types"
    assert not build_types(tmp_path, ["vit_msn"])
    assert {file.name for file in out.iterdir()} == {"vit_msn.txt"}
    known = parse_blocks((out / "vit_msn.txt").read_text(), {})
    assert {block.name for block in known.blocks} >= {"vit_msn/ViTMSNModel"}
    assert all(block.held[0] == block.held[1] > 5 for block in known.blocks)
    (out / "vit_msn.txt").write_text("changed")
    build_types(tmp_path, ["vit_msn"])
    assert (out / "vit_msn.txt").read_text() == "changed"


def test_a_head_of_few_tensors_is_learned_with_its_widths(tmp_path: Path) -> None:
    (tmp_path / "transformers" / "types").mkdir(parents=True)
    found = Harvest(tmp_path / "transformers" / "types").type("squeezebert")
    assert found is not None
    lines = [line for block in found.blocks for line in block.lines if "classifier.weight" in line]
    assert len(lines) == 2  # one answer of a question, and the labels of sentences and words
    assert all(line.split()[-1] == "hidden_size" for line in lines)


def test_networks_to_learn_from_have_widths_that_coincide() -> None:
    name = "resnet/ResNetModel"
    bench = Bench(name, shrunk(name, library.default_config("resnet")))
    paths = [path for path in bench.base if path.startswith(("embedding", "hidden", "depths"))]
    draw = random.Random(0)
    every = [{**bench.base, **drawn_fields(bench, paths, {}, draw)} for _ in range(100)]
    same = [one for one in every if one["embedding_size"] == one["hidden_sizes.0"]]
    assert 5 < len(same) < 50
    built = bench.build({"embedding_size": 256})
    assert built is not None
    assert not any("stages.0.layers.0.shortcut" in key for key in built.shapes[""])


def test_what_is_inside_comes_first_and_circles_are_cut() -> None:
    inside = {"a": {"b", "elsewhere"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    found = acyclic(inside)
    assert found == {"a": {"b"}, "b": set(), "c": set(), "d": {"a"}}
    assert list(TopologicalSorter(found).static_order())[-1] == "d"
