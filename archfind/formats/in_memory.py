"""What is no path: bytes, an open file, or a state dict -> Checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping

from archfind.errors import NotACheckpoint, NoTensors
from archfind.types import Checkpoint, Storage, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedIOBase
    from tempfile import TemporaryDirectory
    from typing import Any

    Given = bytes | bytearray | memoryview | BufferedIOBase | Mapping[str, Any]

_DEEPEST = 8  # wrappers within each other
_PIECE = 1 << 20
_NO_VALUES = ("absent", "the state dict was given without a file; save it to one first", 0)
_kept: list[TemporaryDirectory[str]] = []


def open_given(source: Given) -> Checkpoint:
    """The checkpoint in some bytes, in an open binary file from its beginning, or in a state dict,
    wrapped or not, of anything with a dtype and a shape.

    Bytes are kept in a temporary file until the process ends, since values may be read later; an
    open file that has a name is read by its name. NotACheckpoint for anything else.
    """
    if isinstance(source, Mapping):
        return _of_state_dict(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _of_bytes([bytes(source)])
    name = getattr(source, "name", None)
    if isinstance(name, str) and os.path.exists(name):
        from archfind import formats

        return formats.open(name)
    if not hasattr(source, "read"):
        raise NotACheckpoint(f"a {type(source).__name__} is no path, file, bytes or state dict")
    source.seek(0)
    return _of_bytes(iter(lambda: source.read(_PIECE), b""))


def _of_bytes(pieces: Any) -> Checkpoint:
    from tempfile import TemporaryDirectory, mkstemp

    from archfind import formats

    if not _kept:
        _kept.append(TemporaryDirectory(prefix="archfind-"))
    descriptor, path = mkstemp(prefix="given-", dir=_kept[0].name)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            if not isinstance(piece, bytes):
                raise NotACheckpoint("the open file gives text; open it in binary mode")
            file.write(piece)
    return formats.open(path)


def _of_state_dict(state: Mapping[str, Any]) -> Checkpoint:
    index: dict[str, TensorSpec] = {}
    metadata: dict[str, object] = {}
    _flatten(state, "", index, metadata, 0)
    if not index:
        raise NoTensors("the state dict holds no tensors")
    return Checkpoint("state dict", "state-dict", index, metadata)


def _flatten(
    state: Mapping[str, Any],
    place: str,
    index: dict[str, TensorSpec],
    metadata: dict[str, object],
    depth: int,
) -> None:
    """Tensors and scalars by JSON Pointers, as of a file that holds the same."""
    for key, value in state.items():
        pointer = place + str(key).replace("~", "~0").replace("/", "~1")
        kind, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
        if isinstance(value, Mapping) and depth < _DEEPEST:
            _flatten(value, f"{pointer}/", index, metadata, depth + 1)
        elif kind is not None and shape is not None:
            dtype = str(kind).removeprefix("torch.")
            storage = Storage("", pointer, -1, int(getattr(value, "nbytes", 0)), _NO_VALUES)
            index[pointer] = TensorSpec(dtype, tuple(map(int, shape)), storage)
        elif isinstance(value, str | int | float | bool):
            metadata[pointer] = value
