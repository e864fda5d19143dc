"""A state dict in older names of a library's network, or in those of the code that it was ported
from, as far as the library's own loader takes them: signatures/older.txt has the rules. On the cold
path of `archfind guess`, where no registered network has the file's keys."""

from __future__ import annotations

import functools
import os

from archfind.frozen import replace
from archfind.types import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archfind.state_dicts.key_rules import Made, Rule
    from archfind.types import Canonical, TensorSpec
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]

_TRIED = 4  # rows that are tried for one state dict
_LONG = 512  # characters of a key, which rules read more than once
_DIGITS = 6  # of a block's number
_PLACES = 8  # prefixes below which one row's rules are applied


class Row:
    """One way in which a network's tensors were called; `signs` are the keys that tell it,
    `loaders` the modules of the library that know it, where it's `below` a prefix."""

    __slots__ = ("_lines", "_rules", "below", "loaders", "name", "signs", "stage")

    def __init__(self, block: str) -> None:
        head, *lines = block.strip("\n").split("\n")
        self.name = head.partition("]")[0].lstrip("[")
        self.signs = [line.split()[1:] for line in lines if line.startswith("sign ")]
        loaders = [line.split()[1:] for line in lines if line.startswith("loader ")]
        self.loaders = loaders[0] if loaders else []
        below = [line.split()[1] for line in lines if line.startswith("below ")]
        self.below = below[0] if below else ""
        stage = [line.split()[1] for line in lines if line.startswith("stage ")]
        self.stage = stage[0] if stage else ""
        self._lines = [line for line in lines if "->" in line]
        self._rules: list[Rule] = []

    @property
    def rules(self) -> list[Rule]:
        """The rules, read when they're first asked for."""
        if not self._rules:
            from archfind.state_dicts.key_rules import Rule

            self._rules = list(map(Rule, self._lines))
        return self._rules

    def stages(self, index: Index, prefix: str) -> list[int]:
        """The numbers at which a new stage begins: 0, and those of the keys that say so."""
        if not self.stage:
            return []
        head, _, tail = f"{prefix}{self.stage}".partition("{n}")
        middles = [k[len(head) : -len(tail)] for k in index if k.startswith(head)]
        middles = [m for m in middles if m.isdecimal() and len(m) <= _DIGITS]
        found = {int(m) for m in middles if f"{head}{m}{tail}" in index}
        return sorted({0} | found)


_read: dict[str, list[Row]] = {}


def rows_of_older_names(folder: str) -> list[Row]:
    """The rows of a signatures folder, in their order."""
    if folder not in _read:
        path = os.path.join(folder, "older.txt")
        text = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                text = file.read()
        _read[folder] = [Row(block) for block in f"\n{text}".split("\n[")[1:]]
    return _read[folder]


def older_readings(canonical: Canonical, folder: str, work: Work) -> Iterator[Canonical]:
    """The state dict in the library's names of today, for each row whose signs it shows, as far as
    the work allows."""
    if not canonical.index or any(step.kind == "rename" for step in canonical.steps):
        return
    if max(map(len, canonical.index)) > _LONG:
        return
    tried = 0
    for row, prefixes in _shown(canonical.index, rows_of_older_names(folder)):
        if tried == _TRIED:
            return
        reading = canonical
        for prefix in prefixes:
            if not work.allows(len(canonical.index)):
                return
            reading = with_row_applied(reading, row, prefix) or reading
        if reading is not canonical:
            tried += 1
            steps = [Step("rename", f"{row.name} -> the library's")]
            gone = reading.aside[len(canonical.aside) :]
            if gone:
                shown = ", ".join(gone[:3]) + (" ..." if len(gone) > 3 else "")
                steps.append(Step("set aside", f"{len(gone)} tensors: {shown}"))
            yield replace(reading, steps=(*reading.steps, *steps))


