"""`archfind guess`: which network each file is."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_DANGER, code_of_status, worst
from archfind.cli.printing import json_lines, print_answer, print_danger, print_failure
from archfind.cli.values import settings_of
from archfind.errors import ArchfindError
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from archfind.types import Guess


def run(arguments: argparse.Namespace) -> int:
    """Say which network each file is; the return value is the exit code."""
    if arguments.format == "jsonl":
        arguments.json = True
    elif arguments.format != "text":
        from archfind.cli.guess_tables import run_tables

        return run_tables(arguments)
    from archfind.report.answer import guess_document, guess_lines

    codes: list[int] = []
    for path in arguments.files:
        try:
            with OwnErrors(path) as own:
                found = guessed(path, arguments)
                own.checkpoint = found.canonical.checkpoint
                is_brief = arguments.quiet and not arguments.json
                document = guess_document(found, is_brief=is_brief)
                lines = (
                    json_lines(document)
                    if arguments.json
                    else guess_lines(document, quiet=arguments.quiet, verbose=arguments.verbose)
                )
        except ArchfindError as error:
            codes.append(print_failure(error, arguments, path))
            continue
        print_answer(lines, "" if arguments.json else found.status)
        if not arguments.json:
            print_danger(found.canonical.checkpoint.path, found.canonical.checkpoint.danger)
        codes.append(exit_code_of(found, arguments))
    return worst(codes)


def guessed(path: str, arguments: argparse.Namespace) -> Guess:
    """The answer for one file, as the options ask for it."""
    from archfind import guess

    return guess(
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


def exit_code_of(found: Guess, arguments: argparse.Namespace) -> int:
    """The exit code of one answer."""
    if arguments.fail_on_danger and found.canonical.checkpoint.danger:
        return EXIT_DANGER
    kind = found.kind.name if found.kind is not None else "network"
    return code_of_status(found.status, kind, is_detailed=arguments.is_detailed)
