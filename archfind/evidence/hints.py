"""Names that the file itself gives its network. A claim: it chooses among what fits, no more."""

from __future__ import annotations

from archfind.evidence.said import bare_model_name, names_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Checkpoint, Entry


def named_in_file(checkpoint: Checkpoint, entries: list[Entry]) -> list[Entry]:
    """The entries that the file names: {"arch": "resnetaa50"}, {"model": "timm/resnet50.a1_in1k"},
    or an "architecture" in the config.json beside it."""
    claims = {name.lower().replace("-", "_") for _, name in names_in(checkpoint)}
    if not claims:
        return []
    names = {bare_model_name(claim) for claim in claims}
    return [e for e in entries if e.id in claims] or [e for e in entries if e.name in names]
