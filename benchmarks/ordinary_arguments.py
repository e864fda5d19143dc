"""timm's networks with the arguments moved that people move, and some of those beside that can make
up for them: named, built, and held against the original.

    nice python benchmarks/ordinary_arguments.py --cases 400 --seed 0

Each case draws one of timm's names, and of its picture's size, its colours and its classes some;
one case in four draws a patch, a stride, a width or a depth beside. The network is made on the meta
device, and its header guessed. It counts as
    named    the class is named
    right    the built answer has the original's tensors, and in every module the original's
             numbers, words and switches: strides, heads, activations, eps
    wrong    exact, and not right, nor with the original named as the answer's twin
    least    the build line moves no argument that wasn't moved
With --outputs, of so many cases the weights are made for real, and the outputs compared.
Progress on stderr, a line for each miss on stdout. The exit code is 1 with any that is wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import timm
import torch
from drawn_cases import separate
from outputs import CLOSE_TO, difference
from safetensors.torch import save_file
from torch import nn

import archfind
from archfind.building.instantiate import matched_on_meta
from archfind.database.entries import default
from archfind.errors import ArchfindError
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.matching.recipe import recipe
from archfind.progress import progress
from archfind.types import Guess

SIDES = (96, 112, 128, 160, 192, 224, 256, 288, 320, 384, 448)
CLASSES = (1, 2, 3, 5, 7, 10, 20, 100, 200, 525)
COLOURS = (1, 2, 4, 6, 12)
BESIDE = {
    "patch_size": (4, 7, 8, 14, 16, 32),
    "stride": (4, 7, 8, 14, 16),
    "embed_dim": (96, 192, 240, 384, 576),
    "depth": (2, 4, 6, 9, 14),
    "stem_width": (16, 24, 48),
    "num_heads": (2, 3, 4, 6, 8),
}
LARGEST = 100e6  # parameters
SMALL = 30e6  # of which outputs are compared


class Case:
    """A network that timm makes of a name and some arguments; on the meta device."""

    def __init__(self, name: str, arguments: dict[str, Any], module: nn.Module) -> None:
        self.name = name
        self.arguments = arguments
        self.module = module

    def __str__(self) -> str:
        return f"{self.name} {self.arguments}"


def on_meta(name: str, arguments: dict[str, Any]) -> nn.Module | None:
    """The network, None where timm refuses the arguments."""
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            return timm.create_model(name, pretrained=False, **arguments).eval()
    except Exception:  # a constructor refuses values in its own ways
        return None


def drawn(draw: random.Random, names: list[str]) -> Case:
    """A case whose tensors aren't those of the registered network."""
    while True:
        name = draw.choice(names)
        wanted: dict[str, Any] = {
            "img_size": draw.choice(SIDES),
            "in_chans": draw.choice(COLOURS),
            "num_classes": draw.choice(CLASSES),
        }
        for path in draw.sample(sorted(wanted), draw.choice((0, 1, 1, 2))):
            del wanted[path]
        if draw.random() < 0.25:
            path = draw.choice(sorted(BESIDE))
            wanted[path] = draw.choice(BESIDE[path])
        first = on_meta(name, {})
        if first is None or size(first) > LARGEST:
            continue
        for path in list(wanted):  # what this network does not take, or no tensor shows
            one = on_meta(name, {path: wanted[path]})
            if one is None or shapes(one) == shapes(first):
                del wanted[path]
        module = on_meta(name, wanted)
        if wanted and module is not None and shapes(module) != shapes(first):
            return Case(name, wanted, module)


def size(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in module.state_dict().items()}


def differs(one: nn.Module, other: nn.Module) -> str:
    """The first module, and what is set otherwise in it; "" where they compute the same. What a
    picture's size sets may differ where the tensors are the same: 130 pixels have the patches of
    128."""
    if shapes(one) != shapes(other):
        return "tensors"
    theirs = dict(other.named_modules())
    for path, module in one.named_modules():
        if path not in theirs or type(theirs[path]) is not type(module):
            return f"{path}: {type(module).__name__}, not {type(theirs.get(path)).__name__}"
        for name, value in vars(module).items():
            plain = isinstance(value, int | float | str | tuple | torch.Size)
            told = plain and not any(
                word in name for word in ("img", "size", "drop", "feat", "patches", "training")
            )
            if told and getattr(theirs[path], name, None) != value and name[0] != "_":
                return f"{path}.{name}: {value}, not {getattr(theirs[path], name, None)}"
    return ""


