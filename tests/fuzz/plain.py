"""A fuzzer of the standard library alone: it keeps what ends in a way not seen before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .mutate import mutate
from .seeds import LONGEST, seeds
from .targets import TARGETS

SLOW = 5.0  # seconds for a few kilobytes
_KEPT = 5_000


@dataclass
class Outcome:
    """What a run found: `crashes` has the input for each place that raised."""

    runs: int = 0
    outcomes: int = 0
    slowest: float = 0.0
    crashes: dict[str, bytes] = field(default_factory=dict)


def fuzz(
    reader: str,
    runs: int,
    seed: int = 0,
    seconds: float = float("inf"),
    progress: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Feeds a reader with `runs` inputs, or as many as `seconds` allow."""
    draw = random.Random(f"{reader} {seed}")
    target = TARGETS[reader]
    corpus = seeds(reader)
    seen: set[str] = set()
    found = Outcome()
    start = time.monotonic()
    for number in range(runs):
        if number < len(corpus) and not seed:
            data = corpus[number]
        else:
            data = mutate(reader, draw.choice(corpus), draw)[: 4 * LONGEST]
        begin = time.perf_counter()
        try:
            ended = target(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            ended = place(error)
            found.crashes.setdefault(ended, data)
        took = time.perf_counter() - begin
        if took > found.slowest:
            found.slowest = took
            if took > SLOW:
                found.crashes[f"takes {took:.0f} s"] = data
        found.runs += 1
        if ended not in seen:
            seen.add(ended)
            if len(corpus) < _KEPT:
                corpus.append(data)
        if not number % 1_000:
            if progress:
                progress(found)
            if time.monotonic() - start > seconds:
                break
    found.outcomes = len(seen)
    return found


def place(error: BaseException) -> str:
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else "?"
    return f"{type(error).__name__} at {where}"
