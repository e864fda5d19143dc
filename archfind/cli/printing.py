"""What is printed: answers on standard output; errors, dangers and progress on standard error."""

from __future__ import annotations

import sys

from archfind import streams
from archfind.cli.exit_codes import EXIT_DANGER, EXIT_FAILED
from archfind.errors import ArchfindError, CheckpointError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import TextIO


def print_lines(lines: list[str]) -> None:
    """Lines for a terminal: whatever a file says, it stays within its line."""
    from archfind.escape import visible

    put(sys.stdout, "\n".join(map(visible, lines)) + "\n")


def json_lines(document: object) -> list[str]:
    import json

    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError:  # JSON has no NaN, and checkpoints do: a loss that diverged
        text = json.dumps(_finite(document))
    return [text.replace("\x7f", "\\u007f")]


def print_json(document: object) -> None:
    print_lines(json_lines(document))


def _finite(value: object) -> object:
    """The document with words for the numbers that JSON hasn't."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


def put(stream: TextIO, text: str) -> None:
    """Print `text`. Where nothing can be printed, an answer is of no use: the process ends."""
    error = streams.write(stream, text)
    if error is None or stream is sys.stderr:
        return
    if not isinstance(error, BrokenPipeError):  # there (`| head`) nothing is wrong
        failed(ArchfindError(f"standard output: {error.strerror}"))
    raise SystemExit(EXIT_FAILED)


def print_danger(path: str, danger: tuple[str, ...]) -> None:
    from archfind.escape import escape

    for line in danger:
        advice = (
            "archfind did not run it. Do not load it; ask for a .safetensors."
            if "would call" in line or "would import" in line
            else "Loaders that believe it may crash."
        )
        put(sys.stderr, f"{escape(path)}: DANGER: {line}. {advice}\n")


def refused(path: str, error: ArchfindError, arguments: argparse.Namespace) -> int:
    """Says why a file of several can't be read; the others are read all the same."""
    from archfind.report.answer import error_document

    code = failed(error, error_document(path, error) if arguments.json else None)
    dangerous = arguments.fail_on_danger and isinstance(error, CheckpointError) and error.danger
    return EXIT_DANGER if dangerous else code


def failed(error: ArchfindError, document: object = None) -> int:
    from archfind.escape import escape, visible

    if document is not None:
        print_json(document)
    where = f"{escape(error.path)}: " if error.path else "archfind: "
    put(sys.stderr, f"{where}error: {visible(error.message)}\n")
    return EXIT_FAILED
