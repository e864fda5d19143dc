"""What one `archfind guess` costs from a cold start, against starting Python and doing nothing.

    nice python benchmarks/cold_guess.py

Whole processes: `archfind guess -q FILE` (the console script) and `python -c pass` in turn, so that
a busy machine slows both. Files of about 300 tensors in three containers; then two safetensors
files of 140 GB (sparse: they take no disk) beside files of 1 MB with equally long headers. Every
answer, exit code and list of imported modules is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from math import prod
from pathlib import Path
from statistics import median

import timm
import torch
from safetensors.torch import save_file
from torchvision import models

HEAVY = ("torch", "torchvision", "timm", "numpy", "sklearn", "networkx", "safetensors", "onnx")
HUGE = 140_000_000_000
Shapes = dict[str, tuple[int, ...]]

ARCHFIND = str(Path(sys.executable).with_name("archfind"))
LOOK = f"""
import sys
from archfind.cli import main
code = main(["guess", "-q", sys.argv[1]])
heavy = sorted(set({HEAVY!r}) & set(sys.modules))
sys.exit(f"imports {{heavy}}" if heavy else code)
"""


def write_sparse(path: Path, shapes: Shapes, header_bytes: int = 0) -> int:
    """A float16 safetensors file of these shapes, all zeros that the disk doesn't store. Returns
    the header's length; `header_bytes` pads it with spaces, which the format allows."""
    header: dict[str, object] = {}
    end = 0
    for key, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode().ljust(header_bytes)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return len(text)


def mobilenet(classes: int) -> Shapes:
    """timm's smallest MobileNetV3 with a head of `classes`: the size is in its last layer."""
    with torch.device("meta"):
        module = timm.create_model("mobilenetv3_small_050", num_classes=classes)
    return {k: tuple(t.shape) for k, t in module.state_dict().items() if t.is_floating_point()}


def decoder(width: int) -> Shapes:
    """A language model of 33 layers, which is no network of the database."""
    square = (width, width)
    shapes: Shapes = {"embed.weight": (512, width), "final_norm.weight": (width,)}
    for n in range(33):
        shapes |= {f"layers.{n}.attn.{name}.weight": square for name in "qkvo"}
        shapes |= {f"layers.{n}.ff.{name}.weight": square for name in ("up", "gate", "down")}
        shapes |= {f"layers.{n}.norm{i}.weight": (width,) for i in (1, 2)}
    return shapes


def write_pair(folder: Path, name: str, small: Shapes, large: Shapes) -> tuple[Path, Path]:
    """The same tensors at two sizes, behind headers of one length."""
    paths = folder / f"{name}_small.safetensors", folder / f"{name}_140GB.safetensors"
    length = write_sparse(paths[1], large)
    write_sparse(paths[0], small, length)
    assert paths[1].stat().st_size > HUGE * 0.95, paths[1].stat().st_size
    return paths


def run(command: list[str]) -> float:
    """Seconds from start to exit."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def check(path: Path, answer: str, code: int) -> None:
    """The answer that is about to be timed is the right one, and no heavy module is imported."""
    for command in ([ARCHFIND, "guess", "-q", str(path)], [sys.executable, "-c", LOOK, str(path)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
        first = done.stdout.splitlines()[0]
        assert first.startswith(f"{path}: {answer}"), first


def against(one: list[str], other: list[str], pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of two commands, run in turn after a warm-up."""
    times = [(run(one), run(other)) for _ in range(pairs + 1)][1:]
    return [t[0] for t in times], [t[1] for t in times]


def line(what: str, one: list[float], other: list[float]) -> str:
    """Ratios first, then what they are ratios of."""
    return (
        f"{what:<34} {median(one) / median(other):5.2f}x median {min(one) / min(other):5.2f}x min"
        f"   ({median(one) * 1e3:.1f} ms against {median(other) * 1e3:.1f} ms)"
    )


def main() -> None:
    """Plain lines on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25)
    pairs: int = parser.parse_args().pairs
    nothing = [sys.executable, "-c", "pass"]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = models.resnet50(weights=None).state_dict()
        files = {kind: folder / kind for kind in ("zip.pth", "legacy.pth", "flat.safetensors")}
        torch.save(state, files["zip.pth"])
        torch.save(state, files["legacy.pth"], _use_new_zipfile_serialization=False)
        save_file(state, files["flat.safetensors"])
        print(f"`archfind guess -q FILE` against `python -c pass`, {pairs} pairs")
        for kind, path in files.items():
            check(path, "torchvision/resnet50 (ResNet)", 0)
            times = against([ARCHFIND, "guess", "-q", str(path)], nothing, pairs)
            print(line(f"resnet50, {len(state)} tensors, {kind}", *times))
            path.unlink()

        print("\n140 GB against 1 MB, headers of the same length")
        for kind, answer, code, small, large in (
            ("known", "timm/mobilenetv3_small_050 (", 0, mobilenet(2), mobilenet(HUGE // 2048)),
            ("unknown", "unknown, ", 1, decoder(47), decoder(17_400)),
        ):
            near, far = write_pair(folder, kind, small, large)
            for path in (near, far):
                check(path, answer, code)
            guess = [ARCHFIND, "guess", "-q"]
            times = against([*guess, str(far)], [*guess, str(near)], pairs)
            sizes = f"{far.stat().st_size / 1e9:.0f} GB / {near.stat().st_size / 1e6:.1f} MB"
            print(line(f"{kind}, {len(small)} tensors, {sizes}", *times))
            ratio = median(times[0]) / median(times[1])
            assert ratio < 1.2, ratio


if __name__ == "__main__":
    main()
