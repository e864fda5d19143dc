"""A source that was written, as a document, as lines, and as a file."""

from __future__ import annotations

from pathlib import Path

from archfind.escape import escape
from archfind.writing import beside
from archfind.writing.target import refuse_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Source

_SHOWN = 12  # assumptions, a line each


def source_document(source: Source, out: str) -> dict[str, object]:
    """What `archfind source --json` prints of a source that was written to `out`, "" for none."""
    return {
        "schema": 1,
        "path": source.canonical.checkpoint.path,
        "out": out or None,
        "grade": source.grade,
        "described": source.words,
        "tensors": len(source.canonical.index),
        "prefix": source.prefix,
        "unseen": [
            {
                "place": item.place,
                "value": item.value,
                "source": item.source,
                "reason": item.reason,
                "alternatives": list(item.alternatives),
            }
            for item in source.unseen
        ],
        "questions": list(source.questions),
        "chosen_by": source.chosen_by,
        "labels": ({"right": source.labels[0], "of": source.labels[1]} if source.labels else None),
        "text": source.text,
        "danger": list(source.canonical.checkpoint.danger),
        "error": None,
        "report": None,
    }


def source_lines(source: Source, out: str) -> list[str]:
    """What is said of a source that was written to the file `out`."""
    lines = [f"{escape(out)}: {source.grade}: {source.words}"]
    lines.append(f"  load      strict, {len(source.canonical.index)} tensors")
    proofs = {item.reason for item in source.unseen if item.source == "pair"}
    lines += [f"  proven    {escape(reason)}" for reason in sorted(proofs)]
    if source.labels is not None:
        right, total = source.labels
        lines.append(f"  labels    {right} of {total} are right")
    chosen = [item for item in source.unseen if item.source == "images"]
    lines += [f"  chosen    {item.place}={item.value} ({item.reason})" for item in chosen[:_SHOWN]]
    if len(chosen) > _SHOWN:
        lines.append(f"  chosen    {len(chosen) - _SHOWN} more, in the file's first comment")
    assumed = [item for item in source.unseen if item.source not in ("file", "pair", "images")]
    for item in assumed[:_SHOWN]:
        lines.append(f"  assumed   {item.place}={item.value} ({item.reason})")
    if len(assumed) > _SHOWN:
        lines.append(f"  assumed   {len(assumed) - _SHOWN} more, in the file's first comment")
    lines += [f"  open      {question}" for question in source.questions]
    return lines


def write_source(source: Source, out: str, *, force: bool) -> None:
    """Write the text to `out`, whole or not at all. ExportError where something is there, and
    `force` doesn't replace it, or where it would replace the checkpoint itself."""
    path = Path(out)
    refuse_file(out, [source.canonical.checkpoint.path], force=force)
    with beside.folder_beside(path) as made:
        new = made / path.name
        new.write_text(source.text, encoding="ascii")
        beside.move([(new, path)], force)