@functools.lru_cache(4)
def _first_signs(known: tuple[Row, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """The first sign of every row, with # for its numbers; and the ends, from a dot on, of all of
    them."""
    first = frozenset(_skeleton(sign[0]) for row in known for sign in row.signs)
    tails = frozenset(
        name[at:] for name in first for at in range(len(name)) if not at or name[at - 1] == "."
    )
    return first, tails


def _shown(index: Index, known: list[Row]) -> Iterator[tuple[Row, list[str]]]:
    """Rows that have a sign in the state dict, with the prefixes below which it stands."""
    first, tails = _first_signs(tuple(known))
    places: dict[str, dict[str, None]] = {}
    for key in index:
        parts = key.split(".")
        end = ""
        for start in range(len(parts) - 1, -1, -1):
            end = f"{_bare(parts[start])}.{end}" if end else _bare(parts[start])
            if end not in tails:
                break
            if end in first:
                prefix = ".".join(parts[:start]) + "." if start else ""
                places.setdefault(end, {})[prefix] = None
    if not places:
        return
    for row in known:
        prefixes: dict[str, None] = {}
        for sign in row.signs:
            for prefix in places.get(_skeleton(sign[0]), ()):
                if all(_has(index, prefix, key) for key in sign):
                    prefixes[prefix] = None
        if prefixes:
            yield row, list(prefixes)[:_PLACES]


def _bare(part: str) -> str:
    return "#" if part.isdecimal() else part


def _skeleton(key: str) -> str:
    """A key's parts, those that are numbers as one sign."""
    return ".".join(map(_bare, key.replace("{i}", "0").split(".")))


def _has(index: Index, prefix: str, key: str) -> bool:
    """Whether there is such a key; {i} may be the first few numbers."""
    return any(prefix + key.replace("{i}", str(number)) in index for number in range(8))


def with_row_applied(canonical: Canonical, row: Row, prefix: str) -> Canonical | None:
    """The state dict with a row's rules applied below a prefix; None where they change nothing, or
    make two tensors of one name."""
    from archfind.state_dicts.key_rules import Made, applied

    index = canonical.index
    rules = [rule for rule in row.rules if rule.is_meant(index, prefix)]
    stages = row.stages(index, prefix)
    new: dict[str, TensorSpec] = {}
    origin: dict[str, str] = {}
    merged: dict[str, tuple[str, ...]] = {}
    aside = list(canonical.aside)
    pieces: dict[str, list[tuple[Made, str]]] = {}
    changed = False
    for key, spec in index.items():
        at = canonical.origin[key]
        known = canonical.merged.get(key)
        if not key.startswith(prefix):
            made = [Made(key, spec)]
            start = ""
        else:
            made = applied(rules, [Made(key[len(prefix) :], spec)], stages)
            start = prefix
        if not made:
            aside.append(at)
        for one in made:
            name = start + one.key
            is_same = name == key and one.spec is spec and not one.recipe
            changed = changed or not is_same
            if one.piece[1] > 1:
                pieces.setdefault(name, []).append((one, at))
                continue
            if name in new or (known and not (one.spec is spec and not one.recipe)):
                return None
            new[name], origin[name] = one.spec, at
            if known:
                merged[name] = known
            if one.recipe:
                others = [canonical.origin.get(prefix + other, "") for other in one.others]
                merged[name] = (one.recipe, at, *others)
                if "" in others:
                    return None
        changed = changed or not made
    for name, parts in pieces.items():
        joined = _joined(parts)
        if joined is None or name in new:
            return None
        new[name], origin[name] = joined, parts[0][1]
    if not changed:
        return None
    return replace(canonical, index=new, origin=origin, merged=merged, aside=tuple(aside))


def _joined(parts: list[tuple[Made, str]]) -> TensorSpec | None:
    """One tensor of those that are rows of it; None where one is missing, or doesn't go with the
    others."""
    from archfind.formats.many_files.pieces import joinable, joined_along

    ordered = sorted((one for one, _ in parts), key=lambda one: one.piece)
    specs = [one.spec for one in ordered]
    count = ordered[0].piece[1]
    if [one.piece for one in ordered] != [(place, count) for place in range(count)]:
        return None
    if not joinable(specs, 0) or any(spec.pieces for spec in specs):
        return None
    return joined_along(ordered[0].key, specs, 0)
