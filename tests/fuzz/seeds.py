"""What fuzzing starts from: the small ones among the hostile files, and the honest one of each."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from hostile import CASES

LONGEST = 8_192
_KINDS = {"any": "", "inspect": ""}


@functools.cache
def _all() -> tuple[tuple[str, bytes], ...]:
    found: list[tuple[str, bytes]] = []
    for case in CASES:
        kind = case.name.partition("/")[0]
        if kind in ("path", "size", "name", "bomb"):  # bombs take seconds to be refused
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = case.write(Path(folder))
            if path.is_file() and path.stat().st_size <= LONGEST:
                found.append((kind, path.read_bytes()))
    return tuple(found)


def seeds(reader: str) -> list[bytes]:
    """The seeds for one reader, without repeats."""
    kind = _KINDS.get(reader, reader)
    held = [data for one, data in _all() if one.startswith(kind)]
    if kind == "pickle":
        held = [data for data in held if not data.startswith(b"PK")]
    return list(dict.fromkeys(held))
