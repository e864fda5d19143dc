"""Sources written for networks as people write them: do they load strictly, how often is a forward
offered, and does it compute what the network computes, as written, and with what is assumed told?

    python benchmarks/drawn_sources.py --seed 7 --each 10 [--saved state|whole|torchscript|pt2]

Saved whole, a network is a pickle whose classes aren't there when it is read; what its forward has
in closures (activations, mostly) isn't in it.
"""

from __future__ import annotations

import argparse
import collections
import random
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from drawn_net import Net
from drawn_programs import KINDS, Drawn
from torch import Tensor, nn

import archfind
from archfind.errors import ArchfindError
from archfind.sourcing.network import written
from archfind.types import NOTHING, Canonical, Checkpoint, Source, Storage, TensorSpec

STORAGE = Storage("", "", 0, 0)
WORDS = {
    "MaxPool1d": "max_pool", "MaxPool2d": "max_pool", "AvgPool2d": "avg_pool", "Dropout": "dropout",
    "Flatten": "flatten", "Upsample": "upsample", "AdaptiveAvgPool2d": "global_pool",
}  # fmt: skip


def source_of(state: Mapping[str, Tensor], settings: Mapping[str, object] = NOTHING) -> Source:
    """The source for a state dict that no file holds."""
    index = {
        key: TensorSpec(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), STORAGE)
        for key, tensor in state.items()
    }
    checkpoint = Checkpoint("drawn.pth", "pth", index)
    return written(Canonical(checkpoint, index, {key: key for key in index}), settings)


def loaded(source: Source, state: Mapping[str, Tensor]) -> nn.Module:
    """The written module with the state dict, loaded strictly."""
    held: dict[str, Any] = {}
    exec(compile(source.text, "model.py", "exec"), held)
    module = held["Model"]().eval()
    cut = len(source.prefix)
    module.load_state_dict({key[cut:]: tensor for key, tensor in state.items()}, strict=True)
    return module


def drawn(kind: str, seed: int, number: int) -> Drawn:
    """A network of a kind, in eval mode, with norms that do something."""
    draw = random.Random(f"{kind} {seed} {number}")
    torch.manual_seed(draw.randrange(2**31))
    module, inputs, truth = KINDS[kind](draw)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
    return module.eval(), inputs, truth


def told(source: Source, module: nn.Module, truth: Mapping[str, object]) -> dict[str, object]:
    """What the source assumed otherwise than the network has it, as settings."""
    held: dict[str, object] = {}
    for item in source.unseen:
        path, _, name = f"{source.prefix}{item.place}".rpartition(".")
        value: object = truth.get(item.place, item.value)
        try:
            part = module.get_submodule(path) if path else module
            if name.isdecimal():
                kind = type(part[int(name)]).__name__  # pyright: ignore
                value = WORDS.get(kind, "activation")
            elif hasattr(part, name) and name != "activation":
                value = getattr(part, name)
        except (AttributeError, IndexError, TypeError):
            pass
        if isinstance(value, tuple) and len(set(value)) == 1 and not isinstance(item.value, tuple):
            value = value[0]
        if value != item.value:
            held[item.place] = value
    return held


def equal(module: nn.Module, other: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether two networks give the same for the same."""
    with torch.no_grad():
        first = module(*inputs)
        try:
            second = other(*inputs)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            return False
    pairs = (
        [(first, second)] if isinstance(first, Tensor) else list(zip(first, second, strict=False))
    )
    if isinstance(second, Tensor) != isinstance(first, Tensor):
        return False
    return all(a.shape == b.shape and torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in pairs)


def _without_run(self: Net) -> dict[str, object]:
    """What a pickle keeps of a network: its function is no part of it."""
    return {name: value for name, value in self.__dict__.items() if name != "run"}


def saved_source(module: nn.Module, inputs: tuple[Tensor, ...], how: str) -> Source:
    """The source for a network that was saved as a file: whole, as torchscript or as pt2."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / {"whole": "net.pth", "torchscript": "net.pt", "pt2": "net.pt2"}[how]
        if how == "whole":
            Net.__getstate__ = _without_run
            torch.save(module, path)
        elif how == "pt2":
            torch.export.save(torch.export.export(module, inputs), path)
        else:
            torch.jit.save(torch.jit.trace(module, inputs, check_trace=False), path)
        return archfind.source(path)


def saved_outcome(kind: str, seed: int, number: int, how: str) -> tuple[str, bool]:
    """The grade for a saved network, and whether what is written computes what it computes."""
    module, inputs, _ = drawn(kind, seed, number)
    source = saved_source(module, inputs, how)
    return source.grade, equal(module, loaded(source, module.state_dict()), inputs)


def outcome(kind: str, seed: int, number: int) -> tuple[str, bool, bool, str]:
    """The grade, whether the outputs agree as written, and with what is assumed told, and why
    not where they don't."""
    module, inputs, truth = drawn(kind, seed, number)
    state = module.state_dict()
    source = source_of(state)
    other = loaded(source, state)
    if source.grade == "partial":
        return source.grade, False, False, ""
    if equal(module, other, inputs):
        return source.grade, True, True, ""
    settings = told(source, module, truth)
    try:
        again = source_of(state, settings)
        other = loaded(again, state)
    except (ArchfindError, RuntimeError) as error:
        return source.grade, False, False, str(error)
    return source.grade, False, equal(module, other, inputs), str(settings)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--each", type=int, default=4)
    arguments.add_argument(
        "--saved", choices=("state", "whole", "torchscript", "pt2"), default="state"
    )
    arguments.add_argument("-v", "--verbose", action="store_true")
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    counts: collections.Counter[str] = collections.Counter()
    for kind in KINDS:
        row: collections.Counter[str] = collections.Counter()
        for number in range(given.each):
            if given.saved == "state":
                grade, as_written, as_told, why = outcome(kind, given.seed, number)
            else:
                grade, as_written = saved_outcome(kind, given.seed, number, given.saved)
                as_told, why = as_written, ""
            row[grade] += 1
            row["as written"] += as_written
            row["told"] += as_told
            row["wrong certain"] += grade == "certain" and not as_written
            if given.verbose and grade != "partial" and not as_told:
                print(f"  {kind} {number}: {why[:300]}")
        print(f"{kind:20}", *(f"{word} {n}" for word, n in row.items() if n), sep="  ")
        counts += row
    total = given.each * len(KINDS)
    offered = counts["likely"] + counts["certain"]
    print(f"{total} networks of {len(KINDS)} kinds, all loaded strictly")
    print(f"likely or better: {offered} ({offered / total:.1%})")
    print(f"wrong certain: {counts['wrong certain']}")
    print(f"of all equal as written: {counts['as written']} ({counts['as written'] / total:.1%})")
    for word in ("as written", "told") if given.saved == "state" else ():
        print(f"of these equal {word}: {counts[word]} ({counts[word] / max(offered, 1):.1%})")


if __name__ == "__main__":
    main()
