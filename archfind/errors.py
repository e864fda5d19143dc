"""What can go wrong, as types.

ArchfindError          what, where and what to do next, in one line; has .path
+-- CheckpointError    the file can't be read as a checkpoint; .danger has what it would have run
|   +-- NotACheckpoint a web page, a Git LFS pointer, an image ...
|   +-- Truncated      the end is missing
|   +-- NoTensors      readable, but holds no tensors
|   +-- LimitExceeded  refused: larger or deeper than an honest file needs
+-- SignatureError     a line of signatures/ that doesn't parse, or a database that doesn't fit
+-- AmbiguousError     several functions fit; .choices names them
+-- UnknownError       no signature fits; .nearest names the closest
+-- BuildError         .missing .unexpected .mismatched, worded as torch words them
|   +-- MissingLibrary a library that the work needs isn't installed; .package, .extra
+-- ExportError        the writer failed, or its output differs from the module
+-- RepairError        an edit that would invent weights
+-- Stopped            the time was up, or the work no longer wanted
+-- InternalError      a fault of archfind's own; .report has what to send us
"""

from __future__ import annotations

from archfind.escape import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class ArchfindError(Exception):
    """Base of every error that a caller needs to catch; `str()` is one line. What files put into a
    message, keys and names, is written out where a terminal would not show it."""

    def __init__(self, message: str, path: str | None = None) -> None:
        message = visible(message)
        super().__init__(message)
        self.message = message
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        """Errors come back whole from the process of a pool, whatever their constructors take."""
        return _remade, (type(self), self.args, dict(self.__dict__))

    def __str__(self) -> str:
        return f"{visible(self.path)}: {self.message}" if self.path else self.message


def _remade(
    cls: type[ArchfindError], args: tuple[object, ...], fields: Mapping[str, object]
) -> ArchfindError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    return error


class CheckpointError(ArchfindError):
    """The file can't be read as a checkpoint. `danger` is as a Checkpoint's: what loading it would
    have run, as far as it was read."""

    danger: tuple[str, ...] = ()


class NotACheckpoint(CheckpointError):
    """The bytes are something else; the message says what."""


class Truncated(CheckpointError):
    """The file ends before its own header says that it should."""


class NoTensors(CheckpointError):
    """The file was read and holds no tensors."""


class LimitExceeded(CheckpointError):
    """Reading would take more memory or depth than an honest file needs."""


class SignatureError(ArchfindError):
    """A signature that doesn't parse or doesn't prove itself."""


class CodeError(ArchfindError):
    """There is no Python code to read where a user says that it is."""


class AmbiguousError(ArchfindError):
    """Several networks with different functions fit; nothing chooses among them."""

    def __init__(self, message: str, path: str | None, choices: tuple[str, ...]) -> None:
        super().__init__(message, path)
        self.choices = choices


class UnknownError(ArchfindError):
    """No known network fits every key and shape."""

    def __init__(self, message: str, path: str | None, nearest: tuple[str, ...]) -> None:
        super().__init__(message, path)
        self.nearest = nearest


class BuildError(ArchfindError):
    """The network was built, but the weights don't load strictly."""

    def __init__(
        self,
        message: str,
        path: str | None = None,
        missing: tuple[str, ...] = (),
        unexpected: tuple[str, ...] = (),
        mismatched: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, path)
        self.missing = missing
        self.unexpected = unexpected
        self.mismatched = mismatched


class ExportError(ArchfindError):
    """Nothing was written: the exporter failed, or its output differs from the module's."""


class MissingLibrary(BuildError, ExportError):
    """The work needs `package`, which isn't installed; `extra` is archfind's that brings it.
    Whoever catches what building or what exporting raises catches it, too."""

    def __init__(
        self, what: str, library: str, extra: str = "all", path: str | None = None
    ) -> None:
        super().__init__(f"{what} needs {library}: pip install 'archfind[{extra}]'", path)
        self.package = library
        self.extra = extra


class RepairError(ArchfindError):
    """The repair can't be done without inventing weights."""


class Stopped(ArchfindError):
    """The time was up, or the work no longer wanted, that `archfind.watching` watches."""


class InternalError(ArchfindError):
    """archfind failed where it should have answered. `report` says with what and where (exception,
    message, at, archfind, python; format and tensors, where they are known); `__cause__` is the
    exception itself."""

    def __init__(
        self, report: Mapping[str, str | int | list[str]], path: str | None = None
    ) -> None:
        said = ": ".join(filter(None, (str(report["exception"]), str(report["message"]))))
        places = " < ".join(report["at"] if isinstance(report["at"], list) else ())
        rest = [f"{name} {value}" for name, value in report.items() if name not in _FIRST]
        text = "; ".join(filter(None, (said, places, ", ".join(rest))))
        advice = "please report it with this text, and with `archfind inspect --json` of the file"
        super().__init__(f"internal error, {advice} if you may: [{text}]", path)
        self.report = report


_FIRST = ("exception", "message", "at")
