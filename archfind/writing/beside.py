"""Files made in a folder beside their place, and moved there when they are whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from archfind.errors import ArchfindError, ExportError
from archfind.escape import escape
from archfind.writing import signals, temporary
from archfind.writing.target import refuse_file, write_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


@contextlib.contextmanager
def folder_beside(path: Path, place: Path | None = None) -> Generator[Path]:
    """A folder in `place`, by default the one that `path` is in; gone afterwards, also where a
    signal ends the process. Errors inside become ExportErrors about `path`."""
    try:
        # In the same file system, so that moving out of it is atomic.
        with _made(os.path.abspath(place or path.parent)) as made:
            yield made
    except ArchfindError as error:
        where = f"{escape(error.path)}: " if error.path and error.path != str(path) else ""
        raise ExportError(where + error.message, escape(str(path))) from error
    except OSError as error:
        raise write_error(error, path) from error


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """A folder among the system's temporary files, for what is only read again."""
    with _made(tempfile.gettempdir()) as made:
        yield made


@contextlib.contextmanager
def _made(parent: str) -> Generator[Path]:
    temporary.remove_abandoned(parent)
    made: list[tuple[str, int]] = []

    def clean() -> None:
        for path, _ in made:
            temporary.remove(path)

    with signals.put_away(clean):
        try:
            with signals.held():  # until its name is known, nobody could put it away
                made.append(temporary.make(parent))
            yield Path(temporary.temporary_folder(made[0][0]))
        finally:
            with signals.held():
                clean()
            for _, lock in made:
                os.close(lock)


def move(pairs: Sequence[tuple[Path, Path]], force: bool) -> None:
    """Move each new file to its final name, in this order: an interruption leaves, of each
    name, the old file or the new one. The one that makes the others count comes last. `force`
    replaces what is there. ExportError where something is, without; OSError where a file can't be
    moved."""
    for new, _ in pairs:
        _flush(new, os.O_RDWR)
    with signals.held():
        for new, final in pairs:
            _place(new, final, force)
        for parent in {final.parent for _, final in pairs}:
            with contextlib.suppress(OSError):  # not every system opens folders
                _flush(parent, os.O_RDONLY)


def _place(new: Path, final: Path, force: bool) -> None:
    if not force:
        try:
            os.link(new, final)  # unlike a rename, it never replaces
            os.unlink(new)
            return
        except FileExistsError as error:
            raise ExportError("exists; --force overwrites", escape(str(final))) from error
        except OSError:  # a file system without links
            if os.path.lexists(final):
                raise ExportError("exists; --force overwrites", escape(str(final))) from None
    os.replace(new, final)


def _flush(path: Path, flags: int) -> None:
    """What is moved into place must survive a power cut there."""
    opened = os.open(path, flags)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_small_file(path: Path, text: str | bytes) -> None:
    """A small file, whole or not at all, in place of the one that is there. ExportError where
    that is no regular file, or can't be written."""
    refuse_file(path, [], force=True)
    with folder_beside(path) as made:
        new = made / path.name
        new.write_bytes(text.encode() if isinstance(text, str) else text)
        move([(new, path)], force=True)
