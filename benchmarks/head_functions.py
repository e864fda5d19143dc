"""What a head computes between its tensors: drawn heads on library networks, guessed and told.

    nice python benchmarks/head_functions.py

Seeded: 42 random backbones, each of another family of torchvision or timm, with one head of every
kind below, saved as .pth. An answer that is exact must compute what the original computes; where it
is ambiguous, what was assumed must name the truth (the value, or one of the alternatives), and with
the truth told the network must load strictly and compute the same. A head whose way through its
layers is the author's own (residual, or on features that aren't the library's) can't be told: it
must only not be exact. The exit code is 1 where an exact answer computes something else.
"""

from __future__ import annotations

import argparse
import gc
import random
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from head_sweep import backbones
from torch import nn

import archfind
from archfind.errors import ArchfindError
from archfind.learning.twins import randomise_seeded
from archfind.providers import provider
from archfind.providers.example import tensors_of_call

FUNCTIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "none": nn.Identity,
}
LAST = {**FUNCTIONS, "log_softmax": lambda: nn.LogSoftmax(-1), "softmax": lambda: nn.Softmax(-1)}
Head = tuple[nn.Module, dict[str, object]]  # and the truth of what leaves no tensor, by place


def between(width: int, draw: random.Random) -> Head:
    """Linear, activation, Linear, with a Dropout or without."""
    name = draw.choice(list(FUNCTIONS))
    layers = [nn.Linear(width, 24), FUNCTIONS[name](), *[nn.Dropout()] * draw.randint(0, 1)]
    return nn.Sequential(*layers, nn.Linear(24, 5)), {"1": name}


def three(width: int, draw: random.Random) -> Head:
    """Three Linears, with two activations that may differ."""
    one, two = draw.choice(list(FUNCTIONS)), draw.choice(list(FUNCTIONS))
    layers = [nn.Linear(width, 40), FUNCTIONS[one](), nn.Linear(40, 24), FUNCTIONS[two]()]
    return nn.Sequential(*layers, nn.Linear(24, 5)), {"1": one, "3": two}


def normed(width: int, draw: random.Random) -> Head:
    """A norm before or after the activation."""
    name, first = draw.choice(list(FUNCTIONS)), draw.random() < 0.5
    eps = draw.choice((1e-5, 1e-3))
    kind = draw.choice((nn.BatchNorm1d, nn.LayerNorm, lambda n, eps: nn.GroupNorm(8, n, eps)))
    norm = kind(32, eps=eps)
    row = [FUNCTIONS[name](), norm] if first else [norm, FUNCTIONS[name]()]
    at = 2 if first else 1
    truth: dict[str, object] = {str(3 - at): name, f"{at}.eps": eps}
    if not isinstance(norm, nn.BatchNorm1d):
        truth[str(at)] = "layer_norm" if isinstance(norm, nn.LayerNorm) else "group_norm(8)"
    if first:
        return nn.Sequential(nn.Linear(width, 32), *row, nn.Dropout(), nn.Linear(32, 5)), truth
    return nn.Sequential(nn.Linear(width, 32), *row, nn.Linear(32, 5)), truth


def last(width: int, draw: random.Random) -> Head:
    """One Linear with a function behind it."""
    name = draw.choice(list(LAST))
    return nn.Sequential(nn.Linear(width, 5), LAST[name]()), {"1": name}


def first(width: int, draw: random.Random) -> Head:
    """A function, or a Dropout, before the one Linear."""
    name = draw.choice(("dropout", "relu", "gelu", "tanh"))
    made = nn.Dropout() if name == "dropout" else FUNCTIONS[name]()
    return nn.Sequential(made, nn.Linear(width, 5)), {"0": name}


class Named(nn.Module):
    """Layers under names of their own, with functions that no name shows."""

    def __init__(self, width: int, name: str, early: bool) -> None:
        super().__init__()
        self.fc1, self.bn1, self.fc2 = nn.Linear(width, 16), nn.BatchNorm1d(16), nn.Linear(16, 4)
        self.function, self.early = FUNCTIONS[name](), early

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1(x)
        return self.fc2(self.bn1(self.function(x)) if self.early else self.function(self.bn1(x)))


def named(width: int, draw: random.Random) -> Head:
    """fc1, bn1, fc2 with a function before or after the norm."""
    name, early = draw.choice(list(FUNCTIONS)), draw.random() < 0.5
    places = ("fc1.after", "bn1.after") if early else ("bn1.after", "fc1.after")
    return Named(width, name, early), {places[0]: name, places[1]: "none"}


class Residual(nn.Module):
    """What comes in is added to what two layers make of it."""

    def __init__(self, width: int, name: str) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, 24), nn.Linear(24, width)
        self.out = nn.Linear(width, 5)
        self.function = FUNCTIONS[name]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x + self.up(self.function(self.down(x))))


def residual(width: int, draw: random.Random) -> Head:
    """A way through the layers that archfind doesn't build."""
    return Residual(width, draw.choice(list(FUNCTIONS))), {}


