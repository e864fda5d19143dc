"""Networks that no library has: none of them may get a name.

    nice python benchmarks/false_accepts.py

Three sorts, all seeded, as headers in memory with a random prefix: hand-made networks under usual
names (outsiders.py), library networks with a layer inserted, removed, resized or swapped, and
library backbones inside of networks that are nobody's. `exact` is wrong for every one of them, and
so is `ambiguous`, except for a file of several networks that are the library's; a part that's named
must be the library's. The exit code is 1 where an answer is wrong.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable

import torch
from outsiders import STYLES
from torch import nn

import archfind
from archfind.database.entries import default
from archfind.database.notation import Size
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.state_dicts.canonical import DERIVED
from archfind.types import Guess

State = dict[str, torch.Tensor]
PREFIXES = ("", "", "module.", "model.", "net.backbone.", "_orig_mod.")
LARGEST = 40e6  # parameters: building on the meta device takes time with depth
SURE = ("exact", "ambiguous")

LIBRARIES = ("torchvision", "timm", "spandrel")


def entries(draw: random.Random) -> list[tuple[str, set[str]]]:
    """(an entry, its twins and itself), one of each signature that isn't huge, in random order, of
    the LIBRARIES whose networks aren't made of other libraries' networks: an encoder within one of
    those is rightly named as a part, whatever was changed beside it."""
    found: list[tuple[str, set[str]]] = []
    for number in range(len(default())):
        signature = default().signature(number)
        total = sum(torch.Size(shape).numel() for shape in signature.fixed.values())
        if total <= LARGEST:
            ids = [member.entry.id for member in signature.members]
            if any(member.entry.provider not in LIBRARIES for member in signature.members):
                continue
            found.append((draw.choice(ids), set(ids)))
    draw.shuffle(found)
    return found


def heads(name: str) -> set[str]:
    """The modules of the first level that num_classes sizes: what stands there may be changed, and
    the network is still the library's."""
    for number in range(len(default())):
        signature = default().signature(number)
        if any(member.entry.id == name for member in signature.members):
            return {
                key.partition(".")[0]
                for key, line in signature.free.items()
                if line.condition or any(isinstance(size, Size) for size in line.shape)
            }
    raise KeyError(name)


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def state_of(name: str, **fields: object) -> State:
    library, _, architecture = name.partition("/")
    return dict(create_on_meta(provider(library), architecture, **fields).state_dict())


def layers_of(state: State, without: set[str]) -> dict[str, list[str]]:
    """Layer -> its tensors, less what the library makes by itself."""
    found: dict[str, list[str]] = {}
    for key, tensor in state.items():
        path, _, leaf = key.rpartition(".")
        own = path and tensor.dim() and tensor.is_floating_point() and leaf not in DERIVED
        if own and key.partition(".")[0] not in without:
            found.setdefault(path, []).append(key)
    return found


def inserted(state: State, layers: dict[str, list[str]], draw: random.Random) -> State:
    """A copy of a layer under a new name, or a new Linear, norm or convolution."""
    layer = draw.choice(list(layers))
    within = draw.choice((layer, layer.rpartition(".")[0] or layer))
    width = draw.choice((8, 64, 256))
    new: State = {f"{layer}_2.{key.rpartition('.')[2]}": state[key] for key in layers[layer]}
    name = f"{within}.{draw.choice(('extra', 'se', 'norm3', 'adapter', '99'))}"
    kind = draw.randrange(4)
    if kind:
        shape = ((), (width,), (width, width), (width, width, 3, 3))[kind]
        new = {f"{name}.weight": empty(*shape), f"{name}.bias": empty(width)}
    return {**state, **new}


def removed(state: State, layers: dict[str, list[str]], draw: random.Random) -> State:
    """Less a tensor, a layer or a block."""
    layer = draw.choice(list(layers))
    gone = set(layers[layer])
    kind = draw.randrange(3)
    if kind == 1:
        gone = {draw.choice(layers[layer])}
    elif kind == 2 and "." in layer:
        block = layer.rpartition(".")[0] + "."
        gone = {key for key in state if key.startswith(block)}
    return {key: tensor for key, tensor in state.items() if key not in gone}


def resized(state: State, layers: dict[str, list[str]], draw: random.Random) -> State:
    """A tensor, a layer's outputs, or a whole stage another size."""
    layer = draw.choice(list(layers))
    more, kind = draw.choice((1, 8)), draw.randrange(3)
    keys = layers[layer]
    if kind == 1:
        keys = [draw.choice(keys)]
    elif kind == 2:
        top = layer.rpartition(".")[0]
        keys = [key for path, own in layers.items() if path.startswith(top) for key in own]
    out = dict(state)
    for key in keys:
        out[key] = empty(state[key].shape[0] + more, *state[key].shape[1:])
    return out


def swapped(state: State, layers: dict[str, list[str]], draw: random.Random) -> State:
    """Two tensors of unlike shapes under each other's names."""
    keys = [key for own in layers.values() for key in own]
    one = draw.choice(keys)
    others = [key for key in keys if state[key].shape != state[one].shape]
    if not others:
        return resized(state, layers, draw)
    other = draw.choice(others)
    return {**state, one: state[other], other: state[one]}


CHANGES: dict[str, Callable[[State, dict[str, list[str]], random.Random], State]] = {
    "inserted": inserted,
    "removed": removed,
    "resized": resized,
    "swapped": swapped,
}


