"""`archfind guess --format json|csv|table`: one array, or a row for each file."""

from __future__ import annotations

import csv
import io
import sys

from archfind.cli.exit_codes import worst
from archfind.cli.guess import exit_code_of, guessed
from archfind.cli.printing import print_failure, print_json, print_lines, print_text
from archfind.errors import ArchfindError
from archfind.internal_errors import OwnErrors
from archfind.report.answer import guess_document
from archfind.report.errors import error_document
from archfind.scan.rows import COLUMNS, answer_row, error_row
from archfind.scan.tables import cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from archfind.scan.rows import Row

_SHOWN = ("path", "status", "architecture", "parameters", "dtype", "assumed", "error")
_WIDEST = 60  # characters of a column of the table for people


def run_tables(arguments: argparse.Namespace) -> int:
    """Answer every file, and print all of it in one form; the return value is the exit code."""
    codes: list[int] = []
    rows: list[Row] = []
    documents: list[object] = []
    is_json = arguments.format == "json"
    if arguments.format == "csv":
        _put_row(list(COLUMNS))
    for path in arguments.files:
        try:
            with OwnErrors(path) as own:
                found = guessed(path, arguments)
                own.checkpoint = found.canonical.checkpoint
                if is_json:
                    documents.append(guess_document(found))
                else:
                    rows.append(answer_row(found))
                codes.append(exit_code_of(found, arguments))
        except ArchfindError as error:
            rows.append(error_row(path, error))
            documents.append(error_document("guess", path, error))
            codes.append(print_failure(error, arguments, path))
        if arguments.format == "csv":
            _put_row([rows[-1][name] for name in COLUMNS])
    if is_json:
        print_json(documents)
    elif arguments.format == "table":
        print_lines(_table(rows))
    return worst(codes)


def _put_row(values: Sequence[object]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([cell(value) for value in values])
    print_text(sys.stdout, text.getvalue())


def _table(rows: Sequence[Row]) -> list[str]:
    """Columns for people: a line for each row, below their names."""
    from archfind.escape import escape

    table = [list(_SHOWN)]
    table += [[escape(str(row[name]), _WIDEST) for name in _SHOWN] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
