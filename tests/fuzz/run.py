"""The command: fuzzes one reader, or all, with atheris or with the standard library alone.

    python -m fuzz.run pickle --runs 1000000
    python -m fuzz.run all --seconds 60
    uv run --group fuzz python -m fuzz.run zip --engine atheris --runs 1000000

Crashing inputs go to the folder that --keep names, one file for each place that raised.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import sys
import tempfile
from pathlib import Path

from .mutate import MUTATORS

MEGABYTES = 1_024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("reader", choices=(*MUTATORS, "all"))
    parser.add_argument("--engine", choices=("plain", "atheris"), default="plain")
    parser.add_argument("--runs", type=int, default=1 << 60)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("crashes"))
    options = parser.parse_args()
    if options.engine == "atheris":
        return _atheris(options)
    resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, MEGABYTES << 20))
    from .plain import fuzz

    crashed = 0
    for reader in MUTATORS if options.reader == "all" else (options.reader,):
        found = fuzz(reader, options.runs, options.seed, options.seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{reader}: {found.runs:,} runs, {found.outcomes:,} outcomes, slowest "
            f"{found.slowest * 1e3:.0f} ms, {peak} MB, {len(found.crashes)} crashes",
            flush=True,
        )
        for place, data in found.crashes.items():
            crashed += 1
            options.keep.mkdir(parents=True, exist_ok=True)
            path = options.keep / f"{reader}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"  {place}: {path}", flush=True)
    return int(bool(crashed))


def _atheris(options: argparse.Namespace) -> int:
    import atheris  # pyright: ignore[reportMissingImports]

    with atheris.instrument_imports(include=["archfind"]):
        from .targets import TARGETS
    from .mutate import mutate
    from .seeds import LONGEST, seeds

    def mutator(data: bytes, longest: int, seed: int) -> bytes:
        return mutate(options.reader, data, random.Random(seed))[:longest]

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds(options.reader)):
            Path(folder, str(number)).write_bytes(data)
        options.keep.mkdir(parents=True, exist_ok=True)
        limits = [f"-max_len={4 * LONGEST}", "-timeout=5", f"-rss_limit_mb={MEGABYTES}"]
        if options.runs < 1 << 60:
            limits.append(f"-runs={options.runs}")
        if options.seconds < float("inf"):
            limits.append(f"-max_total_time={options.seconds:.0f}")
        where = f"-artifact_prefix={options.keep}/{options.reader}-"
        arguments = [sys.argv[0], folder, where, f"-seed={options.seed + 1}", *limits]
        atheris.Setup(arguments, TARGETS[options.reader], custom_mutator=mutator)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
