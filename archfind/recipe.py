"""How a person would build what was found: shared by the answer in JSON and by exported files."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Match


def recipe(found: Match) -> dict[str, object]:
    """{"callable": "timm.create_model", "args": ["resnet50"], "kwargs": {"num_classes": 10}}: what
    differs from the library's defaults, and what keeps it from downloading weights."""
    entry = found.entry
    moved = {k: s.value for k, s in found.config.items() if entry.fields.get(k) != s.value}
    return {"callable": entry.callable, "args": [entry.name], "kwargs": {**entry.fixed, **moved}}
