"""`archfind signatures`: the database."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_EXACT, EXIT_FAILED
from archfind.cli.printing import print_lines
from archfind.errors import ArchfindError, SignatureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def run(arguments: argparse.Namespace) -> int:
    if arguments.action in ("learn", "add"):
        return _learn(arguments)
    from archfind.database.entries import with_signatures

    with with_signatures(arguments.signatures):
        return _database(arguments)


def _learn(arguments: argparse.Namespace) -> int:
    from archfind.learning import user_signatures

    place = {"signatures": arguments.signatures, "force": arguments.force}
    if arguments.action == "add":
        lines, failed = user_signatures.add_lines(arguments.names, **place)
    else:
        lines, failed = _learnt(arguments, place), False
    print_lines(lines)
    return EXIT_FAILED if failed else EXIT_EXACT


def _learnt(arguments: argparse.Namespace, place: dict[str, Any]) -> list[str]:
    from archfind.learning import user_signatures

    if bool(arguments.file) == bool(arguments.names) or len(arguments.names) > 1:
        text = "learn wants a class, PACKAGE.MODULE:CLASS, or --from FILE with --name"
        raise SignatureError(text)
    if arguments.file:
        name, part = arguments.name, arguments.part
        return user_signatures.learn_file_lines(arguments.file, name, part, **place)
    target = arguments.names[0]
    return user_signatures.learn_class_lines(target, arguments.name, arguments.args, **place)


def _database(arguments: argparse.Namespace) -> int:
    from archfind.learning import commands as commands

    if arguments.action == "list":
        print_lines(commands.list_lines(arguments.names))
    elif arguments.action == "show":
        print_lines(commands.show_lines(arguments.names))
    elif arguments.action == "compile":
        print_lines(commands.compile_lines())
    elif arguments.action == "build":
        lines, failed = commands.build_lines(arguments.names, arguments.only, arguments.again)
        print_lines(lines)
        return EXIT_FAILED if failed else EXIT_EXACT
    elif arguments.action == "families":
        print_lines(commands.families_lines(arguments.names, arguments.only, arguments.again))
    elif arguments.sample < 0:
        raise ArchfindError(f"--sample wants a number of entries, not {arguments.sample}")
    else:
        lines, failed = commands.check_lines(arguments.names, arguments.sample, arguments.seed)
        print_lines(lines)
        return EXIT_FAILED if failed else EXIT_EXACT
    return EXIT_EXACT
