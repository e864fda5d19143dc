"""`archfind inspect`: what is in each file."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_DANGER, EXIT_EXACT, worst
from archfind.cli.printing import json_lines, print_answer, print_danger, print_failure
from archfind.errors import ArchfindError
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Say what is in each file; the return value is the exit code."""
    from archfind import formats
    from archfind.report.inspection import inspect_document
    from archfind.report.inspection_text import inspect_lines

    codes: list[int] = []
    for path in arguments.files:
        try:
            with OwnErrors(path) as own:
                checkpoint = own.checkpoint = formats.open(path)
                document = inspect_document(checkpoint)
                lines = json_lines(document) if arguments.json else inspect_lines(document)
        except ArchfindError as error:
            codes.append(print_failure(error, arguments, path))
            continue
        print_answer(lines)
        if not arguments.json:
            print_danger(path, checkpoint.danger)
        danger = arguments.fail_on_danger and checkpoint.danger
        codes.append(EXIT_DANGER if danger else EXIT_EXACT)
    return worst(codes)
