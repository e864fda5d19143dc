"""pth <-> safetensors against a plain copy of the same file, in turn, each flushed to the disk; the
whole command, start included, and the most memory that it took.

    python benchmarks/conversion_speed.py --gigabytes 2 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

COMMAND = """
import sys; from archfind.cli import main; code = main()
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0], file=sys.stderr)
sys.exit(code)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=".")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        measure(Path(place), arguments.gigabytes, arguments.rounds)


def measure(folder: Path, gigabytes: float, rounds: int) -> None:
    count = max(1, int(gigabytes * 1e9 / (4096 * 1024 * 4)))
    torch.manual_seed(0)
    state = {f"own.{n}.weight": torch.randn(4096, 1024) for n in range(count)}
    first, second = folder / "own.pth", folder / "own.safetensors"
    torch.save({"state_dict": state}, first)
    run(first, second)
    found = load_file(second)
    assert all(torch.equal(found[key], value) for key, value in state.items())
    run(second, folder / "back.pth")
    back = torch.load(folder / "back.pth", weights_only=True)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    del state, found, back
    largest = 4096 * 1024 * 4 / 1e6
    print(f"{count} tensors of {largest:.0f} MB, {first.stat().st_size / 1e9:.2f} GB")
    for source, out in ((first, folder / "x.safetensors"), (second, folder / "x.pth")):
        ratios: list[float] = []
        peaks: list[int] = []
        for _ in range(rounds):
            copied = timed(lambda a=source: shutil.copyfile(a, folder / "copy"), folder / "copy")
            converted = timed(lambda a=source, b=out, c=peaks: c.append(run(a, b)), out)
            ratios.append(copied / converted)
        speed = source.stat().st_size / 1e9 / copied
        print(
            f"{source.suffix} -> {out.suffix}: {statistics.median(ratios):.0%} of the copy's speed "
            f"(each: {' '.join(f'{r:.0%}' for r in ratios)}; the last copy {speed:.2f} GB/s)"
        )
        print(f"  most memory: {max(peaks) / 1e3:.0f} MB")


def run(source: Path, out: Path) -> int:
    """The most memory that it took, in kB."""
    out.unlink(missing_ok=True)
    command = [sys.executable, "-c", COMMAND, "export", str(source), str(out)]
    # compiled once, as an installed package is
    own = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    own["PYTHONPYCACHEPREFIX"] = str(source.parent / "compiled")
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=own)
    return int(done.stderr.split()[-2])


def timed(work: Callable[[], object], out: Path) -> float:
    out.unlink(missing_ok=True)
    os.sync()
    start = time.perf_counter()
    work()
    with out.open("rb+") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
