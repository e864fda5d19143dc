"""archfind beside spandrel on the same files: image restorers with arguments drawn at random.

    nice python benchmarks/beside_spandrel.py --cases 104 --seed 0

Both get a file alone: no name, no settings. For each,
    right    the class is the one that the file was made with
    loads    every parameter of the file is in the module (tables that a class makes for a picture's
             size aren't counted)
    equal    the module computes what the original computes
    cold     a whole process that names the network (spandrel names it by loading it), and one that
             loads it: the median of --runs, in turns, on the same files
    memory   the largest peak of those processes
Progress on stderr, a line for each miss on stdout. The exit code is 1 where archfind is behind in a
row.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import spandrel
import spandrel_extra_arches
import torch
from drawn_cases import separate
from outputs import CLOSE_TO, difference, run, run_original
from torch import nn
from variant_sweep import REDRAWS, Case, classes, variant

import archfind
from archfind.errors import ArchfindError
from archfind.learning.twins import randomise_seeded
from archfind.probing.config import moved
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.example import example_for_variant

TOOLS = ("archfind", "spandrel")
NAMING = {
    "archfind": "import archfind,sys; print(archfind.guess(sys.argv[1]).matches[0].entry.name)",
    "spandrel": (
        "import spandrel,spandrel_extra_arches,sys; spandrel_extra_arches.install();"
        "print(spandrel.ModelLoader().load_from_file(sys.argv[1]).architecture.id)"
    ),
}
LOADING = {
    "archfind": "import archfind,sys; archfind.load(sys.argv[1], accept_ambiguous=True)",
    "spandrel": NAMING["spandrel"],
}


def loaded(tool: str, path: Path) -> nn.Module:
    """The module that a tool makes of a file."""
    if tool == "archfind":
        return archfind.load(path, accept_ambiguous=True)
    model = spandrel.ModelLoader().load_from_file(str(path)).model
    assert isinstance(model, nn.Module)
    return model.eval()


def cold(code: str, path: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of a process of its own."""
    # Not ru_maxrss, which a child takes over from the process that starts it.
    peak = f"{code}\nprint(*(l.split()[1] for l in open('/proc/self/status') if 'VmHWM' in l))"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", peak, str(path)], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, int(done.stdout.split()[-1]) / 1024


def judge(case: Case, module: nn.Module, path: Path, counts: Counter[str]) -> bool:
    """Count what both make of a case; False where the original itself doesn't run."""
    library, _, name = case.entry.partition("/")
    example = example_for_variant(
        provider(library).example(name, module), moved(case.base, case.moves)
    )
    inputs, expected, _ = run_original(example.args, module)
    if expected is None:
        return False
    torch.save(separate(module.state_dict()), path)
    wanted = sum(tensor.numel() for tensor in module.parameters())
    counts["cases"] += 1
    for tool in TOOLS:
        try:
            found = loaded(tool, path)
        except (ArchfindError, Exception) as error:  # spandrel raises what its classes raise
            print(f"{case}: {tool}: {type(error).__name__}: {str(error)[:100]}", flush=True)
            continue
        right = type(found) is type(module)
        counts[f"{tool} right"] += right
        counts[f"{tool} loads"] += sum(tensor.numel() for tensor in found.parameters()) == wanted
        try:
            equal = difference(expected, run(found, inputs)) <= CLOSE_TO
        except Exception:  # another network needn't take the same input
            equal = False
        counts[f"{tool} equal"] += equal
        if not equal:
            print(f"{case}: {tool}: {type(found).__name__}, outputs differ", flush=True)
    return True


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cases", type=int, default=104)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--seconds", type=float, default=3600, help="for all but cold times")
    options.add_argument("--timed", type=int, default=4, help="files timed cold")
    arguments = options.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    spandrel_extra_arches.install()
    known = sorted(name for names in classes("spandrel/").values() for name in names)
    random.Random(arguments.seed).shuffle(known)
    counts: Counter[str] = Counter()
    times: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        files: list[Path] = []
        end = time.monotonic() + arguments.seconds
        for number in progress(range(arguments.cases), arguments.cases, "files"):
            if time.monotonic() > end:
                break
            own = random.Random(f"{arguments.seed} {number}")
            for _ in range(REDRAWS):
                case = variant(own, known[number % len(known)])
                if case is None:
                    break
                try:
                    module = case.cls(**moved(case.base, case.moves)).eval()
                    randomise_seeded(module)
                except Exception:  # what goes on the meta device doesn't always go without
                    continue
                path = Path(place) / f"{number}.pth"
                if judge(case, module, path, counts):
                    files.append(path)
                    break
            gc.collect()
        for path in random.Random(arguments.seed).sample(files, min(arguments.timed, len(files))):
            for _ in range(arguments.runs):
                for what, code in (("name", NAMING), ("load", LOADING)):
                    for tool in TOOLS:
                        try:
                            seconds, peak = cold(code[tool], path)
                        except subprocess.CalledProcessError:
                            continue
                        times.setdefault(f"{tool} {what}", []).append(seconds)
                        key = f"{tool} {what}"
                        peaks[key] = max(peak, peaks.get(key, 0))
    behind = 0
    print(f"{counts['cases']} files of {len(known)} architectures")
    for row in ("right", "loads", "equal"):
        ours, theirs = (counts[f"{tool} {row}"] for tool in TOOLS)
        behind += ours < theirs
        print(f"{row:<12} archfind {ours:>4}  spandrel {theirs:>4}")
    for what in ("name", "load"):
        ours, theirs = (statistics.median(times[f"{tool} {what}"]) for tool in TOOLS)
        print(f"cold {what:<7} archfind {ours:6.2f} s  spandrel {theirs:6.2f} s")
        mine, other = (peaks[f"{tool} {what}"] for tool in TOOLS)
        print(f"memory {what:<5} archfind {mine:6.0f} MB spandrel {other:6.0f} MB")
        behind += (ours > theirs) + (mine > other)
    return int(behind > 0)


if __name__ == "__main__":
    sys.exit(main())
