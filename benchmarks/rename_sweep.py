"""How often networks are recovered whose keys all have other names, and what is taken for one.

    nice python benchmarks/rename_sweep.py --cases 40 --seed 0 --out docs/accuracy.md

Small networks of different families, with random weights and a drawn class count, get other names
by each scheme in turn: once as .pth, which keeps the order of the keys, once as safetensors, which
sorts them. archfind gets the file and nothing else; where the answer is exact, the network it loads
must give the original's outputs. Then networks that are none of the library's any more, which must
never be exact. Writes the section "Renamed keys" of --out. Progress on stderr.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import torch
from drawn_cases import parameters, separate
from outputs import CLOSE_TO, difference, run, run_original
from safetensors.torch import save_file
from torch import Tensor, nn

import archfind
from archfind.database.entries import default
from archfind.frozen import replace
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta

LARGEST = 12_000_000  # parameters
LEAVES = "weight bias running_mean running_var num_batches_tracked".split()
TITLE = "## Renamed keys"
State = dict[str, Tensor]


# --- the schemes -------------------------------------------------------------------------------


class Words:
    """Another word for each word, always the same."""

    def __init__(self, draw: random.Random, kept: list[str]) -> None:
        self.draw = draw
        self.known = {name: name for name in kept}

    def __call__(self, word: str) -> str:
        while word not in self.known:
            new = "".join(self.draw.choices("abcdefghijklmnopqrstuvwxyz", k=6))
            if new not in self.known.values():
                self.known[word] = new
        return self.known[word]


def by_component(key: str, change: Callable[[str], str]) -> str:
    return ".".join(map(change, key.split(".")))


def but_numbers(word: str, words: Words) -> str:
    if word in words.known:
        return words.known[word]
    return re.sub(r"[^\d.]+", lambda found: words(found[0]), word)


def shifted(word: str) -> str:
    return re.sub(r"\d+", lambda found: str(int(found[0]) + 1), word)


def nested(word: str, less: int) -> str:
    """`layer1` is `layers.0`, or `layers.1`."""
    return re.sub(
        r"^([a-z]+)(\d+)$", lambda found: f"{found[1]}s.{max(0, int(found[2]) - less)}", word
    )


def renamed(keys: list[str], scheme: str, seed: int) -> dict[str, str]:
    """Library key -> key in the file."""
    draw = random.Random(seed)
    everything, modules = Words(draw, []), Words(draw, LEAVES)
    # Where a network has a layer0 beside layer1, numbers stay.
    less = int(len({by_component(key, lambda w: nested(w, 1)) for key in keys}) == len(keys))
    schemes: dict[str, Callable[[str], str]] = {
        "words": lambda key: by_component(key, everything),
        "words, numbers kept": lambda key: by_component(key, lambda w: but_numbers(w, everything)),
        "module words": lambda key: by_component(key, lambda w: but_numbers(w, modules)),
        "flat": lambda key: by_component(key, lambda w: but_numbers(w, modules)).replace(".", "_"),
        "shifted": lambda key: by_component(shifted(key), lambda w: but_numbers(w, modules)),
        "nested": lambda key: by_component(key, lambda w: nested(w, less)),
        "numbered": lambda key: f"tensor_{keys.index(key)}",
    }
    found = {key: schemes[scheme](key) for key in keys}
    assert len(set(found.values())) == len(keys), scheme
    return found


SCHEMES = {
    "words": "every component, numbers and leaf names too, is another word",
    "words, numbers kept": "the same, but numbers stay",
    "module words": "modules have other words; numbers and leaf names stay",
    "flat": "the same, joined by underscores",
    "shifted": "module words, and every number one more",
    "nested": "`layer1.0.conv1` is `layers.0.0.convs.0`",
    "numbered": "`tensor_0`, `tensor_1`, ... in the order of the modules",
}


# --- the cases ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What became of a file. `right` says that every key was led back to the one it had, `named`
    that the network is among the answers."""

    id: str
    scheme: str
    ordered: bool
    status: str
    right: bool = False
    equal: bool | None = None
    note: str = ""
    named: bool = False


def drawn(count: int, seed: int) -> list[str]:
    """Small entries, each of another family, that are exact under their own names."""
    draw = random.Random(seed)
    database = default()
    every = [
        (member.entry, parameters(signature))
        for signature in map(database.signature, range(len(database)))
        for member in signature.members[:1]
    ]
    small = sorted(
        (entry.id, entry.cls)
        for entry, size in every
        if size <= LARGEST and "detection" not in entry.cls and "quantized" not in entry.cls
    )
    draw.shuffle(small)
    found: list[str] = []
    families: set[str] = set()
    for name, family in small:
        if len(found) == count:
            break
        if family in families:
            continue
        answer = guess_checkpoint(checkpoint_of(on_meta(name)), database)
        if answer.status == "exact" and answer.chosen_by == "only":
            families.add(family)
            found.append(name)
    return found


