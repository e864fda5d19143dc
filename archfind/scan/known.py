"""Rows of files that haven't changed since they were scanned, in a database of the user's own."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3

from archfind.scan.rows import COLUMNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.scan.rows import Row

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS rows (path TEXT, size INTEGER, changed INTEGER, hashed INTEGER, "
    "version TEXT, row TEXT, PRIMARY KEY (path, hashed))"
)
_WRITTEN = 200  # rows between two commits: so many are lost where a scan is killed


def place() -> str:
    """Where the database is: below XDG_CACHE_HOME, or what stands for it."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "archfind", "scan.sqlite")


def version() -> str:
    """What answers depend on beside the file: archfind, and its signatures."""
    from archfind.database import entries
    from archfind.version import VERSION

    return f"{VERSION} {entries.stamp()} {' '.join(COLUMNS)}"


class KnownRows:
    """The rows that are known, by path; a database that can't be used has none, and keeps none."""

    def __init__(self, path: str, *, is_hashed: bool) -> None:
        self._hashed = int(is_hashed)
        self._version = version()
        self._unwritten = 0
        self._base: sqlite3.Connection | None = None
        with contextlib.suppress(sqlite3.Error, OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            base = sqlite3.connect(path, timeout=5)
            base.execute(_SCHEMA)
            self._base = base

    def row(self, path: str) -> Row | None:
        """The row of the file as it is now; None where it isn't known."""
        if self._base is None:
            return None
        with contextlib.suppress(sqlite3.Error, OSError, ValueError):
            status = os.stat(path)
            wanted = os.path.abspath(path), status.st_size, status.st_mtime_ns
            found = self._base.execute(
                "SELECT row FROM rows WHERE path=? AND size=? AND changed=? AND hashed=? "
                "AND version=?",
                (*wanted, self._hashed, self._version),
            ).fetchone()
            if found:
                kept = json.loads(found[0])
                if isinstance(kept, dict) and kept.keys() == COLUMNS.keys():
                    return {**kept, "path": path}
        return None

    def keep(self, path: str, row: Row) -> None:
        """Remember a row, unless it is an error: those are tried again."""
        if self._base is None or row["error"]:
            return
        with contextlib.suppress(sqlite3.Error, OSError, UnicodeError):
            status = os.stat(path)
            self._base.execute(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)",
                (
                    os.path.abspath(path),
                    status.st_size,
                    status.st_mtime_ns,
                    self._hashed,
                    self._version,
                    json.dumps(row),
                ),
            )
            self._unwritten += 1
            if self._unwritten >= _WRITTEN:
                self._base.commit()
                self._unwritten = 0

    def close(self) -> None:
        """Write what isn't written yet."""
        if self._base is not None:
            with contextlib.suppress(sqlite3.Error):
                self._base.commit()
            self._base.close()
