"""Descents from several starts: the one that comes nearest to a file's tensors."""

from __future__ import annotations

import time
from collections.abc import Callable

from archfind.probing.descent import Descent
from archfind.probing.probe import Moves

_START = 20.0  # seconds from another start


def descended(
    first: Descent, again: Callable[[], Descent], end: float, moves: Moves, deep: bool = False
) -> Descent:
    """The nearest descent until `end`: the `first`, one that `again` makes and that takes `moves`
    first, and where it's to go `deep`, one from each word that an argument may be."""
    if first.run(end - time.monotonic(), deep):
        return first
    best = first
    if moves:
        other = again()
        other.start_from(moves)
        other.run(end - time.monotonic(), deep)
        best = min(best, other, key=lambda one: one.cost)
    # What one word makes may look like another's with wrong numbers: each is a start.
    for words in best.words() if deep and best.cost else ():
        other = again()
        if time.monotonic() < end and other.start_at(words):
            other.run(min(_START, end - time.monotonic()), deep=False)
            best = min(best, other, key=lambda one: one.cost)
        if not best.cost:
            break
    return best
