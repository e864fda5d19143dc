"""The compiled model types; compile_model_types.py writes them."""

from __future__ import annotations

import os

from archfind.classes.configured import Configured, ModelType
from archfind.database.entries import start_of_tail
from archfind.database.table import Table, hashed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


MAGIC = b"archcfg8"
_VOTERS = 300  # key templates that vote for a prefix
_PREFIXES = 3


class ModelTypes(Table):
    """The compiled model types: a text each, and a row for each block, which is a class under
    today's names or under those of older files."""

    def __init__(self, source: str | bytes) -> None:
        super().__init__(source, MAGIC, 5)
        self._type, self._place, self._size, self._print, self._needed = self.columns
        self._types: dict[int, ModelType] = {}

    def type(self, number: int) -> ModelType:
        """A model type, parsed; kept, since guessing again is common."""
        found = self._types.get(number)
        if found is None:
            made = ModelType(self.text(number))
            found = self._types.setdefault(number, made)  # another thread may have been faster
        return found

    def is_named(self, choose: str) -> bool:
        """Whether a type or a class is called so; takes a look at every type."""
        name = choose.removeprefix("transformers/")
        return any(self.type(number).is_named(name) for number in range(self.texts))

    def block(self, number: int) -> Configured:
        """A class of a model type, under today's or an older file's names."""
        return self.type(self._type[number]).block(self._place[number])

    def print(self, number: int) -> int:
        """A hash of a block's lines: blocks with the same one are solved alike."""
        return self._print[number]

    def needed(self, number: int) -> int:
        """How many key templates every network of a block has, tied ones aside."""
        return self._needed[number]

    def types_with(self, template: str) -> int:
        """How many model types have a key template."""
        held = self.holders(hashed(template))
        return len({self._type[number] for number in self.members(held)}) if held >= 0 else 0

    def prefixes(self, templates: Iterable[str]) -> list[str]:
        """What stands before the key templates of known blocks, the best supported first; numbers
        only within names ("owlv#."), not those of layers."""
        votes: dict[str, int] = {}
        for number, item in enumerate(templates):
            if number == _VOTERS:
                break
            start = start_of_tail(item)
            while True:
                if self.holders(hashed(item[start:])) >= 0:
                    votes[item[:start]] = votes.get(item[:start], 0) + 1
                start = item.find(".", start) + 1
                if not start:
                    break
        votes.setdefault("", 0)
        ranked = sorted(votes, key=lambda prefix: (-votes[prefix], len(prefix)))
        most = votes[ranked[0]]
        return [p for p in ranked if "#" not in p.split(".") and 2 * votes[p] >= most][:_PREFIXES]

    def alike(self, templates: Iterable[str]) -> list[tuple[int, int, int]]:
        """Blocks as (number, templates in common, templates of its own), the most alike first. Of
        those with as many in common those come first whose networks need no others."""
        wanted: dict[int, int] = {}
        for item in map(hashed, templates):
            wanted[item] = wanted.get(item, 0) + 1
        counts = self.counted(wanted)
        found = [(n, c, self._size[n]) for n, c in counts.items()]
        found.sort(key=lambda t: (-t[1], max(0, self.needed(t[0]) - t[1]), t[2], t[0]))
        return found


_opened: dict[str, ModelTypes] = {}


def model_types_beside(index: str) -> ModelTypes | None:
    """The model types that belong to an index.bin, opened once; None where there are none."""
    path = os.path.join(os.path.dirname(index), "configured.bin")
    if path not in _opened and index and os.path.exists(path):
        _opened.setdefault(path, ModelTypes(path))
    return _opened.get(path)
