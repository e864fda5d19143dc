"""What is printed: answers on standard output; errors, dangers and progress on standard error."""

from __future__ import annotations

import os
import sys

from archfind import streams
from archfind.cli.exit_codes import EXIT_DANGER, EXIT_FAILED, code_of_error
from archfind.errors import ArchfindError, CheckpointError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager
    from typing import TextIO


def print_lines(lines: list[str]) -> None:
    """Lines as they are, but that whatever a file says stays within its line."""
    from archfind.escape import visible

    print_text(sys.stdout, "\n".join(map(visible, lines)) + "\n")


def print_answer(lines: list[str], status: str = "") -> None:
    """Lines of which the first is the answer, of this status: on a terminal with what stands out in
    colour, and as wide as it is."""
    if not is_styled(sys.stdout):
        print_lines(lines)
        return
    from archfind.cli.terminal import styled
    from archfind.escape import visible

    print_text(sys.stdout, "\n".join(styled(list(map(visible, lines)), status)) + "\n")


def is_styled(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours, to somebody who wants them
    (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def json_lines(document: object) -> list[str]:
    """A document as JSON, on one line."""
    import json

    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError:  # JSON has no NaN, and checkpoints do: a loss that diverged
        text = json.dumps(_finite(document))
    return [text.replace("\x7f", "\\u007f")]


def print_json(document: object) -> None:
    """A document as JSON, on a line of its own."""
    print_lines(json_lines(document))


def _finite(value: object) -> object:
    """The document with words for the numbers that JSON hasn't."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


def print_text(stream: TextIO, text: str) -> None:
    """Print `text`. Where nothing can be printed, an answer is of no use: the process ends."""
    error = streams.write_stream(stream, text)
    if error is None or stream is sys.stderr:
        return
    if not isinstance(error, BrokenPipeError):  # there (`| head`) nothing is wrong
        print_error(ArchfindError(f"standard output: {error.strerror}"))
    raise SystemExit(EXIT_FAILED)


def print_danger(path: str, danger: tuple[str, ...]) -> None:
    """A line on standard error for each thing that loading the file would do."""
    from archfind.escape import escape

    for line in danger:
        advice = (
            "archfind did not run it. Do not load it; ask for a .safetensors."
            if "would call" in line or "would import" in line
            else "Loaders that believe it may crash."
        )
        _put_marked(f"{escape(path)}: ", "DANGER", f": {line}. {advice}")


def print_error(error: ArchfindError) -> None:
    """The error as one line on standard error."""
    from archfind.escape import escape, visible

    where = f"{escape(error.path)}: " if error.path else "archfind: "
    _put_marked(where, "error", f": {visible(error.message)}")


def _put_marked(before: str, word: str, after: str) -> None:
    """A line on standard error, its word in red where colours are shown."""
    if is_styled(sys.stderr):
        from archfind.cli.terminal import alarming

        word = alarming(word)
    print_text(sys.stderr, f"{before}{word}{after}\n")


def steps_shown() -> AbstractContextManager[object]:
    """Shows each step of long work on a terminal, with its seconds, as it is done."""
    from archfind.steps import watching

    return watching(_show_step if sys.stderr.isatty() else None)


def _show_step(name: str, seconds: float) -> None:
    print_text(sys.stderr, f"\r  {name:<12} {seconds:.1f} s\x1b[K\n")


def print_failure(
    error: ArchfindError, arguments: argparse.Namespace | None, path: str = ""
) -> int:
    """Say why a command, or its work on one file of several, failed; the return value is the exit
    code. With --json there is an object that has it, too."""
    if arguments is not None and getattr(arguments, "json", False):
        from archfind.report.errors import error_document

        named = path or (arguments.out if arguments.command == "export" else arguments.file)
        print_json(error_document(arguments.command, named, error))
    print_error(error)
    wanted = getattr(arguments, "fail_on_danger", False)
    if wanted and isinstance(error, CheckpointError) and error.danger:
        return EXIT_DANGER
    return code_of_error(error, is_detailed=getattr(arguments, "is_detailed", False))
