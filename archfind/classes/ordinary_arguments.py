"""Arguments that people change in a published network without making it another one: its classes,
its colours, the size of its pictures. On the cold path of `archfind guess`."""

from __future__ import annotations

_ORDINARY = frozenset("num_classes in_chans img_size image_size".split())


def is_ordinary(path: str) -> bool:
    """Whether a leaf ("img_size.0") belongs to such an argument."""
    return path.partition(".")[0] in _ORDINARY
