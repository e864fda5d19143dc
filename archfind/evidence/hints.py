"""Names that the file itself gives its network. A claim: it chooses among what fits, no more."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Checkpoint, Entry

_NAMING = frozenset(
    "arch architecture model model_name name network backbone encoder "
    "architecture_name arch_name".split()
)


def named_in_file(checkpoint: Checkpoint, entries: list[Entry]) -> list[Entry]:
    """The entries that a hint names: {"arch": "resnetaa50"}, {"model": "timm/resnet50.a1_in1k"}."""
    claims: set[str] = set()
    for pointer, value in checkpoint.hints.items():
        if isinstance(value, str) and pointer.rpartition("/")[2] in _NAMING:
            claims.add(value.lower().replace("-", "_"))
    if not claims:
        return []
    # A timm name may carry its library before and a pretrained tag behind.
    bare = {claim.rpartition("/")[2].partition(".")[0] for claim in claims}
    return [e for e in entries if e.id in claims] or [e for e in entries if e.name in bare]
