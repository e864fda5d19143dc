"""A slice of the registered networks, families and model types, in place of all: most executions
need a few of them to go every way, and take a tenth of the time."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from archfind.database import classes as families
from archfind.database import entries
from archfind.database import model_types as types
from archfind.matching import solutions

SLICES = 200  # a network, a family or a class of a model type is in one of so many


class _SomeEntries(entries.Database):
    """The registered networks in the slice `number`."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._whole = self._starts, self._rows
        self._parts: dict[int, tuple[memoryview, memoryview]] = {}

    def narrow(self, number: int) -> None:
        """Postings of this slice alone."""
        if number not in self._parts:
            starts, postings = self._whole
            kept = array("I")
            ends = array("I", [0])
            for start, end in pairwise(starts):
                kept.extend(n for n in postings[start:end] if n % SLICES == number)
                ends.append(len(kept))
            self._parts[number] = memoryview(ends), memoryview(kept)
        self._starts, self._rows = self._parts[number]


class _SomeFamilies(families.Families):
    """Those in the slice `number`."""

    number = 0

    def resembling(self, index: Mapping[str, Any], near: Iterable[str] = ()) -> list[int]:
        found = super().resembling(index, near)
        return [n for n in found if n % SLICES == self.number]

    def covering(self, keys: Iterable[str]) -> set[int]:
        return {n for n in super().covering(keys) if n % SLICES == self.number}


class _SomeTypes(types.ModelTypes):
    """Those in the slice `number`."""

    number = 0

    def alike(self, templates: Iterable[str]) -> list[tuple[int, int, int]]:
        return [one for one in super().alike(templates) if one[0] % SLICES == self.number]


class Slices:
    """Both databases whole, and in slices."""

    def __init__(self) -> None:
        folder = os.path.dirname(entries.default().path)
        self._places = [os.path.join(folder, name) for name in ("families.bin", "configured.bin")]
        self._some = _SomeFamilies(self._places[0]), _SomeTypes(self._places[1])
        self._entries = _SomeEntries(entries.default().path)

    @contextmanager
    def only(self, number: int) -> Iterator[None]:
        """Within, there is a slice alone."""
        self._entries.narrow(number % SLICES)
        shipped = entries.default()
        entries._default[:] = [self._entries]
        caches: list[dict[str, Any]] = [families._opened, types._opened]
        kept = [dict(cache) for cache in caches]
        for cache, place, some in zip(caches, self._places, self._some, strict=True):
            some.number = number % SLICES
            cache[place] = some
        solutions._solved.clear()
        try:
            yield
        finally:
            entries._default[:] = [shipped]
            for cache, was in zip(caches, kept, strict=True):
                cache.clear()
                cache.update(was)
            solutions._solved.clear()
