"""The compiled families of classes; compile_classes.py writes them."""

from __future__ import annotations

import os

from archfind.classes.notation import Family, numbered_template
from archfind.database.entries import SignatureMember
from archfind.database.table import Table, hashed
from archfind.state_dicts.canonical import is_table, kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.database.entries import Database
    from archfind.types import TensorSpec

MAGIC = b"archfam7"
_CLASSES = 4  # tried for one state dict, with as many families of each as:
_EACH = 2
_COMMON = 0.3  # of the file's templates a family must have to be tried ...
_COVERED = 0.7  # ... and of its keys: with fewer, no answer would come of it


def template_feature(template: str, shape: tuple[int, ...] | None = None) -> int:
    """A hash of a key template, alone or with a shape."""
    return hashed(template if shape is None else f"{template} {shape}")


def of_preset(entry: str) -> int:
    """The feature of the families that have this entry."""
    return template_feature(f"preset {entry}")


class KnownFamily:
    """A family, and the entries of its presets by id; `group` numbers those with the same tensors
    among all entries, and a member's `function` what it computes among them."""

    __slots__ = ("family", "groups", "members")

    def __init__(self, text: str) -> None:
        heads, _, body = text.partition("\n\n")
        self.members: dict[str, SignatureMember] = {}
        self.groups: dict[str, int] = {}
        for line in heads.split("\n"):
            head, _, group = line.rpartition("\t")
            member = SignatureMember(head)
            self.members[member.entry.id] = member
            self.groups[member.entry.id] = int(group)
        self.family = Family(body)
        self.family.presets = {k: v for k, v in self.family.presets.items() if k in self.members}


class Families(Table):
    """The compiled families, a row and a text each: how many key templates it has, the number of
    its class, and how many presets it has."""

    def __init__(self, source: str | bytes) -> None:
        super().__init__(source, MAGIC, 3)
        self._sizes, self._classes, self._presets = self.columns
        self._known: dict[int, KnownFamily] = {}

    def known(self, number: int) -> KnownFamily:
        """A family, parsed; kept, since guessing again is common."""
        found = self._known.get(number)
        if found is None:
            made = KnownFamily(self.text(number))
            found = self._known.setdefault(number, made)  # another thread may have been faster
        return found

    def resembling(self, index: Mapping[str, TensorSpec], near: Iterable[str] = ()) -> list[int]:
        """Families whose keys are like a state dict's, numbers aside: first those that have an
        entry of `near`, then the most alike; of those with the same keys, the ones that have more
        of its shapes. Of a few classes the most alike and those of most networks."""
        templates: dict[str, set[tuple[int, ...]]] = {}
        keys: dict[str, int] = {}
        for key, spec in index.items():
            name = numbered_template(key)
            templates.setdefault(name, set()).add(spec.shape)
            keys[name] = keys.get(name, 0) + (not is_table(key, kind(spec)))
        named = self.counted(dict.fromkeys(map(template_feature, templates), 1))
        shaped = self.counted(
            {template_feature(i, shape): 1 for i, held in templates.items() for shape in held}
        )
        covered = self.counted({template_feature(name): count for name, count in keys.items()})
        most = _COVERED * sum(keys.values())
        # A family has lines for what switches bring: what counts is that it explains the file.
        ranked = sorted(
            (n for n, c in named.items() if c >= _COMMON * len(templates) and covered[n] >= most),
            key=lambda n: (-named[n], -shaped.get(n, 0), self._sizes[n], n),
        )
        classes: dict[int, list[int]] = {}
        for number in ranked:
            if len(classes) < _CLASSES or self._classes[number] in classes:
                classes.setdefault(self._classes[number], []).append(number)
        few: set[int] = set()
        for numbers in classes.values():
            few |= {numbers[0]}
            numbers.sort(key=lambda n: (-named[n], -self._presets[n]))
            few |= set(numbers[:_EACH])
        alike = set(ranked)
        # An entry may be near for its shapes alone; its family's keys are what must be there.
        first = [n for n in self.counted(dict.fromkeys(map(of_preset, near), 1)) if n in alike]
        return list(dict.fromkeys([*first, *(number for number in ranked if number in few)]))

    def covering(self, keys: Iterable[str]) -> set[int]:
        """Families that have a line for each of these keys, numbers aside."""
        templates = set(map(numbered_template, keys))
        counts = self.counted(dict.fromkeys(map(template_feature, templates), 1))
        return {number for number, count in counts.items() if count == len(templates)}


def of(database: Database) -> Families | None:
    """The families that belong to a database; None where there are none."""
    return database.families(families_beside(database.path))


_opened: dict[str, Families] = {}


def families_beside(index: str) -> Families | None:
    """The families that belong to an index.bin, opened once; None where there are none."""
    path = os.path.join(os.path.dirname(index), "families.bin")
    if path not in _opened and index and os.path.exists(path):
        _opened.setdefault(path, Families(path))
    return _opened.get(path)
