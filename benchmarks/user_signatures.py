"""What a user's own signatures cost: processor time of `archfind guess` of one file, cold, without
any and with so many, each with rules for other arguments.

    python benchmarks/user_signatures.py FILE [--counts 0 2 200]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_TEXT = """# archfind signature 1

[own/net{n}]
class   nets.Net
args    {{"width": 24, "depth": 12}}
fields  num_classes=10
stem{n}.weight  24 3 3 3
stages.{{0..11}}.conv.{{weight}}  24 24 3 3
stages.{{0..11}}.bn.{{weight|bias|running_mean|running_var}}  24
fc.weight  num_classes 24

[nets.Net/1]
base    own/net{n}
held    8 8
leaf    width 24 options [48]
leaf    depth 12 options [4]
leaf    num_classes 10 options [11]
preset  own/net{n} {{}}
stem{n}.weight  width 3 3 3
stages.{{i<depth}}.conv.weight  width width 3 3
stages.{{i<depth}}.bn.weight  width
stages.{{i<depth}}.bn.bias  width
stages.{{i<depth}}.bn.running_mean  width
stages.{{i<depth}}.bn.running_var  width
fc.weight  num_classes width
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file")
    options.add_argument("--counts", type=int, nargs="*", default=[0, 2, 200])
    options.add_argument("--runs", type=int, default=11)
    given = options.parse_args()
    for count in given.counts:
        with tempfile.TemporaryDirectory() as home:
            place = Path(home, "archfind", "signatures")
            for number in range(count):
                place.mkdir(parents=True, exist_ok=True)
                (place / f"net{number}.txt").write_text(_TEXT.format(n=number))
            spent = [_seconds(given.file, home) for _ in range(given.runs)]
        middle, least = statistics.median(spent), min(spent)
        print(f"{count:>4} signatures  {middle * 1000:.0f} ms, at least {least * 1000:.0f} ms")


def _seconds(file: str, home: str) -> float:
    """Processor time of one guess in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "archfind", "guess", "-q", file]
    done = subprocess.run(
        command, env={**os.environ, "XDG_DATA_HOME": home}, capture_output=True, text=True
    )
    assert done.returncode < 2 and not done.stderr, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
