"""One file -> one row of a table: flat, of plain values, and always the same columns."""

from __future__ import annotations

import hashlib
import json
import os

from archfind.errors import ArchfindError, InternalError, NotACheckpoint
from archfind.escape import escape
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import Checkpoint, Guess, TensorSpec

    Value = str | int | bool | None
    Row = dict[str, Value]

COLUMNS: Mapping[str, type] = {
    "path": str,
    "size": int,  # bytes
    "format": str,
    "kind": str,
    "status": str,
    "architecture": str,
    "class": str,
    "config": str,  # JSON: what shapes, values and the file say, without the library's defaults
    "assumed": str,  # places, with commas
    "described": str,
    "tensors": int,
    "parameters": int,
    "dtype": str,
    "is_dangerous": bool,
    "danger": str,
    "structure": str,  # a hash of keys and shapes, wrappers and prefixes aside
    "content": str,  # a hash of keys, dtypes, shapes and bytes; "" where it wasn't asked for
    "error": str,
}
_SHOWN = ("shape", "value", "file", "user")
_PIECE = 1 << 20


def row_of_file(path: str, *, is_hashed: bool = False) -> Row | None:
    """The row of a file; None for one that holds no weights. What goes wrong is in its `error`."""
    found: Row = {name: _EMPTY[kind] for name, kind in COLUMNS.items()}
    found["path"] = path
    try:
        with OwnErrors(path) as own:
            found["size"] = os.stat(path).st_size
            from archfind import formats

            checkpoint = own.checkpoint = formats.open(path)
            found.update(_read(checkpoint))
            from archfind.database import entries
            from archfind.matching import identify

            guess = identify.guess_checkpoint(checkpoint, entries.default())
            found.update(_answered(guess))
            found["content"] = _content(guess.canonical.index) if is_hashed else ""
    except NotACheckpoint:
        return None
    except InternalError as error:
        found["error"] = f"{error.message} {json.dumps(dict(error.report), sort_keys=True)}"
    except ArchfindError as error:
        found["error"] = error.message
    return found


def answer_row(guess: Guess) -> Row:
    """The row of a file that was answered already."""
    checkpoint = guess.canonical.checkpoint
    found: Row = {name: _EMPTY[kind] for name, kind in COLUMNS.items()}
    return found | {
        "path": checkpoint.path,
        "size": checkpoint.nbytes,
        **_read(checkpoint),
        **_answered(guess),
    }


def error_row(path: str, error: ArchfindError) -> Row:
    """The row of a file that can't be answered."""
    found: Row = {name: _EMPTY[kind] for name, kind in COLUMNS.items()}
    return found | {"path": path, "error": error.message}


def row_line(row: Row) -> str:
    """The row as a line of text: the path, and the answer."""
    said = row["architecture"] or row["described"] or row["kind"]
    status = "error" if row["error"] else row["status"] if row["kind"] == "network" else row["kind"]
    rest = row["error"] or said
    danger = "; DANGER" if row["is_dangerous"] else ""
    return f"{escape(str(row['path']))}: {status}, {escape(str(rest), 200)}{danger}"


_EMPTY: Mapping[type, Value] = {str: "", int: 0, bool: False}


def _read(checkpoint: Checkpoint) -> Row:
    """What the container says, by column."""
    return {
        "format": checkpoint.format,
        "is_dangerous": bool(checkpoint.danger),
        "danger": "; ".join(checkpoint.danger),
    }


def _answered(guess: Guess) -> Row:
    """What is said of a file in one line, by column."""
    from archfind.report.answer import guess_document

    document = guess_document(guess, is_brief=guess.status != "unknown")
    name = document["architecture"]
    config: dict[str, dict[str, object]] = document["config"]  # pyright: ignore[reportAssignmentType]
    shown = {k: s["value"] for k, s in config.items() if s["source"] in _SHOWN}
    assumed: list[dict[str, str]] = document["assumed"]  # pyright: ignore[reportAssignmentType]
    return {
        "kind": str(document["kind"]),
        "status": guess.status,
        "architecture": f"{document['provider']}/{name}" if name else "",
        "class": str(document["class"] or ""),
        "config": json.dumps(shown, default=str) if shown else "",
        "assumed": ", ".join(item["place"] for item in assumed),
        "described": str(document["described"] or ""),
        "tensors": int(str(document["tensors"])),
        "parameters": int(str(document["parameters"])),
        "dtype": str(document["dtype"]),
        "structure": _structure(guess.canonical.index),
    }


def _structure(index: Mapping[str, TensorSpec]) -> str:
    return _hash_of(f"{key} {index[key].shape}" for key in sorted(index))


def _hash_of(lines: object) -> str:
    made = hashlib.blake2b(digest_size=16)
    for line in lines:  # pyright: ignore[reportGeneralTypeIssues]
        made.update(f"{line}\n".encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def _content(index: Mapping[str, TensorSpec]) -> str:
    """A hash of every tensor's key, dtype, shape and bytes; "" where a tensor's bytes don't stand
    in a file as they are, in one piece."""
    made = hashlib.blake2b(digest_size=16)
    for key in sorted(index):
        spec = index[key]
        storage = spec.storage
        if storage.start < 0 or spec.pieces or spec.applied or not _is_plain(spec):
            return ""
        made.update(f"{key} {spec.dtype} {spec.shape}\n".encode("utf-8", "surrogatepass"))
        width = _WIDTHS.get(spec.dtype, 0)
        count = 1
        for size in spec.shape:
            count *= size
        if not width or spec.offset < 0 or (spec.offset + count) * width > storage.nbytes:
            return ""
        with open(storage.file, "rb") as source:
            source.seek(storage.start + spec.offset * width)
            left = count * width
            while left:
                data = source.read(min(left, _PIECE))
                if not data:
                    return ""
                made.update(data)
                left -= len(data)
    return made.hexdigest()


_WIDTHS = {
    **dict.fromkeys(("int8", "uint8", "bool", "float8_e4m3fn", "float8_e5m2"), 1),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
}


def _is_plain(spec: TensorSpec) -> bool:
    """Whether the tensor's numbers lie in the order of its dimensions, without gaps."""
    if spec.stride is None:
        return True
    step = 1
    for size, stride in zip(reversed(spec.shape), reversed(spec.stride), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return True
