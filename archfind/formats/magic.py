"""How torch's older files begin: a pickle of one large number."""

from __future__ import annotations

LEGACY = 0x1950A86A20F9469CFC6C
_PICKLED = b"\x8a\x0a" + LEGACY.to_bytes(10, "little") + b"."  # protocols 2 and later
_LINES = tuple(b"%c%d%s\n." % (op, LEGACY, end) for op, end in ((b"L", b"L"), (b"I", b"")))


def is_legacy(head: bytes) -> bool:
    """Whether a file starts with that number, in any protocol."""
    return (head[:1] == b"\x80" and _PICKLED in head[:40]) or head.startswith(_LINES)
