"""What a hostile or damaged file is, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

READ, REFUSED = 0, 2  # exit codes of `archfind inspect`


@dataclass(frozen=True)
class Case:
    """One file, or one file with what stands beside it.

    `write` makes it in an empty folder and gives the path to read. `code` is what `archfind
    inspect` ends with, `says` a part of what it prints, `danger` whether it warns of it.
    """

    name: str
    write: Callable[[Path], Path]
    code: int
    says: str
    danger: bool = False


def holding(data: bytes | Callable[[], bytes], name: str = "x.pth") -> Callable[[Path], Path]:
    """Writes one file of these bytes."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data())
        return path

    return write


def beside(first: str, files: dict[str, bytes]) -> Callable[[Path], Path]:
    """Writes several files into one folder; `first` is the one to read."""

    def write(folder: Path) -> Path:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder / first

    return write
