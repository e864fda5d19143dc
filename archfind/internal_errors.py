"""The boundary around the work on one file: what archfind's own code raises there is that file's
answer, with the text to send us, and the next file is not concerned. On the cold path."""

from __future__ import annotations

import os
import sys

from archfind.errors import ArchfindError, InternalError, MissingLibrary
from archfind.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from archfind.types import Checkpoint

TRACEBACK = "ARCHFIND_TRACEBACK"  # set it to see the whole traceback on stderr, too
_PLACES = 3  # of the innermost of archfind's own lines
_MESSAGE = 200  # characters of an exception's words
_HERE = os.path.dirname(os.path.abspath(__file__))


class OwnErrors:
    """`with OwnErrors(path):` gives InternalError for what isn't an ArchfindError, a plain
    ArchfindError where the system refuses or a library is missing. `checkpoint` says more of the
    file, once it is known. MemoryError and RecursionError count; what stops the program (Ctrl-C, a
    reader of stdout that went away) passes."""

    def __init__(self, path: str, checkpoint: Checkpoint | None = None) -> None:
        self.path = path
        self.checkpoint = checkpoint

    def __enter__(self) -> OwnErrors:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, ArchfindError | BrokenPipeError):
            return
        lacking = error.name if isinstance(error, ModuleNotFoundError) else ""
        if lacking and lacking.partition(".")[0] != "archfind":
            raise MissingLibrary("this", lacking, path=self.path or None) from error
        if isinstance(error, OSError) and error.strerror:
            other = isinstance(error.filename, str) and error.filename != self.path
            where = f"{error.filename}: " if other else ""
            text = f"can't be read or written: {where}{error.strerror}"
            raise ArchfindError(text, self.path or None) from error
        if os.environ.get(TRACEBACK):
            import traceback

            traceback.print_exception(error)
        raise InternalError(_report(error, at, self), self.path or None) from error


def _report(
    error: Exception, at: TracebackType | None, own: OwnErrors
) -> dict[str, str | int | list[str]]:
    """What we need to know to mend it, and no more of the file than that."""
    from archfind.escape import escape

    places: list[str] = []
    while at is not None:
        code = at.tb_frame.f_code
        if code.co_filename.startswith(_HERE + os.sep):
            file = code.co_filename[len(_HERE) + 1 :].replace(os.sep, "/")
            places.append(f"{file}:{at.tb_lineno} {code.co_name}")
        at = at.tb_next
    said = str(error)
    for name in (own.path, os.path.basename(own.path)):
        said = said.replace(name, "FILE") if len(name) > 3 else said
    found: dict[str, str | int | list[str]] = {
        "exception": type(error).__name__,
        "message": escape(said, _MESSAGE),
        "at": places[-_PLACES:][::-1],
        "archfind": VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    if own.checkpoint is not None:
        found["format"] = own.checkpoint.format
        found["tensors"] = len(own.checkpoint.index)
    return found
