"""`archfind export`: the network of a file, written and checked."""

from __future__ import annotations

import os

from archfind.cli.exit_codes import EXIT_EXACT
from archfind.cli.printing import print_answer, print_danger, print_json, steps_shown
from archfind.cli.values import refuse_untrusted, settings_of, size_of
from archfind.errors import ExportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def run(arguments: argparse.Namespace) -> int:
    """Write the network of a file, checked; the return value is the exit code."""
    with steps_shown():
        if arguments.trust and not arguments.code and not _is_users(arguments):
            return _program(arguments)
        return _export(arguments)


def _export(arguments: argparse.Namespace) -> int:
    """Name the network of a file, and write it."""
    from archfind import guess
    from archfind.matching.assumed import settled_by_settings
    from archfind.writing import target

    if arguments.inputs and not (arguments.trust or arguments.accept_likely):
        text = "--input is for a program that --trust runs, or with --accept-likely"
        raise ExportError(text, arguments.out)
    refuse_untrusted(arguments)
    settings = settings_of(arguments.settings)
    options: dict[str, Any] = {
        "force": arguments.force,
        "opset": arguments.opset,
        "half": arguments.half,
        "dtype": arguments.dtype,
        "max_shard_size": size_of(arguments.max_shard_size),
    }
    target.refuse_export(arguments.out, [arguments.file], copied=not settings, **options)
    from archfind import exporters
    from archfind.report.answer import export_document, export_lines, guess_document, guess_lines

    values = not arguments.no_values
    choice = {"choose": arguments.choose, "part": arguments.part, "code": arguments.code}
    place = {"signatures": arguments.signatures}
    found = guess(arguments.file, **choice, **place, trust=arguments.trust, values=values)
    target.refuse_network(found, arguments.out)
    copied = exporters.copies(arguments.out) and not settings
    graph = found.canonical.checkpoint.format == "onnx"
    if not graph and (not copied or not exporters.convertible(found, arguments.choose)):
        trusted = bool(found.matches) and found.matches[0].trusted is not None
        found = found if trusted else guess(found, choose=arguments.choose, search=True, **place)
    found, _ = settled_by_settings(
        found, settings
    )  # told before it is shown; told again, it is the same
    if not arguments.json:
        print_answer(guess_lines(guess_document(found)), found.status)
        print_danger(arguments.file, found.canonical.checkpoint.danger)
    from archfind import export

    exported = export(
        found,
        arguments.out,
        choose=arguments.choose,
        settings=settings,
        accept_ambiguous=arguments.accept_ambiguous,
        accept_likely=arguments.accept_likely,
        keep_unchecked=arguments.keep_unchecked,
        allow_expansion=arguments.allow_expansion,
        inputs=arguments.inputs,
        **place,
        **options,
    )
    if arguments.json:
        print_json(export_document(exported))
    else:
        print_answer(export_lines(exported))
    return EXIT_EXACT


def _is_users(arguments: argparse.Namespace) -> bool:
    """Whether --trust is for a class of the user's signatures, not for a program in the file."""
    from archfind import formats, guess

    if not os.path.exists(arguments.file):
        return False  # told once it is known that the rest could be done
    checkpoint = formats.open(arguments.file)
    if checkpoint.format in formats.PROGRAMS:
        return False
    choice = {"choose": arguments.choose, "part": arguments.part}
    found = guess(checkpoint, **choice, values=False, signatures=arguments.signatures)
    return bool(found.matches) and found.matches[0].trusted is not None


def _program(arguments: argparse.Namespace) -> int:
    """Run the program that a file holds, whose user trusts it, and write it."""
    from archfind import export_program

    if arguments.settings or arguments.dtype or arguments.max_shard_size:
        text = "--set, --dtype and --max-shard-size are not for a program that --trust runs"
        raise ExportError(text, arguments.out)
    exported = export_program(
        arguments.file,
        arguments.out,
        inputs=arguments.inputs,
        force=arguments.force,
        opset=arguments.opset,
        keep_unchecked=arguments.keep_unchecked,
        half=arguments.half,
        allow_expansion=arguments.allow_expansion,
    )
    from archfind.report.answer import export_document, export_lines

    if arguments.json:
        print_json(export_document(exported))
    else:
        print_answer(export_lines(exported))
    return EXIT_EXACT
