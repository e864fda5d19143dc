"""What one `archfind guess` costs in processor time, cold, by kind of file.

    python benchmarks/cold_cost.py [--runs 5]

Whole processes: `archfind guess -q FILE` against `python -c pass` in the same run, user and system
seconds of each process as the kernel counts them, the least of some runs. The files are headers
without data. Python's bytecode is cached first, as it is in an installed package. Every answer is
checked; the exit code is 1 where a kind costs more than its limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
import transformers
from cold_guess import Shapes, write_sparse
from large_headers import llama, segment_anything, segment_anything_2, stable_diffusion
from torch import nn
from torchvision import models

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hostile.keys import bert, vit

KNOWN, SMALL, ODD, LARGE = 6.0, 8.0, 30.0, 60.0  # times bare Python
ARCHFIND = str(Path(sys.executable).with_name("archfind"))


def shapes_of(module: nn.Module) -> Shapes:
    state = module.state_dict()
    return {key: tuple(t.shape) for key, t in state.items() if t.is_floating_point()}


def children(module: nn.Module) -> Shapes:
    """A network as a Sequential of its children, without their names and without the last."""
    return shapes_of(nn.Sequential(*list(module.children())[:-1]))


def files() -> Iterator[tuple[str, Shapes, float, str]]:
    """What it is, its tensors, the limit, and how the answer begins."""
    with torch.device("meta"):
        yield "torchvision resnet50", shapes_of(models.resnet50()), KNOWN, "torchvision/resnet50"
        for name in ("convnext_tiny", "vit_base_patch16_224", "tf_efficientnet_b0"):
            yield f"timm {name}", shapes_of(timm.create_model(name)), KNOWN, ""
        config = transformers.BertConfig()
        yield "BERT base", shapes_of(transformers.BertForMaskedLM(config)), KNOWN, ""
        yield "a small BERT", bert(("0", "1"), 96), SMALL, "ambiguous"
        layers = nn.Linear(80, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 12)
        yield "an MLP", shapes_of(nn.Sequential(*layers)), SMALL, "unknown"
        lstm = nn.ModuleDict({"embed": nn.Embedding(5000, 100), "lstm": nn.LSTM(100, 128)})
        yield "an LSTM", shapes_of(lstm), SMALL, "unknown"
        generator = [nn.ConvTranspose2d(a, b, 4) for a, b in ((100, 512), (512, 256), (256, 3))]
        yield "a generator", shapes_of(nn.Sequential(*generator)), SMALL, "unknown"
        senet = timm.create_model("legacy_seresnet50")
        yield "SENet as a Sequential of children", children(senet), ODD, ""
        yield "a video ResNet", shapes_of(models.video.r3d_18()), ODD, "torchvision/r3d_18"
        yield "Stable Diffusion 1.5", stable_diffusion(), ODD, ""
        nested: Shapes = {}
        for number in range(60):
            nested |= vit(("0", "1", "2", "3", "4", "5"), "m." * number)
        yield "60 ViTs within each other", nested, ODD, ""
        yield "a ViT whose last block is 999,999,999", vit(("0", "1", "999999999")), ODD, ""
        sam = segment_anything(1280, 32, 16, (7, 15, 23, 31))
        yield "SAM-h, original names", sam, LARGE, ""
        trunk = shapes_of(timm.create_model("sam2_hiera_base_plus"))
        yield "SAM 2 b+, original names", segment_anything_2(trunk), LARGE, ""
        yield "a LLaMA of 18,000 tensors", llama(2000), LARGE, "ambiguous"


def cost(command: list[str]) -> tuple[float, str]:
    """Processor seconds of a process, and what it printed."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    with process.stdout as stream:
        said = stream.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 1), (command, process.returncode)
    return used.ru_utime + used.ru_stime, said


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=5)
    runs = options.parse_args().runs
    too_dear: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for what, shapes, limit, answer in files():
            path = Path(folder) / "x.safetensors"
            write_sparse(path, shapes)
            said = cost([ARCHFIND, "guess", "-q", str(path)])[1]
            assert said.startswith(f"{path}: {answer}"), said
            nothing = [cost([sys.executable, "-c", "pass"])[0] for _ in range(runs)]
            guess = [cost([ARCHFIND, "guess", "-q", str(path)])[0] for _ in range(runs)]
            ratio = min(guess) / min(nothing)
            too_dear += [what] * (ratio > limit)
            print(
                f"{what:<40} {len(shapes):6} tensors {ratio:6.1f}x (limit {limit:.0f}x)"
                f"  {min(guess) * 1e3:4.0f} ms  {said.removeprefix(f'{path}: ').strip()[:60]}",
                flush=True,
            )
    if too_dear:
        print(f"over the limit: {', '.join(too_dear)}")
    return int(bool(too_dear))


if __name__ == "__main__":
    sys.exit(main())
