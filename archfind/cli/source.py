"""`archfind source`: a module that is written for a state dict."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_ANSWERED, EXIT_EXACT, EXIT_PARTIAL
from archfind.cli.printing import print_answer, print_json, print_lines
from archfind.cli.values import settings_of
from archfind.errors import BuildError
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Write, or show, a module for a state dict; the return value is the exit code."""
    from archfind import source
    from archfind.report.source import source_document, source_lines, write_source

    ways = bool(arguments.input) + bool(arguments.onnx) + bool(arguments.images)
    if bool(arguments.input) != bool(arguments.output) or ways > 1:
        text = "--input and --output go together, and without --onnx; --images without these"
        raise BuildError(text, arguments.file)
    pair = (arguments.input, arguments.output) if arguments.input else None
    with OwnErrors(arguments.file):
        written = source(
            arguments.file,
            settings=settings_of(arguments.settings),
            part=arguments.part,
            pair=pair,
            onnx=arguments.onnx,
            images=arguments.images,
        )
    if arguments.out:
        write_source(written, arguments.out, force=arguments.force)
    if arguments.json:
        print_json(source_document(written, arguments.out))
    elif arguments.out:
        print_answer(source_lines(written, arguments.out))
    else:
        print_lines(written.text.splitlines())
    return {"certain": EXIT_EXACT, "likely": EXIT_ANSWERED}.get(written.grade, EXIT_PARTIAL)
