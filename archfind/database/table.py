"""A compiled table: rows of numbers and texts that are looked up by features, which are hashes.

It's mapped into memory and read where needed: nothing is parsed at start, a lookup is a binary
search, and a text is inflated when it's asked for. Layout, little-endian: a magic of eight bytes
that names the kind of table, eight u32 (how many of each), then

    buckets   u32 x K+1  where the features start whose upper half is 0, 1, ...; K is 0 in a small
                         table, whose features are whole
    starts    u32 x L+1  where a list starts
    columns   u32 x C    numbers of each row, column after column
    places    u32 x T+1  where a text starts
    features  u16 x F    sorted, the lower halves; in a small table u32
    lists     u16 x F    which list of rows each feature has; features with the same rows share one
    rows      u16 x P    the lists: row numbers
    common    u8 x B     zlib: lines that many texts have, a dictionary for their compression
    texts     bytes      zlib with that dictionary, one run a text
"""

from __future__ import annotations

import mmap
import struct
import zlib
from bisect import bisect_left

from archfind.errors import SignatureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_COUNTS = struct.Struct("<8I")
_SIZES = (4, 4, 4, 4, 2, 2, 2, 1)  # bytes of a number in each array
_WHOLE = (4, 4, 4, 4, 4, 2, 2, 1)  # the same in a small table
_BUCKETS = 1 << 16
_MANY = 200_000  # features, of which halves and buckets are smaller than the features
_FORMATS = {4: "I", 2: "H", 1: "B"}
_COMMON = 1 << 15  # bytes: as far as zlib looks back
_SHARED = 3  # texts at least that have a common line


def hashed(text: str) -> int:
    """The feature of a text. Collisions cost a wasted comparison, never a wrong answer."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


class Table:
    """An opened table; `source` is a path or the bytes themselves. SignatureError where it's of
    another kind or version."""

    def __init__(self, source: str | bytes, magic: bytes, columns: int) -> None:
        self.path = source if isinstance(source, str) else ""
        if isinstance(source, bytes):
            data = memoryview(source)
        else:
            with open(source, "rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if data[: len(magic)] != magic:
            raise SignatureError("not an index of this version; run: archfind signatures compile")
        start = len(magic) + _COUNTS.size
        arrays: list[memoryview] = []
        counts = _COUNTS.unpack_from(data, len(magic))
        for size, count in zip(_SIZES if counts[0] > 1 else _WHOLE, counts, strict=True):
            part = data[start : start + size * count]
            arrays.append(part.cast(_FORMATS[size]))  # pyright: ignore
            start += size * count
        self._buckets, self._starts, numbers, self._places = arrays[:4]
        self._features, self._lists, self._rows, self._packed = arrays[4:]
        self._common: bytes | None = None
        rows = len(numbers) // columns
        self.columns = [numbers[rows * n : rows * (n + 1)] for n in range(columns)]
        self._texts = data[start:]

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def lists(self) -> int:
        """How many lists of rows there are."""
        return len(self._starts) - 1

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return len(self._places) - 1

    def text(self, number: int) -> str:
        """A text, inflated."""
        if self._common is None:
            self._common = zlib.decompress(self._packed)
        blob = self._texts[self._places[number] : self._places[number + 1]]
        return zlib.decompressobj(zdict=self._common).decompress(blob).decode()

    def holders(self, feature: int) -> int:
        """The list of rows that have a feature, or -1."""
        first, last = 0, len(self._features)
        if len(self._buckets) > 1:
            bucket, feature = feature >> 16, feature & 0xFFFF
            first, last = self._buckets[bucket], self._buckets[bucket + 1]
        at = bisect_left(self._features, feature, first, last)
        return self._lists[at] if at < last and self._features[at] == feature else -1

    def members(self, holders: int) -> Sequence[int]:
        """The row numbers of a list."""
        return self._rows[self._starts[holders] : self._starts[holders + 1]]

    def counted(self, weights: Mapping[int, int]) -> dict[int, int]:
        """The weights of the features that each row has, together."""
        lists: dict[int, int] = {}
        for feature, weight in weights.items():
            held = self.holders(feature)
            if held >= 0:
                lists[held] = lists.get(held, 0) + weight
        counts: dict[int, int] = {}
        for held, weight in lists.items():
            for number in self.members(held):
                counts[number] = counts.get(number, 0) + weight
        return counts


def compiled(
    magic: bytes,
    holders: Mapping[int, Sequence[int]],
    columns: Sequence[Sequence[int]],
    texts: Iterable[str],
) -> bytes:
    """The bytes of a table: the rows that have each feature, the columns of numbers, the texts. The
    same bytes from the same input, every time."""
    features = sorted(holders)
    lists: dict[tuple[int, ...], int] = {}
    where = [lists.setdefault(tuple(holders[item]), len(lists)) for item in features]
    starts, rows = [0], []
    for members in lists:
        rows += members
        starts.append(len(rows))
    texts = list(texts)
    common = _common_lines(texts)
    blobs: list[bytes] = []
    for text in texts:
        packer = zlib.compressobj(9, zdict=common)
        blobs.append(packer.compress(text.encode()) + packer.flush())
    places = [0]
    for blob in blobs:
        places.append(places[-1] + len(blob))
    numbers = [number for column in columns for number in column]
    buckets = [0]
    if len(features) > _MANY:
        buckets = [bisect_left(features, upper << 16) for upper in range(_BUCKETS + 1)]
        features = [feature & 0xFFFF for feature in features]
    sizes = _SIZES if len(buckets) > 1 else _WHOLE
    arrays = [buckets, starts, numbers, places, features, where, rows, zlib.compress(common, 9)]
    head = magic + _COUNTS.pack(*map(len, arrays))
    packed = [
        struct.pack(f"<{len(array)}{_FORMATS[size]}", *array)
        for size, array in zip(sizes, arrays, strict=True)
    ]
    return head + b"".join(packed) + b"".join(blobs)


def _common_lines(texts: Sequence[str]) -> bytes:
    """The lines that save most by standing in the dictionary, those last, where zlib finds them
    with the shortest codes."""
    from collections import Counter  # late: on the cold path nothing else needs it

    counts = Counter(line for text in texts for line in {*text.split("\n")})
    shared = [line for line, count in counts.items() if count >= _SHARED]
    shared.sort(key=lambda line: (counts[line] * len(line), line))
    return "\n".join(shared).encode()[-_COMMON:]
