"""Files made in a folder beside their place, and moved there when they are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from archfind.errors import ArchfindError, ExportError
from archfind.formats.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from archfind.types import Checkpoint


def refuse(checkpoint: Checkpoint | None, paths: Iterable[Path], force: bool) -> None:
    """ExportError where one of `paths` can't or mustn't be written: a source is never one."""
    for path in paths:
        name = escape(str(path))
        if not path.parent.is_dir():
            raise ExportError(f"there is no folder {escape(str(path.parent))}", name)
        if path.is_dir():
            raise ExportError("is a folder", name)
        for source in (checkpoint.path, *checkpoint.files) if checkpoint else ():
            if _same(source, path):
                raise ExportError("is the checkpoint itself, which is never written to", name)
        if not force and os.path.lexists(path):
            raise ExportError("exists; --force overwrites", name)


def _same(one: str, other: Path) -> bool:
    try:
        return other.samefile(one)
    except OSError:
        return False


@contextlib.contextmanager
def folder(path: Path) -> Generator[Path]:
    """A folder beside `path`, gone afterwards. Errors inside become ExportErrors about `path`."""
    try:
        # In the same file system, so that moving out of it is atomic.
        made = Path(tempfile.mkdtemp(prefix=".archfind-", dir=path.parent))
    except OSError as error:
        raise failed(error, path) from error
    try:
        yield made
    except ArchfindError as error:
        where = f"{escape(error.path)}: " if error.path and error.path != str(path) else ""
        raise ExportError(where + error.message, escape(str(path))) from error
    except OSError as error:
        raise failed(error, path) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def failed(error: OSError, path: Path) -> ExportError:
    """What the system says, as an error about `path`."""
    why = error.strerror or str(error) or type(error).__name__
    return ExportError(f"can't be written: {escape(why)}", escape(str(path)))
