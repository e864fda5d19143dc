"""Changed heads: library networks with three kinds of head, saved, guessed, loaded, compared.

    nice python benchmarks/head_sweep.py
    nice python benchmarks/head_sweep.py --varied

Seeded: 60 random backbones, each of another family of torchvision or timm, with Dropout and a
Linear, an MLP with a norm, and an MLP without, where the library has its own head, saved as .pth
in a random wrapper. A file counts when it is named (exact, or ambiguous among its twins), loads
strictly, and computes what the original computes. Then the same networks with a layer more or
less in the backbone: none may be exact. With --varied the backbones have other arguments, too, and
one of the heads each; the class must be named. The exit code is 1 where anything fails.
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
from torch import nn
from variant_sweep import Case, class_of, variant

import archfind
from archfind.database.entries import Signature, default
from archfind.database.notation import Size
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.probing.config import moved
from archfind.providers import provider
from archfind.providers.example import example_for_variant, tensors_of_call

STYLES = ("Dropout+Linear", "MLP with norm", "MLP without")
PREFIXES = ("", "module.", "model.", "net.backbone.", "_orig_mod.")
WRAPPERS = ("", "state_dict", "model", "params_ema")
DRAWS = 4  # of a variant that can't be built
LARGEST = 14e6  # parameters of a backbone: the sweep takes minutes, not hours


def size_of(signature: Signature) -> float:
    """Parameters in the tensors whose sizes no field gives."""
    total = 0
    for shape in signature.fixed.values():
        count = 1
        for size in shape:
            count *= size
        total += count
    return total


def places(signature: Signature) -> list[str]:
    """The Linears that num_classes sizes."""
    return [
        key.removesuffix(".weight")
        for key, line in signature.free.items()
        if len(line.shape) == 2
        and isinstance(line.shape[0], Size)
        and key.endswith(".weight")
        and "aux" not in key.lower()
    ]


def backbones(count: int, draw: random.Random) -> list[tuple[str, str]]:
    """(entry, place of its head), as many families as there are before one comes again."""
    families: dict[str, list[tuple[str, str]]] = {}
    for number in range(len(default())):
        signature = default().signature(number)
        heads = places(signature)
        if len(heads) != 1 or size_of(signature) > LARGEST:
            continue
        for member in signature.members:
            if "quantized" not in member.entry.name:
                family = f"{member.entry.provider}/{member.entry.cls.split('.')[-2]}"
                families.setdefault(family, []).append((member.entry.id, heads[0]))
    for entries in families.values():
        draw.shuffle(entries)
    names = sorted(families)
    draw.shuffle(names)
    found: list[tuple[str, str]] = []
    while len(found) < count and any(families.values()):
        found += [families[name].pop() for name in names if families[name]]
    return found[:count]


def head(style: str, width: int, draw: random.Random) -> nn.Module:
    """A new head, of random sizes."""
    classes, inner = draw.randint(2, 300), draw.choice((16, 32, 100))
    if style == STYLES[0]:
        return nn.Sequential(nn.Dropout(0.3), nn.Linear(width, classes))
    first: list[nn.Module] = [nn.Dropout() for _ in range(draw.randint(0, 1))]
    first.append(nn.Linear(width, inner))
    if style == STYLES[1]:
        first.append(draw.choice((nn.BatchNorm1d, nn.LayerNorm))(inner))
    last = [nn.Dropout() for _ in range(draw.randint(0, 1))]
    return nn.Sequential(*first, nn.ReLU(), *last, nn.Linear(inner, classes))


def network(name: str, place: str, style: str, draw: random.Random) -> nn.Module:
    """A library's network with another head, seeded random weights."""
    library, _, architecture = name.partition("/")
    return headed(provider(library).create(architecture, num_classes=7), place, style, draw)


def varied(name: str, place: str, style: str, draw: random.Random) -> tuple[nn.Module, Case] | None:
    """The same with some of the library's arguments moved; None where none could be drawn."""
    for _ in range(DRAWS):
        case = variant(draw, name)
        if case is None or "num_classes" in case.moves:
            continue
        try:
            module = case.cls(**moved(case.base, case.moves))
            return headed(module, place, style, draw), case
        except (ArithmeticError, AssertionError, AttributeError, RuntimeError, ValueError):
            continue  # what goes on the meta device doesn't always go without
    return None


def headed(module: nn.Module, place: str, style: str, draw: random.Random) -> nn.Module:
    """A network with another head, seeded random weights."""
    parent, _, child = place.rpartition(".")
    own = module.get_submodule(place)
    assert isinstance(own, nn.Linear)
    setattr(module.get_submodule(parent), child, head(style, own.in_features, draw))
    with torch.no_grad():
        randomise_seeded(module, draw.randrange(1000))
    return module.eval()


