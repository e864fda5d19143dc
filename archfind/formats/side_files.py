"""What stands beside a checkpoint, or in it as text, and says something of it: config.json, PEFT's
adapter_config.json, a repair plan, JSON in metadata. Anybody wrote it, so it is read within bounds,
and every field is taken by its type. On the cold path of `archfind guess`."""

from __future__ import annotations

import os

from archfind.errors import CheckpointError, LimitExceeded
from archfind.formats import limits
from archfind.formats.safetensors import parse_json
from archfind.formats.source import ByteSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def side_file_path(checkpoint: str, name: str) -> str:
    """The path of a side file: in a checkpoint's folder, or in the checkpoint if it is a folder.
    The folder is never listed."""
    folder = checkpoint if os.path.isdir(checkpoint) else os.path.dirname(checkpoint)
    return os.path.join(folder, name)


def read_bytes(path: str, limit: int = limits.SIDE_BYTES) -> bytes:
    """All of a regular file of at most `limit` bytes; CheckpointError for anything else, which a
    FIFO or a device is, behind a link too."""
    with ByteSource(path) as source:
        if source.size > limit:
            raise LimitExceeded(f"refused: it takes {source.size:,} bytes (limit {limit:,})", path)
        return source.read(0, source.size)


def read_object(path: str, limit: int = limits.SIDE_BYTES) -> dict[str, object]:
    """The JSON object in a side file. CheckpointError says why there is none."""
    found = parse_text(read_bytes(path, limit), os.path.basename(path), path)
    if type(found) is not dict:
        raise CheckpointError("is JSON, but not an object", path)
    return found


def parse_text(text: str | bytes, what: str, path: str = "") -> object:
    """Strict JSON, as `parse_json` has it, of at most `limits.SIDE_DEPTH` levels. `what` names it
    in the CheckpointError."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if _is_deep(data):
        raise LimitExceeded(f"refused: {what} is nested too deep", path)
    return parse_json(data, what, path)


def object_in(text: str | bytes) -> dict[str, object]:
    """The JSON object that a text is; an empty one where it is none."""
    try:
        found = parse_text(text, "a note")
    except CheckpointError:
        return {}
    return found if type(found) is dict else {}


def _is_deep(data: bytes) -> bool:
    """Whether brackets outside of strings are nested deeper than the limit, or never closed."""
    if data.count(b"[") + data.count(b"{") <= limits.SIDE_DEPTH:
        return False
    outside = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    brackets = b"".join(outside).translate(None, _NOT_BRACKETS)
    for _ in range(limits.SIDE_DEPTH):  # each round takes away the innermost pairs
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets)


def claimed_number(value: object, low: float = -1e12, high: float = 1e12) -> float | None:
    """A finite number within bounds, given as one or as text ("32.0"); None for anything else."""
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) not in (int, float) or not low <= value <= high:  # pyright: ignore
        return None  # NaN lies within no bounds
    return float(value)  # pyright: ignore


def claimed_whole_number(value: object, low: int = 0, high: int = limits.DIMENSION) -> int | None:
    """An int within bounds; None for anything else, a bool too."""
    return value if type(value) is int and low <= value <= high else None


def claimed_word(value: object) -> str | None:
    """A short text without control or invisible characters; None for anything else."""
    short = type(value) is str and len(value) <= limits.SIDE_WORD and value.isprintable()  # pyright: ignore
    return value if short else None  # pyright: ignore


def claimed_words(value: object, length: int = limits.KEY_LENGTH) -> tuple[str, ...] | None:
    """A list of texts of at most `length` characters; None for anything else."""
    if type(value) is not list or not all(type(v) is str and len(v) <= length for v in value):
        return None
    return tuple(value)


def wholes(value: object, low: int = 0) -> tuple[int, ...] | None:
    """A list of ints, as a shape is; None for anything else."""
    if type(value) is not list or len(value) > limits.DIMENSIONS:
        return None
    return None if any(claimed_whole_number(v, low) is None for v in value) else tuple(value)


def like(value: object, usual: object) -> object:
    """A claimed value of a field whose usual one is `usual`: of the same type, or a number that
    says the same in another, of a size that a field can have. None for anything else."""
    if type(value) is bool or type(usual) is bool:
        return value if type(value) is type(usual) or usual is None else None
    if isinstance(value, str):
        return claimed_word(value) if isinstance(usual, str) or usual is None else None
    if type(value) is float and type(usual) is int and value.is_integer():
        value = int(value)
    if type(value) is int and (isinstance(usual, int | float) or usual is None):
        low = 0 if isinstance(usual, int) and usual >= 0 else -limits.SIDE_NUMBER
        return claimed_whole_number(value, low, limits.SIDE_NUMBER)
    if type(value) is float and (isinstance(usual, float) or usual is None):
        return claimed_number(value)
    return None


def is_plain_claim(value: object, levels: int = 4) -> bool:
    """Whether a claim is null, a scalar that a field can have, or lists of those."""
    if type(value) is list:
        few = levels > 0 and len(value) <= limits.SIDE_LIST
        return few and all(is_plain_claim(item, levels - 1) for item in value)
    if type(value) is str:
        return claimed_word(value) is not None
    return value is None or type(value) is bool or claimed_number(value) is not None


def field(path: str, value: object, usual: object) -> object:
    """As `like`, for the field at `path`: a network has no 0 heads."""
    return None if path.endswith("heads") and usual and value == 0 else like(value, usual)


def plausible(claims: Mapping[str, object], usual: Mapping[str, object]) -> dict[str, object]:
    """The claims about known fields that `field` takes, as it gives them."""
    known = ((path, value) for path, value in claims.items() if path in usual)
    taken = ((path, field(path, value, usual[path])) for path, value in known)
    return {path: value for path, value in taken if value is not None}
