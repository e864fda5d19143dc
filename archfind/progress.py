"""A bar on stderr for long work: drawn on a terminal, silent when piped."""

from __future__ import annotations

import contextlib
import sys

from archfind.steps import stop_if_unwanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import TypeVar

    T = TypeVar("T")


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield `items`, showing how many of `total` are done."""
    if not sys.stderr.isatty():
        for item in items:
            stop_if_unwanted()
            yield item
        return
    for done, item in enumerate(items):
        stop_if_unwanted()
        filled = 30 * done // max(total, 1)
        sys.stderr.write(f"\r{what} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}")
        sys.stderr.flush()
        yield item
    sys.stderr.write("\r\x1b[K")


def counted(items: Iterable[T], what: str) -> Iterator[T]:
    """Yield `items`, of which nobody knows how many there are, showing how many are done."""
    shown = sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        if shown and not done % 16:
            sys.stderr.write(f"\r{what} {done:,}\x1b[K")
            sys.stderr.flush()
        yield item
    if shown:
        sys.stderr.write("\r\x1b[K")


@contextlib.contextmanager
def step(what: str, always: bool = False) -> Generator[None]:
    """Show what is being done while it is: on a terminal; as a line where `always`."""
    shown = sys.stderr.isatty()
    if shown:
        sys.stderr.write(f"\r{what} ...\x1b[K")
        sys.stderr.flush()
    elif always:
        sys.stderr.write(f"{what} ...\n")
    try:
        yield
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