class Normalised(nn.Module):
    """As DINO's: rows of length one go into a weight-normalised layer."""

    def __init__(self, width: int, name: str) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, 32), FUNCTIONS[name](), nn.Linear(32, 16))
        self.last = nn.utils.weight_norm(nn.Linear(16, 50, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.normalize(self.mlp(x), dim=-1))


def normalised(width: int, draw: random.Random) -> Head:
    """DINO's kind of head."""
    name = draw.choice(list(FUNCTIONS))
    return Normalised(width, name), {"mlp.1": name, "mlp.2.after": "l2_norm"}


class Beside(nn.Module):
    """A backbone without its head, and a Linear of another name that runs on its features."""

    def __init__(self, width: int, name: str) -> None:
        super().__init__()
        self.backbone: nn.Module = nn.Identity()
        self.classifier = nn.Linear(width, 5)
        self.function, self.name = FUNCTIONS[name](), name

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.function(self.backbone(*args)))


def beside(width: int, draw: random.Random) -> Head:
    """A head under another name, on features that may go through a function first."""
    name = draw.choice(("none", "none", "relu", "tanh"))
    return Beside(width, name), {"features": "pooled"} if name == "none" else {}


def plain(width: int, draw: random.Random) -> Head:
    """The control: a Linear in the library's own place, of other classes; nothing is assumed."""
    return nn.Linear(width, draw.randint(2, 300)), {}


KINDS = (between, three, normed, last, first, named, residual, normalised, beside, plain)


def equal(one: object, other: object) -> bool:
    """Whether two networks' outputs are the same but for rounding."""
    pairs = zip(tensors_of_call((one,)), tensors_of_call((other,)), strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs)


def counted(name: str, place: str, made: Head, path: Path) -> tuple[str, Counter[str]]:
    """What went wrong, "" for nothing, and what the answer was."""
    library, _, architecture = name.partition("/")
    module = provider(library).create(architecture, num_classes=7)
    parent, _, child = place.rpartition(".")
    head, truth = made
    example = provider(library).example(architecture, module)
    if isinstance(head, Beside):
        setattr(module.get_submodule(parent), child, nn.Identity())
        head.backbone = module
        module = head
    else:
        setattr(module.get_submodule(parent), child, head)
        truth = {f"{place}.{at}": value for at, value in truth.items()}
    with torch.no_grad():
        randomise_seeded(module)
    module.eval()
    torch.save(module.state_dict(), path)
    found = archfind.guess(path)
    counts = Counter({found.status: 1})
    with torch.inference_mode():
        wanted = module(*example.args)
        if found.status == "exact":
            same = equal(wanted, archfind.load(found)(*example.args))
            counts["exact, another function"] += not same
            return "" if same else "exact, and another function", counts
        if found.status != "ambiguous":
            return "", counts
        named_one = archfind.guess(path, choose=name)
        items = {item.place: item for item in named_one.matches[0].assumed}
        if named_one.status == "exact":
            same = equal(wanted, archfind.load(named_one)(*example.args))
            counts["exact, another function"] += not same
            return "" if same else f"exact as {name}, and another function", counts
        if not truth:
            return "", counts
        lacking = [at for at, value in truth.items() if not _names(items.get(at), value)]
        counts["truth named"] += not lacking
        every = {at: truth.get(at, item.value) for at, item in items.items()}
        told = archfind.guess(path, choose=name, settings=every)
        same = equal(wanted, archfind.load(told)(*example.args))
        counts["told: exact and equal"] += told.status == "exact" and same
    if lacking:
        return f"{', '.join(f'{at}={truth[at]}' for at in lacking)} isn't named", counts
    return "" if same else "told, and another function", counts


def _names(item: object, value: object) -> bool:
    return item is not None and value in (item.value, *item.alternatives)  # pyright: ignore


def main() -> int:
    """A table on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=42)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    draw = random.Random(given.seed)
    totals: dict[str, Counter[str]] = {kind.__name__: Counter() for kind in KINDS}
    failures: list[str] = []
    start = time.perf_counter()
    networks = backbones(given.count, draw)
    with tempfile.TemporaryDirectory() as folder:
        for name, place in networks:
            library, _, architecture = name.partition("/")
            module = provider(library).create(architecture, num_classes=7)
            width = module.get_submodule(place).in_features
            for kind in KINDS:
                try:
                    made = kind(width, draw)  # pyright: ignore[reportArgumentType]
                    why, counts = counted(name, place, made, Path(folder, "x.pth"))
                except ArchfindError as error:
                    why, counts = f"{type(error).__name__}: {error}", Counter({"failed": 1})
                totals[kind.__name__] += counts
                totals[kind.__name__]["files"] += 1
                if why:
                    failures.append(f"{name} {place}, {kind.__name__}: {why}")
                gc.collect()
    columns = ("files", "exact", "exact, another function", "ambiguous", "truth named")
    columns += ("told: exact and equal", "close", "unknown", "failed")
    print(f"{len(networks)} backbones, seed {given.seed}, {time.perf_counter() - start:.0f} s")
    print(f"{'head':<12}" + "".join(f"{column:>{len(column) + 2}}" for column in columns))
    for name, counts in totals.items():
        cells = "".join(f"{counts[column]:>{len(column) + 2}}" for column in columns)
        print(f"{name:<12}{cells}")
    for line in failures:
        print(f"  {line}")
    return int(any(counts["exact, another function"] for counts in totals.values()))


if __name__ == "__main__":
    raise SystemExit(main())
