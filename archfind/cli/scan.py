"""`archfind scan`: a row for each of many files."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_DANGER, EXIT_EXACT
from archfind.cli.printing import print_lines
from archfind.errors import ArchfindError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from archfind.scan.rows import Row


def run(arguments: argparse.Namespace) -> int:
    """Make the table of many files; the return value is the exit code."""
    from archfind.scan import scan
    from archfind.scan.rows import row_line

    if arguments.jobs < 0:
        raise ArchfindError(f"--jobs is a number of processes, not {arguments.jobs}")

    def show(row: Row) -> None:
        if not arguments.out:
            print_lines([row_line(row)])

    summary = scan(
        arguments.places,
        arguments.out,
        show=show,
        force=arguments.force,
        jobs=arguments.jobs,
        is_hashed=arguments.hash,
        is_cached=not arguments.no_cache,
        signatures=arguments.signatures,
    )
    print_lines(summary.lines())
    return EXIT_DANGER if arguments.fail_on_danger and summary.dangerous else EXIT_EXACT