def tried(
    name: str, module: nn.Module, draw: random.Random, folder: str, case: Case | None = None
) -> str:
    """ "" where the file is named, loads strictly and computes the same; else what went wrong."""
    library, _, architecture = name.partition("/")
    prefix, wrapper = draw.choice(PREFIXES), draw.choice(WRAPPERS)
    state = {prefix + key: tensor for key, tensor in module.state_dict().items()}
    path = Path(folder, "x.pth")
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    found = archfind.guess(path)
    ids = {m.entry.id for m in found.matches}
    ids |= {f"{t.provider}/{t.architecture}" for m in found.matches for t in m.twins}
    own = [m.entry.id for m in found.matches if case and m.entry.cls == class_of(case)]
    if found.status not in ("exact", "ambiguous") or not (own or (name in ids and not case)):
        return f"{found.status}: {', '.join(sorted(ids)[:3])}"
    loaded = archfind.load(path, choose=own[0] if own else name)
    if set(loaded.state_dict()) != set(module.state_dict()):
        return "other keys"
    example = provider(library).example(architecture, module)
    args = (example_for_variant(example, moved(case.base, case.moves)) if case else example).args
    with torch.inference_mode():
        one, other = module(*args), loaded(*args)
    for a, b in zip(tensors_of_call((one,)), tensors_of_call((other,)), strict=True):
        if not torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True):
            return f"outputs differ by {float((a - b).abs().max()):.2g}"
    return ""


def mutated(
    state: dict[str, torch.Tensor], place: str, draw: random.Random
) -> tuple[str, dict[str, torch.Tensor]]:
    """The state dict with a layer inserted into the backbone, or taken out of it, or another
    width."""
    layers = sorted(
        {k.rpartition(".")[0] for k, t in state.items() if t.dim() and not k.startswith(place)}
        - {""}
    )
    layer = draw.choice(layers)
    parts = [k for k in state if k.rpartition(".")[0] == layer]
    kind = draw.choice(("inserted", "inserted Linear", "removed", "width"))
    out = dict(state)
    if kind == "removed":
        for key in parts:
            del out[key]
    elif kind == "inserted":
        for key in parts:
            out[f"{layer}_more.{key.rpartition('.')[2]}"] = state[key]
    elif kind == "inserted Linear":
        within = layer.rpartition(".")[0] or layer
        out[f"{within}.extra.weight"], out[f"{within}.extra.bias"] = (
            torch.empty(8, 8, device="meta"),
            torch.empty(8, device="meta"),
        )
    else:
        key = next((k for k in parts if state[k].dim()), parts[0])
        out[key] = torch.empty(state[key].shape[0] + 1, *state[key].shape[1:], device="meta")
    return f"{kind} {layer}", out


def main() -> int:
    """A table on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--varied", action="store_true", help="backbones with other arguments")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    draw = random.Random(given.seed)
    good: Counter[str] = Counter()
    total: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    failures: list[str] = []
    families: set[str] = set()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, place in backbones(given.count, draw):
            for style in [draw.choice(STYLES)] if given.varied else STYLES:
                drawn = varied(name, place, style, draw) if given.varied else None
                if given.varied and drawn is None:
                    continue
                module, case = drawn or (network(name, place, style, draw), None)
                families.add(f"{name.partition('/')[0]} {type(module).__name__}")
                total[style] += 1
                try:
                    why = tried(name, module, draw, folder, case)
                except Exception as error:  # a row of the table, whatever it is
                    why = f"{type(error).__name__}: {error}"
                good[style] += not why
                if why:
                    failures.append(f"{case or name} {place}, {style}: {why}")
                what, state = mutated(dict(module.state_dict()), place, draw)
                found = guess_checkpoint(checkpoint_of(state), default())
                answers[found.status] += 1
                if found.status not in ("close", "unknown"):
                    failures.append(f"{name} with {what}, {style}: {found.status}")
                del module
                gc.collect()
    print(f"{len(families)} classes of networks, seed {given.seed}")
    print(f"{'head':<16} {'files':>5} {'loaded, equal':>14}")
    for style in STYLES:
        print(f"{style:<16} {total[style]:>5} {good[style]:>14}")
    shown = ", ".join(f"{count} {status}" for status, count in sorted(answers.items()))
    print(f"backbones with a layer more, less or wider: {shown}")
    print(f"{time.perf_counter() - start:.0f} s")
    for line in failures:
        print(f"  FAILED {line}")
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
