"""signatures/*/families/*.txt -> signatures/families.bin, a table of families: the same bytes from
the same text.

Its features are hashes of key templates, alone and with a preset's shape, and of the presets; its
columns count a family's templates, number its class and count its presets; its texts are the
presets' heads as in index.bin, then the family's text.
"""

from __future__ import annotations

from pathlib import Path

from archfind.classes.notation import Family, numbered_template, template_of
from archfind.database.classes import MAGIC, of_preset, template_feature
from archfind.database.compile import Text, groups, head_line, read_prior, read_texts, read_twins
from archfind.database.table import compiled


def compile_families(folder: Path) -> bytes:
    """The compiled families of a signatures folder. A preset whose entry is not in the folder is
    left out, and a family without any."""
    functions = read_twins(folder / "twins.txt")
    prior = read_prior(folder / "prior.txt")
    places = sorted(folder.glob("*/families/*.txt"))
    blocks = [f"[{b}" for path in places for b in path.read_text().split("\n[")[1:]]
    return families_of(blocks, groups(list(read_texts(folder))), functions, prior)


def families_of(
    blocks: list[str],
    grouped: list[list[Text]],
    functions: dict[str, tuple[int, str]],
    prior: list[str],
    first: int = 0,
) -> bytes:
    """The compiled families of these texts, whose presets are among the entries; `first` numbers
    the first group of those."""
    entries: dict[str, tuple[Text, int]] = {}
    for number, members in enumerate(grouped, first):
        entries |= {text.id: (text, number) for text in members}
    holders: dict[int, list[int]] = {}
    sizes: list[int] = []
    texts: list[str] = []
    classes: dict[str, int] = {}
    kinds: list[int] = []
    presets: list[int] = []
    for text in blocks:
        family = Family(text)
        heads = [
            f"{head_line(entries[name][0], functions, prior)}\t{entries[name][1]}"
            for name in family.presets
            if name in entries
        ]
        if not heads or family.base not in entries:
            continue
        templates = {template_feature(template_of(line)) for line in family.program.lines}
        named = {of_preset(name) for name in family.presets}
        for item in templates | _shapes(family) | named:
            holders.setdefault(item, []).append(len(texts))
        sizes.append(len(templates))
        presets.append(len(heads))
        kinds.append(classes.setdefault(family.cls, len(classes)))
        texts.append("\n".join([*heads, "", text]))
    return compiled(MAGIC, holders, [sizes, kinds, presets], texts)


def _shapes(family: Family) -> set[int]:
    """Features of the shapes that the family's presets have."""
    found: set[int] = set()
    for values in family.presets.values():
        for key, (shape, dtype) in family.program.expand(values).items():
            if dtype == "float":
                found.add(template_feature(numbered_template(key), shape))
    return found
