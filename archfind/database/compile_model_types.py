"""signatures/transformers/*.txt and signatures/presets/*.txt -> signatures/configured.bin, a table
of model types: the same bytes from the same text.

Its features are hashes of key templates. A row is a block: its columns are the type's number, the
place in the type, the number of templates, a hash of the lines, and the number of templates that
every network has; after a type's blocks come those under the names of older files. A type has a
text.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archfind.classes.blocks import Block, TypeText, others, parse_blocks
from archfind.classes.notation import numbered_template, template_of
from archfind.classes.older_keys import older_key
from archfind.classes.templates import STALE
from archfind.database.model_types import MAGIC
from archfind.database.table import compiled, hashed
from archfind.errors import SignatureError
from archfind.state_dicts.canonical import DERIVED

FOLDER = "transformers/types"


def compile_types(folder: Path) -> bytes:
    """The compiled model types of a signatures folder."""
    presets = read_presets(folder / "presets")
    holders: dict[int, list[int]] = {}
    blocks: list[tuple[int, int, int, int, int]] = []
    texts: list[str] = []
    # Where many types are alike, those of most public models are tried first.
    types = sorted(read_types(folder / FOLDER), key=lambda one: -len(presets.get(one[0].name, ())))
    for number, (found, version) in enumerate(types):
        for place, block in enumerate(found.blocks):
            whole = block.whole()
            templates = {hashed(template_of(line)) for line in whole}
            needed = {template_of(line) for line in whole if line.condition is None}
            needed -= {numbered_template(key) for key in block.tied}
            needed = {t for t in needed if t.rpartition(".")[2] not in STALE | DERIVED}
            for item in templates:
                holders.setdefault(item, []).append(len(blocks))
            lines = "\n".join(sorted(block.flat()))
            mark = zlib.crc32(lines.encode())
            blocks.append((number, place, len(templates), mark, len(needed)))
        for place, block in enumerate(_with_older(found), len(found.blocks)):
            mine = next(one for one in blocks if one[0] == number and found.blocks[one[1]] is block)
            for line in {older_key(template_of(line), block.older) for line in block.whole()}:
                holders.setdefault(hashed(line), []).append(len(blocks))
            mark = zlib.crc32(repr(block.older).encode(), mine[3])
            blocks.append((number, place, mine[2], mark, mine[4]))
        texts.append(_text(found, version, presets.get(found.name, {})))
    return compiled(MAGIC, holders, list(zip(*blocks, strict=True)), texts)


def read_types(folder: Path) -> Iterator[tuple[TypeText, str]]:
    """Every type of a folder with the library's version, in the order of their names."""
    texts = {path.stem: path.read_text() for path in sorted(folder.glob("*.txt"))}
    known: dict[str, TypeText] = {}

    def read(name: str, above: tuple[str, ...]) -> TypeText:
        if name not in known:
            if name not in texts:
                raise SignatureError(f"{above[-1]}.txt names {name}, which has no file")
            blocks: dict[str, Block] = {}
            for other in dict.fromkeys(others(texts[name])):
                if other not in (name, *above):
                    blocks |= {b.id: b for b in read(other, (*above, name)).blocks}
            known[name] = parse_blocks(texts[name], blocks)
        return known[name]

    for name, text in texts.items():
        version = text.partition("\n")[0].split()[-1]
        yield read(name, (name,)), version


def _text(found: TypeText, version: str, presets: Mapping[str, Mapping[str, Any]]) -> str:
    """What a guess reads of a type: its head with the presets, then each block's lines in full."""
    lines = [f"{found.name}\t{found.config}\t{version}"]
    every = _of_lists(found)
    for path, value in found.leaves.items():
        options = f" options {json.dumps(every[path])}" if path in every else ""
        lines.append(f"leaf {path} {json.dumps(value)}{options}")
    lines.append("preset (default) {}")
    for name, values in presets.items():
        lines.append(f"preset {name} {json.dumps(_completed(found, values))}")
    for block in found.blocks:
        right, held = block.held
        rules = "" if right == held else "doubtful"
        lines.append(f"[{block.name.partition('/')[2]}\t{block.dialect}\t{block.prefix}\t{rules}")
        lines += [f"tied {key} {other}" for key, other in block.tied.items()]
        lines += block.flat()
    for block in _with_older(found):
        lines.append(f"[={found.blocks.index(block)}")
        lines += ["\t".join(place) for place in block.older]
    return "\n".join(lines) + "\n"


def _with_older(found: TypeText) -> list[Block]:
    """A type's blocks that older files have under other names."""
    return [block for block in found.blocks if block.older]


def _of_lists(found: TypeText) -> dict[str, list[Any]]:
    """The options of every leaf. An item of a list without any, since the network learned from was
    too short to have it, takes those of the items beside it."""
    lists: dict[str, dict[Any, None]] = {}
    for path, values in found.options.items():
        root, _, last = path.rpartition(".")
        if last.isdigit():
            lists.setdefault(root, {}).update(dict.fromkeys((*values, found.leaves.get(path))))
    every = dict(found.options)
    for path, value in found.leaves.items():
        root, _, last = path.rpartition(".")
        if last.isdigit() and path not in every and root in lists:
            every[path] = [v for v in lists[root] if v != value]
    return every


def _completed(found: TypeText, values: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's fields with those that the library derives from them."""
    own = dict(values)
    whole = {**found.leaves, **own}
    heads = own.get("num_attention_heads")
    if heads and "num_key_value_heads" in found.leaves:
        own.setdefault("num_key_value_heads", heads)
    if heads and found.leaves.get("head_dim") and "hidden_size" in whole:
        own.setdefault("head_dim", whole["hidden_size"] // heads)
    return own


def read_presets(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Public models by type: `id  type  field=value ...`, a line each. SignatureError shows one
    that doesn't parse."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text().splitlines():
            if not line.strip() or line[0] == "#":
                continue
            try:
                name, model_type, *fields = line.split()
                values = dict(field.split("=", 1) for field in fields)
                parsed = {key: json.loads(value) for key, value in values.items()}
            except ValueError as error:
                raise SignatureError(f"{path.name}: not a preset: {line!r}") from error
            found.setdefault(model_type, {})[name] = parsed
    return found
