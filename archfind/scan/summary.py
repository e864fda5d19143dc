"""Rows -> what they have in common: counts, copies, fine-tunes, and the kinds of what is unknown.

What is kept of a row is small, so that a scan of a million files takes no more memory than its
counts."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

from archfind.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.scan.rows import Row

_SHOWN = 8  # of each list
_PATHS = 4  # of a group


class Summary:
    """Counts rows as they come."""

    def __init__(self) -> None:
        self.notes: list[str] = []  # what couldn't be listed
        self.files = self.others = self.bytes = 0
        self.statuses: Counter[str] = Counter()
        self.architectures: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.dangerous = 0
        self._copies: defaultdict[bytes, list[str]] = defaultdict(list)
        self._structures: defaultdict[bytes, dict[bytes, str]] = defaultdict(dict)

    def add(self, row: Row | None) -> None:
        """Count a row; None for a file without weights."""
        if row is None:
            self.others += 1
            return
        path = str(row["path"])
        self.files += 1
        self.bytes += int(row["size"] or 0)
        kind = str(row["kind"])
        status = str(row["status"]) if kind == "network" else kind
        self.statuses["error" if row["error"] else status] += 1
        self.dangerous += bool(row["is_dangerous"])
        if row["architecture"] and row["status"] in ("exact", "ambiguous"):
            self.architectures[str(row["architecture"])] += 1
        elif row["status"] == "unknown" and kind == "network":
            self.unknown[str(row["described"]).partition(":")[0] or "of no kind that is known"] += 1
        if row["content"]:
            content = _short(str(row["content"]))
            self._copies[content].append(path)
            self._structures[_short(str(row["structure"]))].setdefault(content, path)

    def copies(self) -> list[list[str]]:
        """The paths of files with the same tensors, whatever they are wrapped in."""
        return [paths for paths in self._copies.values() if len(paths) > 1]

    def alike(self) -> list[list[str]]:
        """The paths of files with the same keys and shapes and other values: fine-tunes of one
        another, or of one network."""
        return [list(paths.values()) for paths in self._structures.values() if len(paths) > 1]

    def lines(self) -> list[str]:
        """Text for people."""
        other = f", {self.others:,} others without weights" if self.others else ""
        lines = [f"{self.files:,} files with weights{other}; {self.bytes / 1e9:.2f} GB"]
        lines += _counted("status", self.statuses)
        lines += _counted("network", self.architectures)
        lines += _counted("unknown", self.unknown)
        if self.dangerous:
            lines.append(f"  danger    {self.dangerous:,} files name code that loading would call")
        for title, groups in (("copies", self.copies()), ("alike", self.alike())):
            for paths in sorted(groups, key=len, reverse=True)[:_SHOWN]:
                shown = ", ".join(escape(path) for path in paths[:_PATHS])
                more = f" and {len(paths) - _PATHS} more" if len(paths) > _PATHS else ""
                lines.append(f"  {title:<9} {len(paths)}: {shown}{more}")
        return lines + [f"  warning   {note}" for note in self.notes[:_SHOWN]]


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _counted(title: str, counts: Counter[str]) -> list[str]:
    lines = [f"  {title:<9} {n:,} {escape(name)}" for name, n in counts.most_common(_SHOWN)]
    if len(counts) > _SHOWN:
        rest = sum(n for _, n in counts.most_common()[_SHOWN:])
        lines.append(f"  {title:<9} {rest:,} of {len(counts) - _SHOWN} more")
    return lines
