"""Rows -> a file, as they come: lines of JSON, comma-separated values, Parquet, or a page."""

from __future__ import annotations

import csv
import json
import os
from html import escape as html_escape
from pathlib import Path

from archfind.errors import ExportError, MissingLibrary
from archfind.escape import escape
from archfind.scan.rows import COLUMNS
from archfind.writing import beside
from archfind.writing.target import refuse_file, refuse_unwritable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TextIO

    from archfind.scan.rows import Row

_GROUP = 10_000  # rows of Parquet that are written together


def refuse_table(out: str, *, force: bool) -> None:
    """ExportError where no table can be written to `out`: its suffix is another, it exists without
    `force`, or its folder takes no files."""
    if _suffix(out) not in WRITERS:
        known = ", ".join(WRITERS)
        raise ExportError(f"a scan is written to {known}, not {escape(_suffix(out))}", escape(out))
    refuse_file(out, [], force)
    refuse_unwritable(out)


def write_table(rows: Iterable[Row], out: str, *, force: bool) -> None:
    """Write the rows to `out`, whole or not at all, by its suffix."""
    path = Path(os.path.abspath(out))
    with beside.folder_beside(path) as made:
        new = made / path.name
        WRITERS[_suffix(out)](rows, new)
        beside.move([(new, path)], force)


def _suffix(out: str) -> str:
    return os.path.splitext(out)[1].lower()


def _plain(value: object) -> object:
    """Text that any encoder takes: names of files may have halves of characters."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _lines(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps({k: _plain(v) for k, v in row.items()}, ensure_ascii=False) + "\n")


def _comma_separated(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow([cell(row[name]) for name in COLUMNS])


def cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula, as OWASP advises
    (https://owasp.org/www-community/attacks/CSV_Injection)."""
    value = _plain(value)
    if isinstance(value, str):
        value = escape(value, 4000)
        return f"'{value}" if value[:1] in ("=", "+", "-", "@") else value
    return value


def _parquet(rows: Iterable[Row], path: Path) -> None:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingLibrary("Parquet", str(error.name), "scan") from error
    types: dict[type, Any] = {str: arrow.string(), int: arrow.int64(), bool: arrow.bool_()}
    schema = arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    with parquet.ParquetWriter(path, schema) as table:
        group: list[dict[str, object]] = []
        for row in rows:
            group.append({k: _plain(v) for k, v in row.items()})
            if len(group) >= _GROUP:
                table.write_table(arrow.Table.from_pylist(group, schema))
                group = []
        if group:
            table.write_table(arrow.Table.from_pylist(group, schema))


_PAGE = "path size status architecture described parameters dtype danger error".split()
_STYLE = """body{font:14px system-ui,sans-serif;margin:2em;color-scheme:light dark}
table{border-collapse:collapse}th,td{padding:.3em .7em;text-align:left;
border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}
th{position:sticky;top:0;background:Canvas}
td.n{text-align:right}tr[data-status=error] td{color:#c33}tr[data-danger] td{background:#f003}"""


def _page(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.write(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            f"<title>Scanned by archfind</title><style>{_STYLE}</style>"
            "<h1>Scanned by archfind</h1><table><thead><tr>"
        )
        out.write("".join(f'<th scope="col">{name}</th>' for name in _PAGE))
        out.write("</tr></thead><tbody>\n")
        for row in rows:
            _page_row(row, out)
        out.write("</tbody></table></html>\n")


def _page_row(row: Row, out: TextIO) -> None:
    status = "error" if row["error"] else str(row["status"])
    mark = " data-danger" if row["is_dangerous"] else ""
    cells = ""
    for name in _PAGE:
        value = row[name]
        number = isinstance(value, int)
        text = f"{value:,}" if number else html_escape(escape(str(_plain(value)), 400))
        cells += f'<td class="n">{text}</td>' if number else f"<td>{text}</td>"
    out.write(f'<tr data-status="{html_escape(status)}"{mark}>{cells}</tr>\n')


WRITERS: Mapping[str, Callable[[Iterable[Row], Path], None]] = {
    ".jsonl": _lines,
    ".csv": _comma_separated,
    ".parquet": _parquet,
    ".html": _page,
}