def on_meta(name: str, **fields: object) -> State:
    library, _, architecture = name.partition("/")
    return create_on_meta(provider(library), architecture, **fields).state_dict()


def one(name: str, scheme: str, ordered: bool, seed: int, folder: Path) -> Row:
    """Build, rename, save, guess, load, compare."""
    draw = random.Random(seed)
    library, _, architecture = name.partition("/")
    source = provider(library)
    fields: dict[str, object] = {}
    if "num_classes" in source.fields(architecture):
        fields["num_classes"] = draw.randint(2, 2000)
    module: nn.Module = source.create(architecture, **fields).eval()
    randomise_seeded(module)
    inputs, expected, why = run_original(source.example(architecture, module).args, module)
    names = renamed(list(module.state_dict()), scheme, seed)
    state = {names[key]: tensor for key, tensor in separate(module.state_dict()).items()}
    path = folder / ("network.pth" if ordered else "network.safetensors")
    if ordered:
        torch.save(state, path)
    else:
        save_file(state, path)
    found = archfind.guess(path)
    right = found.key_map == {new: key for key, new in names.items()}
    note = "; ".join(found.warnings) if found.matches else "nothing near"
    if found.status != "exact":
        others = [m.entry.id for m in found.matches[1:]]
        note = f"{found.matches[0].entry.id if found.matches else ''} {others or ''} {note}"
        named = name in [m.entry.id for m in found.matches]
        return Row(name, scheme, ordered, found.status, right, note=note, named=named)
    loaded = archfind.load(path)
    if expected is None:
        return Row(name, scheme, ordered, found.status, right, note=why)
    worst = difference(expected, run(loaded, inputs))
    return Row(name, scheme, ordered, found.status, right, worst <= CLOSE_TO, f"{worst:.1e}")


# --- what must not be exact --------------------------------------------------------------------


def fixed_keys(name: str) -> list[str]:
    """Keys of an entry whose shape no field gives."""
    for number in range(len(default())):
        signature = default().signature(number)
        if any(member.entry.id == name for member in signature.members):
            return list(signature.fixed)
    raise KeyError(name)


def changed(name: str, how: str, draw: random.Random) -> State:
    """A network with a tensor of a fixed size resized, or a layer left out or put in."""
    state = on_meta(name)
    victim = draw.choice([key for key in fixed_keys(name) if state[key].dim() > 1])
    layer = victim.rpartition(".")[0]
    out: State = {}
    for key, tensor in state.items():
        inside = key.rpartition(".")[0] == layer
        if how == "resized" and key == victim:
            sizes = list(tensor.shape)
            sizes[draw.randrange(len(sizes))] += 1
            out[key] = torch.empty(sizes, device="meta")
        elif not (inside and how == "removed"):
            out[key] = tensor
        if inside and how == "inserted":
            out[f"{layer}extra.{key.rpartition('.')[2]}"] = tensor
    return out


def by_hand(kind: str, draw: random.Random) -> State:
    """A network that somebody might write."""
    widths = [draw.choice([32, 64, 128, 256, 512]) for _ in range(draw.randint(6, 14))]
    layers: list[nn.Module] = []
    with torch.device("meta"):
        if kind == "conv stack":
            for a, b in zip([3, *widths], widths, strict=False):
                layers += [nn.Conv2d(a, b, 3, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        elif kind == "mlp":
            for a, b in zip([784, *widths], widths, strict=False):
                layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()]
        elif kind == "transformer":
            wide = draw.choice([192, 384, 768])
            for _ in range(draw.randint(4, 12)):
                layers.append(nn.TransformerEncoderLayer(wide, 4, 4 * wide))
            widths = [wide]
        else:
            layers += [nn.Conv2d(3, 64, 7, bias=False), nn.BatchNorm2d(64)]
            for a, b in zip([64, 64, 128, 256], [64, 128, 256, 512], strict=True):
                for n in range(draw.randint(1, 4)):
                    layers += [nn.Conv2d(b if n else a, b, 3, bias=False), nn.BatchNorm2d(b)]
                    layers += [nn.Conv2d(b, b, 3, bias=draw.random() < 0.5), nn.BatchNorm2d(b)]
                layers += [nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b)]
            widths = [512]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 10)).state_dict()


