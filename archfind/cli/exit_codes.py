"""The numbers that archfind ends with: the one place where they stand.

The short ones are for everybody. With `--detailed-exit-codes` what isn't exact, and what failed,
has a number of its own.
"""

from __future__ import annotations

from archfind.errors import (
    AmbiguousError,
    BuildError,
    CheckpointError,
    InternalError,
    MissingLibrary,
    UnknownError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.errors import ArchfindError

EXIT_EXACT, EXIT_ANSWERED, EXIT_FAILED, EXIT_DANGER, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
EXIT_PARTIAL = 4
EXIT_AMBIGUOUS, EXIT_CLOSE, EXIT_UNKNOWN, EXIT_NO_NETWORK = 10, 11, 12, 13
EXIT_UNREADABLE, EXIT_MISSING_LIBRARY, EXIT_INTERNAL = 20, 21, 22

# What each means, for --help, the manual and docs/terminal.md; a test holds that these are all.
MEANINGS = {
    EXIT_EXACT: "exact, certain, or done",
    EXIT_ANSWERED: "answered, but not exact",
    EXIT_FAILED: "refused or failed, also where standard output is full or nobody reads it",
    EXIT_DANGER: "dangerous to load (with --fail-on-danger)",
    EXIT_PARTIAL: "a source that is partial",
    EXIT_INTERRUPTED: "interrupted",
}
DETAILED_MEANINGS = {
    EXIT_AMBIGUOUS: "ambiguous, in place of 1 or 2",
    EXIT_CLOSE: "close, in place of 1 or 2",
    EXIT_UNKNOWN: "unknown, in place of 1 or 2",
    EXIT_NO_NETWORK: "the file holds no network but an adapter, say; in place of 1",
    EXIT_UNREADABLE: "the file can't be read as a checkpoint, in place of 2",
    EXIT_MISSING_LIBRARY: "a library isn't installed, in place of 2",
    EXIT_INTERNAL: "a fault of archfind's own, in place of 2",
}
_BY_STATUS = {
    "exact": EXIT_EXACT,
    "ambiguous": EXIT_AMBIGUOUS,
    "close": EXIT_CLOSE,
    "unknown": EXIT_UNKNOWN,
}
_BY_ERROR: tuple[tuple[type[ArchfindError], int], ...] = (
    (AmbiguousError, EXIT_AMBIGUOUS),
    (UnknownError, EXIT_UNKNOWN),
    (CheckpointError, EXIT_UNREADABLE),
    (MissingLibrary, EXIT_MISSING_LIBRARY),
    (InternalError, EXIT_INTERNAL),
)


def epilog() -> str:
    """The numbers, as the end of `archfind --help`."""
    every = "; ".join(f"{code} {words}" for code, words in MEANINGS.items())
    more = "; ".join(f"{code} {words}" for code, words in DETAILED_MEANINGS.items())
    end = "A signal such as SIGTERM ends archfind as it ends any program (128 and its number)."
    return f"exit codes: {every}. With --detailed-exit-codes: {more}. {end}"


def code_of_status(status: str, kind: str, *, is_detailed: bool) -> int:
    """The exit code of an answer."""
    if not is_detailed:
        return EXIT_EXACT if status == "exact" else EXIT_ANSWERED
    return EXIT_NO_NETWORK if kind != "network" else _BY_STATUS[status]


def code_of_error(error: ArchfindError, *, is_detailed: bool) -> int:
    """The exit code where a command was refused or failed."""
    if not is_detailed:
        return EXIT_FAILED
    if isinstance(error, BuildError) and (error.missing or error.unexpected or error.mismatched):
        return EXIT_CLOSE
    fits = (code for kind, code in _BY_ERROR if isinstance(error, kind))
    return next(fits, EXIT_FAILED)


def worst(codes: Sequence[int]) -> int:
    """The exit code of several files: danger, then the largest."""
    return EXIT_DANGER if EXIT_DANGER in codes else max(codes)
