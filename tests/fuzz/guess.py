"""The command: fuzzes the whole of `archfind guess`, in this process.

    python -m fuzz.guess --runs 1000000 --seed 1
    python -m fuzz.guess --seconds 600 --seed 7 --log fuzz.log --keep crashes
    python -m fuzz.guess --replay crashes/guess-0123456789ab.json

Crashing files go to the folder that --keep names, one for each place that raised.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from archfind.escape import escape

from .described import File, seeds
from .guessing import Folder, answered
from .plain import place
from .slices import SLICES, Slices
from .state_dict_mutations import mutated

MEGABYTES = 4_096
BASE, EACH = 2.0, 0.02  # seconds of processor time for a file, and for each of its tensors
_WHOLE = 50  # of so many rounds, one is with all families and model types, the others a slice
_ROUND = 60  # executions
_KEPT = 3_000  # files that mutation goes on from
_DRAWN = 6  # files, of which the one is mutated whose mutants take the least time
_LAST = 0.3  # weight of the last mutant's time in a file's
_INSPECTED = 16  # of so many executions one is inspected, too
_LARGE = 120  # tensors of a file that mutation still goes on from


class OverBound(BaseException):
    """An execution took more than its bound: no error that anything catches."""


@dataclass
class Outcome:
    """What the runs came to: `ways` counts the answers by how they came; `slowest` is the largest
    share of its bound that an execution took."""

    runs: int = 0
    whole: int = 0
    tensors: int = 0
    processor: float = 0.0
    slowest: float = 0.0
    slowest_seconds: float = 0.0
    ways: Counter[str] = field(default_factory=Counter)
    crashes: dict[str, File] = field(default_factory=dict)
    crashed: Counter[str] = field(default_factory=Counter)

    @property
    def statuses(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for way, count in self.ways.items():
            counted[way.partition(" ")[0]] += count
        return counted


def fuzz_guess(
    runs: int,
    seed: int,
    seconds: float = float("inf"),
    step: int = 1,
    whole: int = _WHOLE,
    progress: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Feeds `guess` with `runs` files, or as many as `seconds` allow; the same for the same seed.
    One round of `whole` is with all families and model types."""
    draw = random.Random(f"guess {seed}")
    start = list(seeds(step))
    corpus = list(start)
    folder, outcome = Folder(), Outcome()
    signal.signal(signal.SIGVTALRM, _over)
    end = time.monotonic() + seconds
    slices = Slices()

    costs: dict[int, float] = {}  # seconds that a file's mutants take, by the file's id
    ruled: dict[int, list[File]] = {}
    for file in start:
        if file.rules >= 0:
            ruled.setdefault(file.rules % SLICES, []).append(file)

    def run(count: int, some: list[File]) -> None:
        for number in range(count):
            pool = (some, corpus, start, some)[number % 4]
            drawn = [draw.choice(pool) for _ in range(_DRAWN if number % 20 else 1)]
            cheapest = min(drawn, key=lambda one: costs.get(id(one), 0.0))
            file = mutated(cheapest, draw, start)
            before = outcome.processor
            way = execute(file, folder, outcome, inspected=not outcome.runs % _INSPECTED)
            took = outcome.processor - before
            costs[id(cheapest)] = (1 - _LAST) * costs.get(id(cheapest), took) + _LAST * took
            if way not in outcome.ways and len(corpus) < _KEPT and len(file.tensors) <= _LARGE:
                corpus.append(file)
            outcome.ways[way] += 1

    for number in range(-(-runs // _ROUND)):
        count = min(_ROUND, runs - outcome.runs)
        if number % whole:
            part = draw.randrange(SLICES)
            with slices.only(part):
                run(count, ruled.get(part, start))
        else:
            outcome.whole += count
            run(count, start)
        if progress and not number % 50:
            progress(outcome)
        if time.monotonic() > end:
            break
    return outcome


def _over(*_: object) -> None:
    raise OverBound


def execute(file: File, folder: Folder, outcome: Outcome, *, inspected: bool) -> str:
    """One execution, counted; what raises or takes too long is kept."""
    bound = BASE + EACH * len(file.tensors)
    begin = time.thread_time()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, bound)
        try:
            way = answered(file, folder, inspected=inspected)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        way = f"raised {place(error)}"
        if isinstance(error, AssertionError):
            way += f" {str(error)[:60]}"
        outcome.crashed[way] += 1
        outcome.crashes.setdefault(way, file)
    took = time.thread_time() - begin
    if took > bound and not way.startswith("raised"):
        way = "raised nothing, and took longer than its bound"
        outcome.crashed[way] += 1
        outcome.crashes.setdefault(way, file)
    outcome.runs += 1
    outcome.tensors += len(file.tensors)
    outcome.processor += took
    outcome.slowest = max(outcome.slowest, took / bound)
    outcome.slowest_seconds = max(outcome.slowest_seconds, took)
    return way


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1 << 60)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", type=int, default=_WHOLE, help="one round of so many")
    parser.add_argument("--log", type=Path, help="append a line of what was run, now and then")
    parser.add_argument("--keep", type=Path, default=Path("crashes"))
    parser.add_argument("--replay", type=Path, help="one kept file, with its traceback")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, MEGABYTES << 20))
    if options.replay:
        print(answered(loaded(options.replay.read_text()), Folder(), inspected=True))
        return 0
    kept: set[str] = set()

    def progress(outcome: Outcome) -> None:
        for where in outcome.crashes.keys() - kept:
            kept.add(where)
            keep(options.keep, where, outcome.crashes[where])
        if options.log and outcome.runs % 20_000 < _ROUND * 50:
            options.log.open("a").write(said(options.seed, outcome) + "\n")

    outcome = fuzz_guess(
        options.runs, options.seed, options.seconds, whole=options.whole, progress=progress
    )
    progress(outcome)
    text = said(options.seed, outcome)
    print(text)
    for way, count in outcome.ways.most_common(60):
        print(f"  {count:>9,}  {way}")
    if options.log:
        options.log.open("a").write(f"{text} done\n")
    return int(bool(outcome.crashes))


def said(seed: int, outcome: Outcome) -> str:
    """A line of figures."""
    total = max(outcome.runs, 1)
    shares = " ".join(f"{name} {n / total:.1%}" for name, n in outcome.statuses.most_common(7))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return (
        f"seed {seed}: {outcome.runs:,} runs ({outcome.whole:,} with all), "
        f"{outcome.tensors / total:.0f} tensors each, "
        f"{outcome.processor / total * 1e3:.2f} ms each, slowest {outcome.slowest_seconds:.2f} s "
        f"({outcome.slowest:.0%} of its bound), {peak} MB, {len(outcome.ways):,} ways, "
        f"{sum(outcome.crashed.values())} crashes at {len(outcome.crashes)} places; {shares}"
    )


def keep(folder: Path, where: str, file: File) -> None:
    """Write a file that crashed, to be replayed."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(file))
    path = folder / f"guess-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    path.write_text(text)
    print(f"  {escape(where)}: {path}", flush=True)


def loaded(text: str) -> File:
    """A file that was kept."""
    found = json.loads(text)
    found["tensors"] = [(key, tuple(shape), dtype) for key, shape, dtype in found["tensors"]]
    return File(**found)


if __name__ == "__main__":
    sys.exit(main())