def negatives(names: list[str], seed: int) -> Iterator[Row]:
    """Sixty changed networks, and twenty made by hand."""
    kinds = ["conv stack", "mlp", "transformer", "small resnet"]
    schemes = [scheme for scheme in SCHEMES if scheme != "nested"]
    for number in range(80):
        draw = random.Random(seed * 1000 + number)
        if number < 60:
            how = ("inserted", "removed", "resized")[number % 3]
            name = names[number // 3 % len(names)]
            state = changed(name, how, draw)
        else:
            name = how = kinds[number % 4]
            state = by_hand(how, draw)
        scheme = schemes[number % len(schemes)]
        new = renamed(list(state), scheme, number)
        ordered = number % 2 == 0
        checkpoint = checkpoint_of(
            {new[key]: state[key] for key in (state if ordered else sorted(state, key=new.get))}
        )
        if not ordered:
            checkpoint = replace(checkpoint, format="safetensors")
        found = guess_checkpoint(checkpoint, default())
        near = found.matches[0].entry.id if found.matches else ""
        yield Row(name, how, ordered, found.status, note=f"{scheme}: {near}")


# --- the section -------------------------------------------------------------------------------


def table(rows: list[Row]) -> list[str]:
    lines = [
        "| order | names | files | exact, outputs equal | exact, outputs differ | "
        "ambiguous, the network listed | close or unknown |",
        "|---|---|---|---|---|---|---|",
    ]
    for ordered in (True, False):
        held = [row for row in rows if row.ordered is ordered]
        where = "kept (.pth)" if ordered else "lost (safetensors)"
        groups = [(s, [row for row in held if row.scheme == s]) for s in SCHEMES]
        for scheme, some in [*groups, ("**all**", held)]:
            exact = [row for row in some if row.status == "exact"]
            good = sum(row.equal is not False and row.right for row in exact)
            counts = (
                len(some),
                good,
                len(exact) - good,
                sum(row.status == "ambiguous" and row.named for row in some),
                sum(row.status in ("close", "unknown") for row in some),
            )
            lines.append(f"| {where} | {scheme} | {' | '.join(map(str, counts))} |")
    return lines


def section(rows: list[Row], wrong: list[Row], command: str) -> str:
    """The section as it stands in docs/accuracy.md."""
    made = [row for row in wrong if row.status == "exact"]
    compared = [row for row in rows if row.equal is not None]
    every = [
        TITLE,
        "",
        f"    python benchmarks/{command}",
        "",
        fill(
            f"{len(rows)} files of small networks, each of another family and exact under its own "
            "names, with random weights, a drawn class count and other names for all keys. "
            f"Outputs were compared where archfind loads a network unasked ({len(compared)} "
            f"files); {CLOSE_TO:g} of the largest is equal.",
            100,
        ),
        "",
        *[f"- **{name}**: {what}." for name, what in SCHEMES.items()],
        "",
        *table(rows),
        "",
        fill(
            f"Not the library's any more ({len(wrong)}: a layer put in, left out or resized in "
            "60, stacks, perceptrons, transformers and small ResNets made by hand in 20; renamed, "
            f"order kept and lost): {len(made)} exact.",
            100,
        ),
        "",
        fill(
            "Without order, tensors of equal shape in one module are told apart by numbers or leaf "
            "names; where a scheme replaces both, nothing is left that tells a BatchNorm's four "
            "vectors apart, and the answer is `close`, with the tensors named. Where another entry "
            "has the same shapes (torchvision's and timm's own regnet) it is `ambiguous`.",
            100,
        ),
    ]
    return "\n".join(every) + "\n"


def put(path: Path, text: str) -> None:
    """Replace the section, or add it at the end."""
    old = path.read_text() if path.exists() else ""
    before, found, after = old.partition(TITLE)
    rest = after[after.find("\n## ") + 1 :] if found and "\n## " in after else ""
    path.write_text(before.rstrip("\n") + "\n\n" + text + (f"\n{rest}" if rest else ""))


def main() -> None:
    """Progress and every miss on stderr, the section into --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = drawn(given.cases, given.seed)
    rows: list[Row] = []
    schemes = list(SCHEMES)
    for ordered in (True, False):
        for number, name in enumerate(names):
            start = time.perf_counter()
            scheme = schemes[number % len(schemes)]
            with tempfile.TemporaryDirectory() as folder:
                rows.append(one(name, scheme, ordered, given.seed + number, Path(folder)))
            row, took = rows[-1], time.perf_counter() - start
            sys.stderr.write(
                f"{row.id} {'kept' if ordered else 'lost'} {scheme}: {row.status} "
                f"right={row.right} equal={row.equal} {row.note[:150]} {took:.1f} s\n"
            )
    wrong = list(negatives(names, given.seed))
    for row in wrong:
        sys.stderr.write(f"negative {row.id} {row.scheme} {row.status} {row.note}\n")
    text = section(rows, wrong, f"rename_sweep.py --cases {given.cases} --seed {given.seed}")
    if given.out:
        put(given.out, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
