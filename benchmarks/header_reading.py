"""What reading a header costs, against the format's own library in the same run.

    nice python benchmarks/header_reading.py

`archfind.open` against `torch.load(weights_only=True)` (with mmap where the format allows it) and
`safe_open` with the shape and dtype of every tensor asked for, in turn, in one process. Keys,
shapes and dtypes are compared before anything is timed. Then files of 200,000 tensors, each opened
by a new process, whose time and memory are its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision import models

import archfind

Header = dict[str, tuple[str, tuple[int, ...]]]
SECONDS, MEGABYTES = 3.0, 1000

CHILD = """
import json, resource, sys, time
start = time.perf_counter()
from archfind import formats
found = formats.open(sys.argv[1])
took = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
with open("/proc/self/status") as status:  # ru_maxrss would start with that of the parent
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps([len(found.index), took, used.ru_utime + used.ru_stime, peak / 1024]))
"""


def ours(path: Path) -> Header:
    return {key: (spec.dtype, spec.shape) for key, spec in archfind.open(path).index.items()}


def torchs(path: Path) -> Header:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    return {key: (str(one.dtype)[6:], tuple(one.shape)) for key, one in state.items()}


def safetensors(path: Path) -> Header:
    from archfind.formats.safetensors import DTYPES

    with safe_open(path, "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        return {k: (DTYPES[s.get_dtype()], tuple(s.get_shape())) for k, s in slices.items()}


def write(
    folder: Path, name: str, state: dict[str, torch.Tensor]
) -> list[tuple[str, Path, Callable]]:
    zipped, legacy = folder / f"{name}.pth", folder / f"{name}-legacy.pth"
    safe = folder / f"{name}.safetensors"
    torch.save(state, zipped)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    save_file(state, safe)
    return [
        (f"{name}, torch zip", zipped, torchs),
        (f"{name}, torch legacy", legacy, torchs),
        (f"{name}, safetensors", safe, safetensors),
    ]


def made(count: int) -> dict[str, torch.Tensor]:
    return {f"layers.{i // 8}.part{i % 8}.weight": torch.zeros(2, 3) for i in range(count)}


def timed(function: Callable[[Path], Header], path: Path) -> float:
    start = time.perf_counter()
    function(path)
    return time.perf_counter() - start


def compare(name: str, path: Path, peer: Callable[[Path], Header], rounds: int) -> None:
    own, other = ours(path), peer(path)
    assert own == other, f"{name}: headers differ"
    pairs = [(timed(ours, path), timed(peer, path)) for _ in range(rounds)]
    mine, theirs = (median(times) for times in zip(*pairs, strict=True))
    print(
        f"{name:<32} {len(own):>7,} tensors  {mine * 1000:9.1f} ms  {theirs * 1000:9.1f} ms"
        f"  {mine / theirs:5.2f}x",
        flush=True,
    )


def large(name: str, path: Path, count: int) -> bool:
    told = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True
    )
    found, took, cpu, memory = json.loads(told.stdout)
    assert found == count
    print(f"{name:<32} {found:>7,} tensors  {took:5.2f} s, {cpu:5.2f} s of CPU  {memory:6.0f} MB")
    return cpu < SECONDS and memory < MEGABYTES


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=21)
    arguments.add_argument("--tensors", type=int, default=200_000)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    print(f"{'file':<32} {'':>15}  {'archfind':>12}  {'its library':>12}  ratio")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in write(folder, "resnet50", dict(models.resnet50().state_dict())):
            compare(*row, given.rounds)
        for row in write(folder, "20,000 keys", made(20_000)):
            compare(*row, 3)
        count = given.tensors
        rows = write(folder, f"{count:,} keys", made(count))
        print("each in a process of its own:")
        within = [large(name, path, count) for name, path, _ in rows]
    print(f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
