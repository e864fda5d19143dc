"""signatures/*/families/*.txt -> signatures/families.bin: the same bytes from the same text.

Layout, little-endian: the magic, four u32 (how many of each), then the arrays

    features  u32 x F    sorted crc32 of key templates, alone and with a preset's shape
    starts    u32 x F+1  where a feature's postings start
    postings  u32 x P    family numbers
    blobs     u32 x 2S+1 where a family's text starts, then the number of its templates
    text      bytes      zlib, one run a family: its presets' heads as in index.bin, then its text
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from archfind.classes.notation import Family, template, template_of
from archfind.database.classes import MAGIC, feature, of_preset
from archfind.database.compile import Text, groups, head_line, read_prior, read_texts, read_twins


def compile_families(folder: Path) -> bytes:
    """The compiled families of a signatures folder. A preset whose entry is not in the folder is
    left out, and a family without any."""
    functions = read_twins(folder / "twins.txt")
    prior = read_prior(folder / "prior.txt")
    entries: dict[str, tuple[Text, int]] = {}
    for number, members in enumerate(groups(list(read_texts(folder)))):
        entries |= {text.id: (text, number) for text in members}
    holders: dict[int, list[int]] = {}
    sizes: list[int] = []
    blobs: list[bytes] = []
    classes: dict[str, int] = {}
    kinds: list[int] = []
    presets: list[int] = []
    for path in sorted(folder.glob("*/families/*.txt")):
        for block in path.read_text().split("\n[")[1:]:
            text = f"[{block}"
            family = Family(text)
            heads = [
                f"{head_line(entries[name][0], functions, prior)}\t{entries[name][1]}"
                for name in family.presets
                if name in entries
            ]
            if not heads or family.base not in entries:
                continue
            templates = {feature(template_of(line)) for line in family.program.lines}
            named = {of_preset(name) for name in family.presets}
            for item in templates | _shapes(family) | named:
                holders.setdefault(item, []).append(len(blobs))
            sizes.append(len(templates))
            presets.append(len(heads))
            kinds.append(classes.setdefault(family.cls, len(classes)))
            blobs.append(zlib.compress("\n".join([*heads, "", text]).encode(), 9))
    starts, postings = [0], []
    features = sorted(holders)
    for item in features:
        postings += holders[item]
        starts.append(len(postings))
    places = [0]
    for blob in blobs:
        places.append(places[-1] + len(blob))
    arrays = [features, starts, postings, [*places, *sizes, *kinds, *presets]]
    head = MAGIC + struct.pack("<4I", *map(len, arrays))
    return head + b"".join(struct.pack(f"<{len(a)}I", *a) for a in arrays) + b"".join(blobs)


def _shapes(family: Family) -> set[int]:
    """Features of the shapes that the family's presets have."""
    found: set[int] = set()
    for values in family.presets.values():
        for key, (shape, dtype) in family.program.expand(values).items():
            if dtype == "float":
                found.add(feature(template(key), shape))
    return found
