"""The command line. Nothing else in archfind prints or ends the process.

`parser` has every command with its arguments, a module for each command does the work, and
`printing` says what came of it.
"""

from __future__ import annotations

from archfind import streams
from archfind.cli.exit_codes import EXIT_INTERRUPTED
from archfind.cli.parser import parse_arguments, parser
from archfind.cli.printing import print_error, print_failure
from archfind.errors import ArchfindError
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "parser"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit code."""
    streams.prepare()
    arguments = None
    try:
        arguments = parse_arguments(argv)
        with OwnErrors(getattr(arguments, "file", "")):
            from importlib import import_module

            return import_module(f"archfind.cli.{arguments.command}").run(arguments)
    except ArchfindError as error:
        return print_failure(error, arguments)
    except KeyboardInterrupt:
        print_error(ArchfindError("interrupted"))
        return EXIT_INTERRUPTED
