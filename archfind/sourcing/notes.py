"""What the written file says of itself: its docstring, and the block of what no tensor shows."""

from __future__ import annotations

from archfind.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.types import Canonical, Unseen

_GRADES = {
    "certain": "the file says it itself, or a known pair of inputs and outputs agrees",
    "likely": "every dimension is explained, and what no tensor shows is assumed as listed below",
    "partial": "the tensors load strictly, and the forward is open",
}
_NAMED = 4  # places that a line names


def about_lines(name: str, words: str, grade: str, canonical: Canonical, prefix: str) -> list[str]:
    """The docstring: what network it is, and how it is loaded."""
    place = next((step.detail for step in canonical.steps if step.kind == "unwrap"), "")
    lines = [f"{_plain(words[:1].upper() + words[1:])}."]
    lines.append(f"Written by archfind for {_plain(name)}. Grade: {grade}; {_GRADES[grade]}.")
    how = "the state dict"
    if place:
        how += f" in {_plain(place)}"
    taken = [step.detail for step in canonical.steps if step.kind == "strip"]
    off = "".join(taken) + prefix
    if off:
        how += f', "{_plain(off)}" taken off its keys'
    lines.append(f"Model().load_state_dict() takes {how}, strictly.")
    return lines


def _plain(text: str) -> str:
    """A file's words as part of a docstring: one line of ASCII that can't end it."""
    return ascii(escape(text)[:120])[1:-1].replace('"', "'").replace("\\", "/")


def note_lines(grade: str, unseen: Sequence[Unseen], questions: Sequence[str]) -> list[str]:
    """The comment block: a paragraph for each thing that no tensor shows, those of one value and
    reason together."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for item in unseen:
        if item.source == "file":
            continue
        what = item.place.rpartition(".")[2] if "." in item.place else item.place
        alike = what if not what.isdecimal() else "layer"
        groups.setdefault((alike, str(item.value), item.source, item.reason), []).append(item.place)
    lines: list[str] = []
    if groups:
        lines.append("What no tensor shows, with the reason for each:")
    for (_, value, source, reason), places in groups.items():
        named = ", ".join(map(_plain, places[:_NAMED])) + (
            f" and {len(places) - _NAMED} more" * (len(places) > _NAMED)
        )
        lines.append(f"- {named} = {_plain(value)} ({source}: {_plain(reason)})")
    if questions:
        lines.append("Open:")
        lines += [f"- {_plain(question)}" for question in questions]
    return lines