def judged(case: Case, counts: Counter[str]) -> tuple[str, Guess]:
    """Count one case by its header; what's wrong with its answer, if anything."""
    found = guess_checkpoint(checkpoint_of(case.module.state_dict()), default())
    counts["cases"] += 1
    counts[found.status] += 1
    if found.status not in ("exact", "ambiguous"):
        near = f" {found.matches[0].entry.id}" if found.matches else ""
        return f"{found.status}{near}", found
    own = f"{type(case.module).__module__}.{type(case.module).__qualname__}"
    first = found.matches[0]
    counts["named"] += first.entry.cls == own
    said = "answers" if found.status == "ambiguous" else "WRONG"
    try:
        wrong = differs(case.module, matched_on_meta(first).eval())
    except ArchfindError as error:
        wrong = error.message
    counts["right"] += not wrong
    if wrong and any(twin.architecture == case.name for twin in first.twins):
        counts["a twin named"] += 1  # the prior chose the plain one, and says so
        wrong = ""
    counts["wrong"] += bool(wrong) and found.status == "exact"
    call = recipe(first)
    moved: Any = call["kwargs"] or call["args"][-1]  # pyright: ignore[reportIndexIssue]
    moved = moved if isinstance(moved, dict) else {}
    more = {p.partition(".")[0] for p in moved} - case.arguments.keys() - {"pretrained"}
    counts["least"] += not more or first.entry.name != case.name
    told = wrong or (f"moves {sorted(more)}" if more and first.entry.name == case.name else "")
    return f"{said} {first.entry.id} {moved}: {told}" if told else "", found


def outputs(case: Case, found: Guess, counts: Counter[str]) -> str:
    """Count one named case made for real: whether the loaded file computes what the original
    does."""
    module = timm.create_model(case.name, pretrained=False, **case.arguments).eval()
    randomise_seeded(module)
    config = getattr(module, "pretrained_cfg", None) or {}
    side = case.arguments.get("img_size") or (config.get("input_size") or (3, 224, 224))[-1]
    colours = case.arguments.get("in_chans", 3)
    image = torch.randn(2, colours, side, side)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder, "net.safetensors")
        save_file(separate(module.state_dict()), path)
        try:
            expected = module(image)
        except Exception:  # a network that can't be fed: nothing to compare
            return ""
        counts["run"] += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = archfind.load(path, choose=found.matches[0].entry.id)
            apart = difference([expected], [loaded(image)])
        except Exception as error:
            return f"loads or runs not: {error}"
    counts["equal"] += apart <= CLOSE_TO
    return "" if apart <= CLOSE_TO else f"outputs differ by {apart:.1e}"


def main() -> int:
    parser = argparse.ArgumentParser(description="timm's networks with arguments that people move")
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--outputs", type=int, default=0, help="cases made for real")
    parser.add_argument("--only", default="", help="a part of the names")
    options = parser.parse_args()
    names = [name for name in sorted(timm.list_models()) if options.only in name]
    draw = random.Random(options.seed)
    torch.manual_seed(options.seed)
    counts: Counter[str] = Counter()
    for _ in progress(range(options.cases), options.cases, "ordinary arguments"):
        case = drawn(draw, names)
        why, found = judged(case, counts)
        few = counts["run"] < options.outputs and size(case.module) < SMALL
        if few and found.status == "exact" and found.matches[0].entry.name == case.name:
            why = why or outputs(case, found, counts)
            counts["wrong"] += "outputs differ" in why or "runs not" in why
        if why:
            print(f"{case}: {why}", flush=True)
    print(", ".join(f"{name} {count}" for name, count in counts.items()), file=sys.stderr)
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
