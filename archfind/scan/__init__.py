"""Many files at once: places -> rows -> a table, with what the rows have in common.

walked.py    places -> files, each once
rows.py      one file -> one row, whatever is wrong with it
known.py     rows of files that haven't changed since they were scanned
scanned.py   files -> rows, on all cores, in the order of the files
tables.py    rows -> a file of lines, comma-separated values, Parquet, or a page
summary.py   rows -> what they have in common
"""

from __future__ import annotations

import os
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from archfind.scan.rows import Row
    from archfind.scan.summary import Summary


def scan(
    places: Sequence[str],
    out: str = "",
    *,
    show: Callable[[Row], None] | None = None,
    force: bool = False,
    jobs: int = 0,
    is_hashed: bool = False,
    is_cached: bool = True,
    signatures: str = "",
) -> Summary:
    """What the files at and below `places` are: a table in `out` (.jsonl, .csv, .parquet, .html),
    where it isn't "", each row also given to `show`, and what they have in common.

    `jobs` is how many processes work, 0 for one a core. With `is_hashed` all bytes are read, so
    that copies are told. With `is_cached` the rows of files that haven't changed are taken from the
    user's cache, so that a scan that was ended goes on where it was. `signatures` is a folder of
    signatures of the user's own, in place of the usual one. ExportError where `out` can't be
    written, CheckpointError for a place that isn't there.
    """
    if signatures:
        from archfind.database.entries import with_signatures

        options: Any = {"force": force, "jobs": jobs, "is_hashed": is_hashed}
        options["is_cached"] = is_cached
        with with_signatures(signatures):
            return scan(places, out, show=show, **options)
    from archfind.progress import counted
    from archfind.scan.known import KnownRows, place
    from archfind.scan.scanned import scanned
    from archfind.scan.summary import Summary
    from archfind.scan.tables import refuse_table, write_table
    from archfind.scan.walked import walked

    if out:
        refuse_table(out, force=force)
    summary = Summary()
    with tempfile.TemporaryDirectory() as empty:
        known = KnownRows(
            place() if is_cached else os.path.join(empty, "rows"), is_hashed=is_hashed
        )
        paths = walked(places, summary.notes)

        def rows() -> Iterator[Row]:
            every = scanned(paths, known, jobs=jobs, is_hashed=is_hashed)
            for row in counted(every, "scanned"):
                summary.add(row)
                if row is not None:
                    if show is not None:
                        show(row)
                    yield row

        try:
            if out:
                write_table(rows(), out, force=force)
            else:
                for _ in rows():
                    pass
        finally:
            known.close()
    return summary