def within(name: str, draw: random.Random) -> tuple[str, State]:
    """A library's backbone inside of a network that's nobody's."""
    fields = provider(name.partition("/")[0]).fields(name.partition("/")[2])
    state = state_of(name, **({"num_classes": 5} if "num_classes" in fields else {}))
    inner = draw.choice(("encoder", "backbone", "features_net", "base"))
    out: State = {f"{inner}.{key}": tensor for key, tensor in state.items()}
    rest: dict[str, Callable[[], nn.Module]] = {
        "decoder": lambda: STYLES["U-Net"](draw),
        "rnn": lambda: nn.GRU(512, 128, 2, bidirectional=True),
        "neck": lambda: nn.Sequential(nn.Conv2d(512, 256, 1), nn.Conv2d(256, 256, 3)),
        "transformer": lambda: STYLES["Transformer of words"](draw),
        "pool": lambda: nn.MultiheadAttention(512, 8),
        "text": lambda: nn.Sequential(nn.Embedding(1000, 77), nn.Conv1d(77, 512, 3)),
        "critic": lambda: STYLES["GAN"](draw),
    }
    kind = draw.choice(list(rest))
    with torch.device("meta"):
        other = rest[kind]().state_dict()
    out.update((f"{kind}.{key}", tensor) for key, tensor in other.items())
    return f"backbone and {kind}", out


def wrong(found: Guess, true: set[str]) -> str:
    """What is wrong with an answer, "" where nothing is: `true` are the library's networks that the
    file really holds."""
    several = len(found.parts) > 1
    if found.status == "exact" or (found.status == "ambiguous" and not several):
        return "" if is_own(found) else f"{found.status}: {found.matches[0].entry.id}"
    for name, one in found.parts.items():
        ids = {m.entry.id for m in one.matches}
        ids |= {f"{t.provider}/{t.architecture}" for m in one.matches for t in m.twins}
        if one.status in SURE and not ids & true:
            return f"part {name} {one.status}: {', '.join(sorted(ids)[:2])}"
    return ""


def is_own(found: Guess) -> bool:
    """Whether the class, called with the arguments that the answer says, has exactly the file's
    tensors: a last layer of 49 instead of 48 channels is one channel at a scale of 7, not another
    network."""
    variant = found.matches[0].variant
    if variant is None:
        return False
    with torch.device("meta"):
        built = archfind.variant(found.matches[0].entry.id, dict(variant.moved)).state_dict()
    index = found.canonical.index
    shapes = {k: tuple(t.shape) for k, t in built.items() if k in index or t.is_floating_point()}
    return shapes == {key: spec.shape for key, spec in index.items()}


class Count:
    """Answers by kind of network."""

    def __init__(self) -> None:
        self.answers: dict[str, Counter[str]] = {}
        self.named = 0  # parts that are the library's, and named so
        self.failures: list[str] = []
        self.own: list[str] = []  # which the change made another network of the same class

    def add(self, kind: str, what: str, state: State, true: set[str], draw: random.Random) -> None:
        prefix = draw.choice(PREFIXES)
        found = guess_checkpoint(
            checkpoint_of({prefix + k: t for k, t in state.items()}), default()
        )
        self.answers.setdefault(kind, Counter())[found.status] += 1
        self.named += sum(one.status in SURE for one in found.parts.values())
        why = wrong(found, true)
        if why:
            self.failures.append(f"{kind}, {prefix}{what}: {why}")
        elif found.status in SURE and not (len(found.parts) > 1 and found.status == "ambiguous"):
            moves = found.matches[0].variant.moved if found.matches[0].variant else {}
            self.own.append(f"{kind}, {prefix}{what}: {found.matches[0].entry.id} {dict(moves)}")

    @property
    def total(self) -> int:
        return sum(sum(counts.values()) for counts in self.answers.values())


def run(own: int, changed: int, inside: int, seed: int) -> Count:
    """`own` networks of each style, `changed` library networks with each change, `inside` others
    with a library's backbone."""
    draw = random.Random(seed)
    count = Count()
    for style in progress(list(STYLES), len(STYLES), "hand-made"):
        for n in range(own):
            with torch.device("meta"):
                module = STYLES[style](draw)
            count.add(style, str(n), dict(module.state_dict()), set(), draw)
    names = entries(draw)
    for name, _ in progress(names[:changed], changed, "changed"):
        state = state_of(name)
        layers = layers_of(state, heads(name)) or layers_of(state, set())
        for kind, change in CHANGES.items():
            count.add(f"a layer {kind}", name, change(state, layers, draw), set(), draw)
    for name, twins in progress(names[changed : changed + inside], inside, "inside"):
        kind, state = within(name, draw)
        count.add(kind, name, state, twins, draw)
    return count


def main() -> int:
    """A table on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--own", type=int, default=20, help="of each hand-made style")
    parser.add_argument("--changed", type=int, default=100, help="library networks, each four ways")
    parser.add_argument("--inside", type=int, default=80, help="with a library's backbone inside")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    count = run(given.own, given.changed, given.inside, given.seed)
    statuses = ("exact", "ambiguous", "close", "unknown")
    print(f"| network | {' | '.join(statuses)} |\n|---|{'---|' * len(statuses)}")
    for kind, answers in count.answers.items():
        print(f"| {kind} | {' | '.join(str(answers[s]) for s in statuses)} |")
    whole = sum(count.answers.values(), Counter())
    print(f"| all {count.total} | {' | '.join(str(whole[s]) for s in statuses)} |")
    print(f"{count.named} parts named; {time.perf_counter() - start:.0f} s, seed {given.seed}")
    for line in count.own:
        print(f"  the class's own, with these arguments: {line}")
    for line in count.failures:
        print(f"  WRONG {line}")
    return int(bool(count.failures))


if __name__ == "__main__":
    raise SystemExit(main())
