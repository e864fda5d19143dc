"""Kill -9 at fifty moments of every command that writes; what is lost.

    uv run python benchmarks/write_moments.py [--moments 50] [--only WORD]

Half of the moments are writes (folders made, files opened to be written, linked, renamed or
removed), evenly chosen among all that Python reports in the command's folder; the other half are
times, evenly over a whole run. Every target that may be replaced exists before. Behind each kill,
every file of the folder is compared with what it was and with what a whole run makes of it, and
what is aside is removed as the next write does. Behind one of them the command runs to its end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "writing"))

from test_writing import Bench, assert_nothing_lost, files, is_new, left_aside
from write_commands import COMMANDS, Driver

from archfind.writing import temporary


def evenly(count: int, last: int) -> list[int]:
    """At most `count` of the numbers 1 to `last`, with both ends."""
    if last <= count:
        return list(range(1, last + 1))
    return sorted({1 + round(n * (last - 1) / (count - 1)) for n in range(count)})


def row(bench: Bench, name: str, moments: int) -> str:
    """A command's line of the table; AssertionError where something is lost."""
    command = COMMANDS[name]
    new, events = bench.finished(name)
    with bench.folder(command) as folder:
        whole = bench.driver.run(command, folder)["seconds"]
    writes = [{"event": n} for n in evenly(moments // 2, events)]
    times = moments - len(writes)
    some = [*writes, *({"seconds": whole * (n + 0.5) / times} for n in range(times))]
    killed = aside = renewed = 0
    for how in some:
        with bench.folder(command) as folder:
            had = files(folder)
            done = bench.driver.run(command, folder, **how)
            killed += done["code"] == -9
            assert done["code"] in (0, -9), done
            found = files(folder)
            assert_nothing_lost(had, found, new, command)
            renewed += all(is_new(t, found.get(t), new) for t in command.targets)
            aside += bool(left_aside(folder))
            if how is some[len(writes) // 2]:
                assert bench.driver.run(command, folder)["code"] == 0
                found = files(folder)
                assert all(is_new(t, found.get(t), new) for t in command.targets)
            for parent in {path.parent for path in left_aside(folder)}:
                temporary.remove_abandoned(str(parent))
            assert not left_aside(folder)
    return (
        f"| `{name}` | {whole:.1f} | {events} | {len(writes)} + {times} | {killed} | {aside} | "
        f"{renewed} | nothing |"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--moments", type=int, default=50)
    options.add_argument("--only", default="")
    given = options.parse_args()
    print(
        "| command | s | writes | moments: writes + times | killed | left aside | renewed | lost |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place, Driver() as driver:
        bench = Bench(Path(place), driver)
        for name in COMMANDS:
            if given.only in name:
                print(row(bench, name, given.moments), flush=True)


if __name__ == "__main__":
    main()
