"""What `archfind.load(path)` costs in time and memory beside the library's own way.

    nice python benchmarks/load_cost.py

The library's own way is the constructor that one has to know, then torch.load(weights_only=True,
mmap=True) and load_state_dict. Each load runs in a process of its own, the two in turn, with torch
and the model library imported before the clock starts. Memory is the process's peak beyond that of
one that only calls the constructor, as a multiple of the file's size. Both loaded networks must
give the same output, which is computed after both figures are taken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import timm
import torch
from torch import nn
from torchvision import models

import archfind
from archfind.learning.twins import randomise_seeded
from archfind.providers import provider

NAMES = ("torchvision/resnet50", "torchvision/vit_b_16", "timm/convnext_tiny")
Row = dict[str, float]


def construct(name: str) -> nn.Module:
    """The constructor as a person calls it."""
    library, _, architecture = name.partition("/")
    if library == "timm":
        return timm.create_model(architecture)
    return models.get_model(architecture, weights=None)


def by_hand(name: str, path: str) -> nn.Module:
    """What one writes who knows which network it is."""
    module = construct(name)
    module.load_state_dict(torch.load(path, weights_only=True, mmap=True))
    return module.eval()


def peak_memory() -> int:
    """The most memory this process has held, in bytes. Linux only: ru_maxrss would do elsewhere,
    but on Linux it starts at the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def one(how: str, name: str, path: str) -> Row:
    """One load: seconds, peak memory in bytes, and the sum of the output's magnitudes."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    if how == "archfind":
        module = archfind.load(path)
    elif how == "by hand":
        module = by_hand(name, path)
    else:
        module = construct(name).eval()
    seconds = time.perf_counter() - start
    peak = peak_memory()
    library, _, architecture = name.partition("/")
    image = provider(library).example(architecture, module).args[0]
    with torch.inference_mode():
        output = module(image)
    return {"seconds": seconds, "peak": peak, "output": output.double().abs().sum().item()}


def apart(how: str, name: str, path: Path) -> Row:
    """`one` in a fresh process."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", how, name, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, folder: Path, pairs: int) -> str:
    """The lines of one network."""
    torch.manual_seed(0)
    module = construct(name)
    randomise_seeded(module)
    path = folder / "network.pth"
    torch.save(module.state_dict(), path)
    del module
    size = path.stat().st_size
    rows: dict[str, list[Row]] = {"archfind": [], "by hand": []}
    for _ in range(pairs + 1):
        for how, found in rows.items():
            found.append(apart(how, name, path))
    outputs = {row["output"] for found in rows.values() for row in found}
    assert len(outputs) == 1, (name, outputs)
    bare = [apart("constructor", name, path) for _ in range(3)]
    assert bare[0]["output"] not in outputs, "the weights made no difference"
    ours, theirs = ([row["seconds"] for row in found[1:]] for found in rows.values())
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    base = median(row["peak"] for row in bare)
    extra = {how: (max(r["peak"] for r in found) - base) / size for how, found in rows.items()}
    return (
        f"{name}, {size / 1e6:.0f} MB\n"
        f"  time    {ratio:.2f}x the library's own way   "
        f"({median(ours):.2f} s against {median(theirs):.2f} s, "
        f"{median(row['seconds'] for row in bare):.2f} s for the constructor alone)\n"
        f"  memory  {extra['archfind']:.2f}x the file beyond the constructor   "
        f"({extra['by hand']:.2f}x the library's own way)"
    )


def main() -> None:
    """Plain lines on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--one", nargs=3, metavar=("HOW", "NAME", "PATH"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(*given.one)))
        return
    print(f"archfind.load(path) against the library's own way, {given.pairs} pairs")
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            print(measure(name, Path(folder), given.pairs), flush=True)


if __name__ == "__main__":
    main()
