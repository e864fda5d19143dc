"""`archfind guess`: which network each file is."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_DANGER
from archfind.cli.printing import json_lines, print_danger, print_lines, refused
from archfind.cli.values import settings_of
from archfind.errors import ArchfindError
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from archfind.types import Guess


def run(arguments: argparse.Namespace) -> int:
    from archfind import guess
    from archfind.report.answer import guess_document, guess_lines

    codes: list[int] = []
    for path in arguments.files:
        try:
            with OwnErrors(path) as own:
                found: Guess = guess(
                    path,
                    choose=arguments.choose,
                    part=arguments.part,
                    search=arguments.search,
                    settings=settings_of(arguments.settings),
                    code=arguments.code,
                    values=not arguments.no_values,
                    trust=arguments.trust,
                    signatures=arguments.signatures,
                )
                own.checkpoint = found.canonical.checkpoint
                is_brief = arguments.quiet and not arguments.json
                document = guess_document(found, is_brief=is_brief)
                lines = (
                    json_lines(document)
                    if arguments.json
                    else guess_lines(document, quiet=arguments.quiet, verbose=arguments.verbose)
                )
        except ArchfindError as error:
            codes.append(refused(path, error, arguments))
            continue
        print_lines(lines)
        if not arguments.json:
            print_danger(found.canonical.checkpoint.path, found.canonical.checkpoint.danger)
        danger = arguments.fail_on_danger and found.canonical.checkpoint.danger
        codes.append(EXIT_DANGER if danger else int(found.status != "exact"))
    return max(codes)
