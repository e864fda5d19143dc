"""safetensors: a length, a JSON header, and the tensors' bytes, which are not touched."""

from __future__ import annotations

import json
from itertools import repeat
from math import prod

from archfind.dtypes import ITEMSIZE
from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint, NoTensors, Truncated
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.frozen import rows
from archfind.types import Checkpoint, Storage, TensorSpec

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "C128": "complex128",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


def read(source: ByteSource, report: Report) -> Checkpoint:
    """Reads the header, and checks that it describes exactly the file's bytes."""
    index, metadata = read_header(source)
    if not index:
        raise NoTensors("no tensors: the safetensors header lists none", source.path)
    if "archfind.quantisation" in metadata:  # what quantised_notes.py calls NOTE
        from archfind.formats.quantised_notes import with_meaning

        index = with_meaning(index, str(metadata["archfind.quantisation"]))
    return Checkpoint(
        path=source.path,
        format="safetensors",
        index=index,
        metadata=metadata,
        hints=metadata,
        warnings=tuple(report.warnings),
        files=(source.path,),
        nbytes=source.size,
        container={"header_bytes": 8 + int.from_bytes(source.read(0, 8), "little")},
    )


def read_header(source: ByteSource) -> tuple[dict[str, TensorSpec], dict[str, object]]:
    """The tensors and the `__metadata__` of one safetensors file, in the header's order."""
    length = int.from_bytes(source.read(0, 8), "little")
    if length > limits.HEADER_BYTES:
        raise LimitExceeded(
            f"refused: its safetensors header takes {length:,} bytes "
            f"(limit {limits.HEADER_BYTES:,})",
            source.path,
        )
    if length > source.size - 8:
        raise Truncated(
            f"cut off: the safetensors header alone takes {length + 8:,} bytes, "
            f"the file has {source.size:,}. Download it again.",
            source.path,
        )
    header = parse_json(source.read(8, length), "its safetensors header", source.path)
    if type(header) is not dict:
        raise NotACheckpoint("damaged: its safetensors header is not an object", source.path)
    found = header.pop("__metadata__", None)
    metadata: dict[str, object] = {}
    for key, value in found.items() if type(found) is dict else ():
        if type(value) is str:
            own = key.startswith("archfind.")  # JSON, which is nothing when it is cut
            most = limits.SIDE_BYTES if own else limits.METADATA_TEXT
            metadata[key] = value[:most]  # kohya keeps every tag of its images
        elif type(value) in (int, float, bool):
            metadata[key] = value
    return _tensors(source, header, 8 + length), metadata


def _tensors(source: ByteSource, header: dict[str, object], base: int) -> dict[str, TensorSpec]:
    kinds: list[str] = []
    shapes: list[tuple[int, ...]] = []
    spans: list[tuple[int, int]] = []
    path = source.path
    if len(header) > limits.TENSORS:
        raise LimitExceeded(
            f"refused: a header of {len(header):,} tensors (limit {limits.TENSORS:,})", path
        )
    for name, entry in header.items():
        code, shape, begin, end = _entry(name, entry, path)
        dtype = DTYPES.get(code)
        if dtype is None:
            dtype = escape(code.lower(), 40)  # a type newer than this reader; its width is unknown
        elif prod(shape) * ITEMSIZE[dtype] != end - begin:
            raise CheckpointError(
                f'damaged: "{escape(name)}" takes {end - begin:,} bytes, '
                f"which doesn't fit its shape and dtype",
                path,
            )
        kinds.append(dtype)
        shapes.append(tuple(shape))
        spans.append((begin, end))
    _refuse_holes(source, sorted(spans), base)
    storages = rows(
        Storage,
        [
            (path, name, base + begin, end - begin, None, None)
            for name, (begin, end) in zip(header, spans, strict=True)
        ],
    )
    none, no = repeat(()), repeat(None)
    each = zip(kinds, shapes, storages, repeat(0), no, none, none, no, strict=False)
    return dict(zip(header, rows(TensorSpec, each), strict=True))


def _entry(name: str, entry: object, path: str) -> tuple[str, list[int], int, int]:
    """The dtype, shape, begin and end of one tensor."""
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]  # pyright: ignore
    except (KeyError, TypeError, ValueError):
        code = shape = begin = end = None
    if (
        type(code) is str
        and type(shape) is list
        and len(shape) <= limits.DIMENSIONS
        and {int}.issuperset(map(type, shape))
        and (not shape or (min(shape) >= 0 and max(shape) < limits.DIMENSION))
        and type(begin) is int
        and type(end) is int
        and 0 <= begin <= end
    ):
        return code, shape, begin, end
    raise CheckpointError(f'damaged: the header entry of "{escape(name)}" makes no sense', path)


def _refuse_holes(source: ByteSource, spans: list[tuple[int, int]], base: int) -> None:
    at = 0
    for begin, end in spans:
        if begin != at:
            what = "overlap" if begin < at else "leave a hole"
            raise CheckpointError(f"damaged: its tensors {what} at byte {base + at:,}", source.path)
        at = end
    if base + at > source.size:
        raise Truncated(
            f"cut off: the header promises {base + at:,} bytes, the file has {source.size:,}. "
            "Download it again.",
            source.path,
        )
    if base + at < source.size:
        raise CheckpointError(
            f"damaged: {source.size - base - at:,} bytes follow the last tensor", source.path
        )


def parse_json(data: bytes, what: str, path: str) -> object:
    """Strict JSON: UTF-8, no duplicate keys, no NaN, no bottomless nesting."""
    # one character beyond the basic plane makes its whole text four bytes wide
    wide = not data.isascii() or b"\\u" in data
    if wide and len(data) > limits.JSON_WIDE:
        raise LimitExceeded(
            f"refused: {what} takes {len(data):,} bytes and is not plain ASCII "
            f"(limit {limits.JSON_WIDE:,})",
            path,
        )
    openings = data.count(b"[") + data.count(b"{")  # 100 MB of "[]," would become 2 GB of lists
    if (
        openings > limits.JSON_OPENINGS
        or data.count(b",") > limits.JSON_COMMAS
        or data.count(b":") > limits.JSON_PAIRS + len(data) // 64  # and a few within texts
    ):
        raise LimitExceeded(f"refused: {what} lists more than an honest file does", path)

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a key stands twice")
        return found

    def constant(name: str) -> object:
        raise ValueError(name)

    try:
        return json.loads(data.decode(), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise LimitExceeded(f"refused: {what} is nested too deep", path) from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, an int of 5,000 digits
        raise CheckpointError(
            f"damaged: {what} is not strict JSON ({escape(str(error), 80)})", path
        ) from None
