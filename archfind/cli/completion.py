"""`archfind completion`: what a shell reads to complete archfind's arguments, and the man page."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_EXACT
from archfind.cli.printing import print_lines
from archfind.cli.shell import FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Print the file of a shell; the return value is the exit code."""
    from pathlib import Path

    from archfind.cli import shell

    path = Path(shell.__file__).with_name(FILES[arguments.shell])
    print_lines(path.read_text(encoding="utf-8").splitlines())
    return EXIT_EXACT
