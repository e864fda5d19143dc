"""How a person would build what was found: shared by the answer in JSON and by exported files."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Match


def arguments(found: Match) -> dict[str, object]:
    """The settings that are the library's, by field; those of a changed head are not."""
    own = {k: s.value for k, s in found.config.items()}
    if found.head is None:
        return own
    given = {k: v for k, v in own.items() if k in found.entry.fields}
    if found.head.replaces and found.entry.fields.get("num_classes") == 0:
        given.setdefault("num_classes", 2)  # any head: it marks the place, and is replaced
    return given


def recipe(found: Match) -> dict[str, object]:
    """{"callable": "timm.create_model", "args": ["resnet50"], "kwargs": {"num_classes": 10}}: what
    differs from the library's defaults, and what keeps it from downloading weights."""
    entry = found.entry
    moved = {k: v for k, v in arguments(found).items() if entry.fields.get(k) != v}
    return {"callable": entry.callable, "args": [entry.name], "kwargs": {**entry.fixed, **moved}}
