"""A bar on stderr for long work: drawn on a terminal, silent when piped."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeVar

    T = TypeVar("T")


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield `items`, showing how many of `total` are done."""
    if not sys.stderr.isatty():
        yield from items
        return
    for done, item in enumerate(items):
        filled = 30 * done // max(total, 1)
        sys.stderr.write(f"\r{what} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}")
        sys.stderr.flush()
        yield item
    sys.stderr.write("\r\x1b[K")
