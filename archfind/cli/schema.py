"""`archfind schema`: the contract of what commands print with --json."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_EXACT
from archfind.cli.printing import print_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(_: argparse.Namespace) -> int:
    """Print the JSON Schema; the return value is the exit code."""
    from archfind.report.errors import SCHEMA

    with open(SCHEMA, encoding="utf-8") as file:
        print_lines(file.read().splitlines())
    return EXIT_EXACT
