"""The database: complete, reproducible from its text, and true of the installed libraries."""

from __future__ import annotations

import random
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from archfind.database.compile import compile_index, groups, read_texts, twin_key
from archfind.database.entries import Database, default, signatures_folder
from archfind.database.table import Table, compiled
from archfind.errors import SignatureError
from archfind.learning.check import check_entries
from archfind.learning.entries import harvest
from archfind.learning.twins import _block  # pyright: ignore[reportPrivateUsage]
from archfind.providers import PROVIDERS, provider
from archfind.providers.zoo_networks import PACKAGES

FOLDER = Path(signatures_folder())


def test_every_registered_name_is_known() -> None:
    known = {text.id for text in read_texts(FOLDER)}
    for library in PROVIDERS:
        if library in PACKAGES:  # its names are data, whether it is installed or not
            names = {f"{library}/{name}" for name in PACKAGES[library].networks}
        else:
            names = {f"{library}/{name}" for name in provider(library).names()}
        assert names == {name for name in known if name.startswith(f"{library}/")}
    counts = [sum(name.startswith(library) for name in known) for library in PROVIDERS]
    assert counts[0] >= 115 and counts[1] >= 1350


def test_the_index_is_what_the_text_compiles_to() -> None:
    assert compile_index(FOLDER) == (FOLDER / "index.bin").read_bytes()


@pytest.mark.parametrize("many", [9, 200_000])
def test_a_table_gives_back_what_it_was_compiled_of(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random tables, with features in halves and whole: lookups against a plain dict of lists."""
    monkeypatch.setattr("archfind.database.table._MANY", many)
    draw = random.Random(11)
    for _ in range(40):
        rows = draw.randint(1, 40)
        width = draw.randint(1, 5)
        columns = [[draw.randrange(1 << 32) for _ in range(rows)] for _ in range(width)]
        texts = [draw.choice(("", "é\n", "x" * 9000)) + str(n) for n in range(draw.randint(0, 9))]
        held = {
            draw.randrange(1 << 32): sorted(draw.sample(range(rows), draw.randint(1, rows)))
            for _ in range(draw.randint(0, 60))
        }
        table = Table(compiled(b"kind0001", held, columns, texts), b"kind0001", width)
        assert [list(column) for column in table.columns] == columns
        assert [table.text(number) for number in range(table.texts)] == texts
        assert all(list(table.members(table.holders(item))) == of for item, of in held.items())
        assert all(table.holders(item + 1) < 0 for item in held if item + 1 not in held)
        weights = {draw.choice([*held, 7]): draw.randint(1, 9) for _ in range(20)}
        plain: dict[int, int] = {}
        for item, weight in weights.items():
            for number in held.get(item, ()):
                plain[number] = plain.get(number, 0) + weight
        assert table.counted(weights) == plain
    with pytest.raises(SignatureError, match="version"):
        Table(compiled(b"kind0002", {}, [[]], []), b"kind0001", 1)


def test_the_index_gives_the_text_back() -> None:
    database = default()
    texts = {text.id: text for text in read_texts(FOLDER)}
    for number in range(0, len(database), 97):
        for member in database.signature(number).members:
            text = texts[member.entry.id]
            assert (member.entry.cls, member.entry.version) == (text.cls, text.version)


def test_what_is_shown_of_an_entry_has_the_tensors_of_its_text() -> None:
    database = default()
    texts = {text.id: text for text in read_texts(FOLDER)}
    for number in range(0, len(database), 97):
        for member in database.signature(number).members:
            lines = database.entry_text(number, member.entry.id)
            text = texts[member.entry.id]
            assert lines[:3] == [f"[{text.id}]", f"class   {text.cls}", f"build   {text.build}"]
            shown = replace(text, lines=tuple(line for line in lines[3:] if line[:7] != "fields "))
            assert twin_key(shown) == twin_key(text)


def _is_installed(library: str) -> bool:
    """Whether the tests' environment has it: packages that are data may bring much along."""
    return library not in PACKAGES or find_spec(PACKAGES[library].module) is not None


def test_a_sample_of_entries_is_proven() -> None:
    ids = [text.id for text in read_texts(FOLDER) if _is_installed(text.id.partition("/")[0])]
    failures, proven = check_entries(ids, sample=24, seed=11)
    assert (failures, proven) == ([], 24)


@pytest.mark.parametrize("name", ["torchvision/ssdlite320_mobilenet_v3_large", "timm/test_vit3"])
def test_harvesting_again_gives_the_same_text(name: str) -> None:
    library, _, architecture = name.partition("/")
    text = harvest(provider(library), library, architecture).text
    file = next(f for f in (FOLDER / library).glob("*.txt") if f"[{name}]\n" in f.read_text())
    assert text in file.read_text()


def test_twins_are_every_group_of_equal_tensors() -> None:
    listed = [
        {i for line in block.split("\n") for i in line.partition("  | ")[0].split()}
        for block in (FOLDER / "twins.txt").read_text().strip().split("\n\n")[1:]
    ]
    found = [
        {t.id for t in members} for members in groups(list(read_texts(FOLDER))) if len(members) > 1
    ]
    assert sorted(map(sorted, listed)) == sorted(map(sorted, found))


@pytest.mark.parametrize(
    "ids",
    [
        {"timm/test_efficientnet_gn", "timm/test_efficientnet_ln"},
        {
            "timm/resnet18",
            "timm/resnetblur18",
            "torchvision/resnet18",
            "torchvision/quantized_resnet18",
        },
        {"timm/mobilenetv3_small_075", "timm/tf_mobilenetv3_small_075"},
    ],
)
def test_comparing_twins_again_gives_the_same_functions(ids: set[str]) -> None:
    torch.manual_seed(0)
    members = [text for text in read_texts(FOLDER) if text.id in ids]
    assert _block(members) in (FOLDER / "twins.txt").read_text()


def test_priors_name_entries_of_groups_whose_functions_differ() -> None:
    lines = [ln.partition("#")[0].strip() for ln in (FOLDER / "prior.txt").read_text().split("\n")]
    plain = {line for line in lines if line}
    apart: set[str] = set()
    for number in range(len(default())):
        members = default().signature(number).members
        if len({m.function for m in members}) > 1:
            apart |= {m.entry.id for m in members}
    assert plain and plain <= apart


def test_an_index_of_another_version_is_refused() -> None:
    with pytest.raises(SignatureError, match="signatures compile"):
        Database(b"archfnd0" + bytes(64))
