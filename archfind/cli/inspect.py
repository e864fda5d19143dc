"""`archfind inspect`: what is in each file."""

from __future__ import annotations

from archfind.cli.exit_codes import (
    EXIT_DANGER,
    EXIT_EXACT,
)
from archfind.cli.printing import json_lines, print_danger, print_lines, refused
from archfind.errors import ArchfindError
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
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
            codes.append(refused(path, error, arguments))
            continue
        print_lines(lines)
        if not arguments.json:
            print_danger(path, checkpoint.danger)
        danger = arguments.fail_on_danger and checkpoint.danger
        codes.append(EXIT_DANGER if danger else EXIT_EXACT)
    return max(codes)
