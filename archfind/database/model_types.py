"""The compiled model types: mapped into memory, one inflated when a file resembles it."""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from bisect import bisect_left

from archfind.classes.configured import Configured, ModelType
from archfind.database.entries import start_of_tail
from archfind.errors import SignatureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


MAGIC = b"archcfg4"
_VOTERS = 300  # key templates that vote for a prefix
_PREFIXES = 3


def feature(template: str) -> int:
    """A hash of a key template."""
    return zlib.crc32(template.encode("utf-8", "surrogatepass"))


class ModelTypes:
    """The compiled index; `source` is a path or the bytes themselves."""

    def __init__(self, source: str | bytes) -> None:
        if isinstance(source, bytes):
            data = memoryview(source)
        else:
            with open(source, "rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if data[: len(MAGIC)] != MAGIC:
            raise SignatureError("not an index of this version; run: archfind signatures compile")
        start = len(MAGIC) + 24
        arrays: list[memoryview] = []
        for count in struct.unpack_from("<6I", data, len(MAGIC)):
            arrays.append(data[start : start + 4 * count].cast("I"))
            start += 4 * count
        self._features, self._lists, self._starts, self._postings, blocks, self._places = arrays
        self._blocks = blocks
        self._text = data[start:]
        self._types: dict[int, ModelType] = {}

    def __len__(self) -> int:
        return len(self._blocks) // 5

    @property
    def types(self) -> int:
        """How many model types there are."""
        return len(self._places) - 1

    def type(self, number: int) -> ModelType:
        """A model type, parsed; kept, since guessing again is common."""
        found = self._types.get(number)
        if found is None:
            blob = self._text[self._places[number] : self._places[number + 1]]
            made = ModelType(zlib.decompress(blob).decode())
            found = self._types.setdefault(number, made)  # another thread may have been faster
        return found

    def is_named(self, choose: str) -> bool:
        """Whether a type or a class is called so; takes a look at every type."""
        name = choose.removeprefix("transformers/")
        return any(self.type(number).is_named(name) for number in range(self.types))

    def block(self, number: int) -> Configured:
        kind, place = self._blocks[5 * number : 5 * number + 2]
        return self.type(kind).block(place)

    def print(self, number: int) -> int:
        """A hash of a block's lines: blocks with the same one are solved alike."""
        return self._blocks[5 * number + 3]

    def needed(self, number: int) -> int:
        """How many key templates every network of a block has, tied ones aside."""
        return self._blocks[5 * number + 4]

    def holders(self, template: str) -> int:
        """The list of blocks that have a key template, or -1."""
        wanted = feature(template)
        at = bisect_left(self._features, wanted)
        if at < len(self._features) and self._features[at] == wanted:
            return self._lists[at]
        return -1

    def types_with(self, template: str) -> int:
        """How many model types have a key template."""
        held = self.holders(template)
        if held < 0:
            return 0
        blocks = self._postings[self._starts[held] : self._starts[held + 1]]
        return len({self._blocks[5 * number] for number in blocks})

    def prefixes(self, templates: Iterable[str]) -> list[str]:
        """What stands before the key templates of known blocks, the best supported first; numbers
        only within names ("owlv#."), not those of layers."""
        votes: dict[str, int] = {}
        for number, item in enumerate(templates):
            if number == _VOTERS:
                break
            start = start_of_tail(item)
            while True:
                if self.holders(item[start:]) >= 0:
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
        lists: dict[int, int] = {}
        for item in templates:
            held = self.holders(item)
            if held >= 0:
                lists[held] = lists.get(held, 0) + 1
        counts: dict[int, int] = {}
        for held, count in lists.items():
            for number in self._postings[self._starts[held] : self._starts[held + 1]]:
                counts[number] = counts.get(number, 0) + count
        found = [(n, c, self._blocks[5 * n + 2]) for n, c in counts.items()]
        found.sort(key=lambda t: (-t[1], max(0, self.needed(t[0]) - t[1]), t[2], t[0]))
        return found


_opened: dict[str, ModelTypes] = {}


def beside(index: str) -> ModelTypes | None:
    """The model types that belong to an index.bin, opened once; None where there are none."""
    path = os.path.join(os.path.dirname(index), "configured.bin")
    if path not in _opened and index and os.path.exists(path):
        _opened.setdefault(path, ModelTypes(path))
    return _opened.get(path)
