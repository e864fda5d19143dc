"""What is said of a network that a user's own database names."""

from __future__ import annotations

from archfind.escape import escape, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.types import Match


def record_document(found: Match | None) -> dict[str, object] | None:
    """The signature of the user's own that names a network: its file, and what it was learnt
    from."""
    if found is None or found.record is None:
        return None
    return {"path": found.record.path, "source": found.record.source}


def record_lines(document: dict[str, Any], path: str) -> list[str]:
    """Where the signature is; of one without code, what there is to be had all the same."""
    record = document.get("record")
    if record is None:
        return []
    source = f"learnt from {escape(record['source'])}; " if record["source"] else ""
    lines = [f"record    {source}{escape(record['path'])}"]
    if document["build"] is None:
        lines.append(
            f"build     no code is recorded; write a module:  archfind source {quoted(path)}"
        )
    return lines
