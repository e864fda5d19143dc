"""GGUF (llama.cpp): metadata, then each tensor's name, shape and type; the data isn't touched.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from itertools import pairwise
from math import prod

from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint, NoTensors, Truncated
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.types import Checkpoint, Storage, TensorSpec

# ggml's types by number: name, numbers a block, bytes a block. A quantised type has no torch dtype.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("float32", 1, 4),
    1: ("float16", 1, 2),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
    9: ("q8_1", 32, 36),
    10: ("q2_k", 256, 84),
    11: ("q3_k", 256, 110),
    12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
    15: ("q8_k", 256, 292),
    16: ("iq2_xxs", 256, 66),
    17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18),
    21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136),
    24: ("int8", 1, 1),
    25: ("int16", 1, 2),
    26: ("int32", 1, 4),
    27: ("int64", 1, 8),
    28: ("float64", 1, 8),
    29: ("iq1_m", 256, 56),
    30: ("bfloat16", 1, 2),
    34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?"} | {
    10: "<Q",
    11: "<q",
    12: "<d",
}
_TEXT, _ARRAY = 8, 9
_KEY = 65_535
_LOOK = 1 << 20


def read(source: ByteSource, report: Report) -> Checkpoint:
    """Reads versions 2 and 3."""
    cursor = _Cursor(source)
    cursor.take(4)
    version = cursor.number("<I")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = "big-endian" if swapped in (2, 3) else f"version {version}"
        raise NotACheckpoint(f"a GGUF file ({what}), which is not supported", source.path)
    tensors, pairs = cursor.number("<Q"), cursor.number("<Q")
    if tensors * 24 > source.size or pairs * 12 > source.size:
        raise CheckpointError(
            "damaged: its GGUF header counts more than the file holds", cursor.path
        )
    if tensors > limits.TENSORS or pairs > limits.METADATA_ENTRIES:
        raise LimitExceeded(
            f"refused: a GGUF header of {tensors:,} tensors and {pairs:,} values", cursor.path
        )
    metadata: dict[str, object] = {}
    for _ in range(pairs):
        key = cursor.text(_KEY)
        value = _value(cursor, cursor.number("<I"))
        pointer = key.replace("~", "~0").replace("/", "~1")
        if pointer in metadata:
            raise CheckpointError(f'damaged: "{escape(key)}" stands twice', cursor.path)
        metadata[pointer] = value
    found = [_tensor(cursor) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20:
        raise CheckpointError("damaged: its GGUF alignment makes no sense", source.path)
    base = cursor.at + -cursor.at % alignment
    index = _index(source, found, base)
    if not index:
        raise NoTensors("no tensors: a GGUF file that lists none", source.path)
    return Checkpoint(
        path=source.path,
        format="gguf",
        index=index,
        metadata=metadata,
        hints={key: value for key, value in metadata.items() if not key.startswith("tokenizer.")},
        danger=tuple(report.danger()),
        warnings=tuple(report.warnings),
        files=(source.path,),
        nbytes=source.size,
        container={"version": version, "alignment": alignment},
    )


def _index(
    source: ByteSource, found: list[tuple[str, tuple[int, ...], int, int]], base: int
) -> dict[str, TensorSpec]:
    index: dict[str, TensorSpec] = {}
    path = source.path
    spans: list[tuple[int, int]] = []
    for name, shape, code, offset in found:
        dtype, block, width = TYPES.get(code, (f"ggml_type_{code}", 1, 0))
        count = prod(shape)
        if shape and shape[-1] % block:
            raise CheckpointError(f'damaged: "{escape(name)}" is not made of whole blocks', path)
        nbytes = count // block * width
        if base + offset + nbytes > source.size:
            raise Truncated(
                f'cut off: "{escape(name)}" ends at byte {base + offset + nbytes:,}, the file has '
                f"{source.size:,}. Download it again.",
                path,
            )
        key = name.replace("~", "~0").replace("/", "~1")
        if key in index:
            raise CheckpointError(f'damaged: "{escape(name)}" stands twice', path)
        index[key] = TensorSpec(dtype, shape, Storage(path, name, base + offset, nbytes))
        if nbytes:
            spans.append((offset, offset + nbytes))
    spans.sort()
    if any(second[0] < first[1] for first, second in pairwise(spans)):
        raise CheckpointError("damaged: its tensors overlap", path)
    return index


def _tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.text(_KEY)
    rank = cursor.number("<I")
    if rank > 8:
        raise CheckpointError(f'damaged: "{escape(name)}" has {rank:,} dimensions', cursor.path)
    shape = tuple(reversed([cursor.number("<Q") for _ in range(rank)]))  # ggml's order is reversed
    if any(dim >= limits.DIMENSION for dim in shape):
        raise CheckpointError(f'damaged: "{escape(name)}" has an impossible shape', cursor.path)
    return name, shape, cursor.number("<I"), cursor.number("<Q")


def _value(cursor: _Cursor, kind: int) -> object:
    if kind == _TEXT:
        return cursor.text(cursor.source.size)[: limits.METADATA_TEXT]
    if kind == _ARRAY:
        return _array(cursor)
    form = _SCALARS.get(kind)
    if form is None:
        raise CheckpointError(f"damaged: a GGUF value of type {kind}", cursor.path)
    return cursor.number(form)


def _array(cursor: _Cursor) -> object:
    """A short array of scalars as a list, others in words: a vocabulary has 100,000 entries."""
    kind, count = cursor.number("<I"), cursor.number("<Q")
    if kind in _SCALARS:
        form = _SCALARS[kind]
        width = struct.calcsize(form)
        if count > limits.SHORT_LIST:
            cursor.skip(width * count)
            return f"array of {count} numbers"
        return [cursor.number(form) for _ in range(count)]
    if kind != _TEXT:
        raise CheckpointError("damaged: a GGUF array of arrays", cursor.path)
    if count * 8 > cursor.source.size:
        raise CheckpointError("damaged: a GGUF array counts more than the file holds", cursor.path)
    if count > limits.PICKLE_OBJECTS:
        raise LimitExceeded(f"refused: a GGUF array of {count:,} texts", cursor.path)
    kept = [cursor.text(1 << 20) for _ in range(min(count, limits.SHORT_LIST))]
    for _ in range(count - len(kept)):
        cursor.skip(cursor.number("<Q"))
    return kept if count == len(kept) else f"array of {count} texts"


class _Cursor:
    """Reads onwards; every length is checked against the file before it is believed."""

    def __init__(self, source: ByteSource) -> None:
        self.source, self.path = source, source.path
        self.at, self.near, self.start = 0, b"", 0
        self.fields = 0

    def take(self, length: int) -> bytes:
        begin = self.at - self.start
        if not 0 <= begin <= len(self.near) - length:
            left = self.source.size - self.at
            self.near = self.source.read(self.at, max(length, min(_LOOK, left)))
            self.start, begin = self.at, 0
        self.at += length
        return self.near[begin : begin + length]

    def skip(self, length: int) -> None:
        if length > self.source.size - self.at:
            raise Truncated("cut off: its GGUF header is longer than the file", self.path)
        self.at += length

    def number(self, form: str):
        self.fields += 1
        if self.fields > limits.GGUF_FIELDS:
            raise LimitExceeded(
                f"refused: a GGUF header of more than {limits.GGUF_FIELDS:,} fields", self.path
            )
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, most: int) -> str:
        length = self.number("<Q")
        if length > most or length > self.source.size - self.at:
            raise CheckpointError(f"damaged: a GGUF text of {length:,} bytes", self.path)
        if length > limits.TEXT_BYTES:
            self.skip(length)
            return f"text of {length} bytes"
        return self.take(length).decode("utf-8", "replace")
