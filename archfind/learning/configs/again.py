"""Model types learned anew, and kept where networks drawn for the purpose say that they are better
than what was known."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

from archfind.classes.blocks import Block, TypeText
from archfind.learning.configs.bench import Bench, BuiltTensors, lighter, shrunk
from archfind.learning.configs.challenge import drawn_fields
from archfind.learning.configs.explore import candidates
from archfind.learning.configs.harvest import Harvest, buildable
from archfind.learning.configs.learn import block_gives, has_size
from archfind.probing.config import Leaf
from archfind.providers import transformers as library
from archfind.writing import beside

_NETWORKS = 24  # drawn for each class
_TRIES = 4  # configs for each of them; a library refuses many
_SECONDS = 20.0  # for one class


def adopted(types: Path, file: Path) -> str:
    """Take a type's new text, its `file`, into the folder `types` if it is better than the one
    there; what was found."""
    name = file.stem
    harvest = Harvest(types)
    new = Harvest(file.parent).type(name)
    old = harvest.type(name) if (types / file.name).exists() else None
    assert new is not None
    had, has, total = rights(harvest, old, new)
    better = old is None or (
        total > 0
        and (has, len(new.blocks), -_left(new), -_constants(new), -_lines(new))
        > (had, len(old.blocks), -_left(old), -_constants(old), -_lines(old))
    )
    if better:
        beside.write_small_file(types / file.name, file.read_bytes())
    return f"{name}: right {had} before, {has} now, of {total}: {'taken' if better else 'left'}"


def rights(harvest: Harvest, old: TypeText | None, new: TypeText) -> tuple[int, int, int]:
    """How many of the networks drawn each of two texts gives, in either dialect, and how many were
    drawn. A class that a text doesn't have is wrong; one that can't be built says nothing."""
    had = has = total = 0
    visible: dict[str, list[Leaf]] = {**(old.options if old else {}), **new.options}
    for entry in sorted({block.name for block in new.blocks + (old.blocks if old else [])}):
        name, _, cls = entry.partition("/")
        try:
            config = harvest.complete(name, cls, library.default_config(name))
            bench = Bench(entry, buildable(entry, lighter(entry, shrunk(entry, config))))
        except Exception:  # what a library can't build says nothing about either text
            continue
        paths = list(dict.fromkeys([*candidates(bench), *visible]))
        draw = random.Random(f"{entry} again")
        end = time.process_time() + _SECONDS
        built = [bench.first]
        for _ in range(_TRIES * _NETWORKS):
            if len(built) > _NETWORKS or time.process_time() > end:
                break
            known = {path: values for path, values in visible.items() if path in bench.base}
            moves = drawn_fields(bench, [p for p in paths if p in bench.base], known, draw)
            with contextlib.suppress(Exception):  # a library refuses values in its own ways
                one = bench.build(moves) if moves else None
                built += [one] if one is not None else []
        for one in built:
            same = one.shapes["published"] is one.shapes[""]
            for dialect in ("",) if same else ("", "published"):
                total += 1
                had += old is not None and _is_given(old.blocks, entry, dialect, one)
                has += _is_given(new.blocks, entry, dialect, one)
    return had, has, total


def _is_given(blocks: list[Block], entry: str, dialect: str, one: BuiltTensors) -> bool:
    return any(b.name == entry and b.dialect == dialect and block_gives(b, one) for b in blocks)


def _lines(text: TypeText) -> int:
    """Of rules that say as much, the shorter are likelier to hold elsewhere."""
    return sum(len(block.lines) for block in text.blocks)


def _constants(text: TypeText) -> int:
    """Lines with a size that no field gives, as none was moved that does."""
    return sum(has_size(line) for block in text.blocks for line in block.lines)


def _left(text: TypeText) -> int:
    return sum(len(block.left) for block in text.blocks)
