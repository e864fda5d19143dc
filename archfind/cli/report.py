"""`archfind report`: one page about a file."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_EXACT
from archfind.cli.printing import print_answer, print_danger
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Write the page; the return value is the exit code."""
    from pathlib import Path

    from archfind import guess
    from archfind.escape import escape
    from archfind.report.explained_keys import explanation
    from archfind.report.page import page
    from archfind.writing import beside
    from archfind.writing.target import refuse_file

    refuse_file(arguments.out, [arguments.file], arguments.force)
    with OwnErrors(arguments.file) as own:
        found = guess(arguments.file, choose=arguments.choose, part=arguments.part)
        own.checkpoint = found.canonical.checkpoint
        text = page(found, explanation(found))
    path = Path(arguments.out)
    with beside.folder_beside(path) as made:
        new = made / path.name
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
        refuse_file(arguments.out, [arguments.file], arguments.force)
        beside.move([(new, path)], arguments.force)
    print_answer([f"{escape(arguments.out)}: written, {len(text):,} characters"])
    print_danger(arguments.file, found.canonical.checkpoint.danger)
    return EXIT_EXACT
