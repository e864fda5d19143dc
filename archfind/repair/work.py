"""A plan in the making."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from archfind.frozen import replace as replaced
from archfind.repair.edits import Edit
from archfind.types import TensorSpec

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Want:
    """A tensor of the network. `owner` is the class of the layer that holds it; `tied` the key
    that it shares its values with, if that comes first."""

    shape: tuple[int, ...]
    dtype: str
    owner: str
    trained: bool
    tied: str = ""


@dataclass
class RepairWork:
    """`have` are the file's tensors as `edits` leave them, `want` the network's."""

    have: dict[str, TensorSpec]
    want: dict[str, Want]
    edits: list[Edit]
    notes: list[str] = field(default_factory=list)

    def missing(self) -> list[str]:
        """The network's keys that nothing has."""
        return [key for key in self.want if key not in self.have]

    def extra(self) -> list[str]:
        """Keys that the network hasn't."""
        return [key for key in self.have if key not in self.want]

    def rename(self, names: dict[str, str], note: str) -> None:
        """One edit for all of `names`."""
        if names:
            self.edits.append(Edit("rename", tuple(names), tuple(names.values()), note=note))
            self.have = {names.get(key, key): spec for key, spec in self.have.items()}

    def become(self, edit: Edit, shapes: dict[str, tuple[int, ...]]) -> None:
        """An edit whose `keys` give way to `to`, or stay, in new shapes."""
        self.edits.append(edit)
        first = self.have[edit.keys[0]]
        made = {key: replaced(first, shape=shape) for key, shape in shapes.items()}
        gone = set(edit.keys) if edit.to else set()
        self.have = {k: made.get(k, spec) for k, spec in self.have.items() if k not in gone} | made


def key_without_numbers(key: str) -> str:
    """A key less its numbers."""
    return _NUMBER.sub("#", f".{key}.")
