"""How many checkpoints one process names in a second, against the whole database.

    nice python benchmarks/guess_rate.py

A seeded mix of networks of torchvision and timm with 200 to 400 tensors each, every one another
entry, with a random class count and prefix, as headers in memory. The first pass starts with
nothing cached, the second finds the signatures that the first one expanded. Every answer must be
the entry or one of its twins.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import random
import sys
import time

import archfind
from archfind.database.entries import Database, default
from archfind.database.entries import signatures_folder as signatures
from archfind.learning.check import checkpoint_of
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.types import Checkpoint, Guess

FEWEST, MOST = 200, 400
PREFIXES = ("", "", "module.", "model.", "net.backbone.", "_orig_mod.", "student_net.")


def entries(count: int, draw: random.Random) -> list[str]:
    """Ids of entries of about the wanted number of tensors, in random order."""
    database = Database(f"{signatures()}/index.bin")  # its own: `default()` must stay cold
    found: list[str] = []
    for number in range(len(database)):
        signature = database.signature(number)
        if FEWEST <= len(signature) <= MOST:
            found += [member.entry.id for member in signature.members]
    draw.shuffle(found)
    return found[: count * 2]


def header(name: str, draw: random.Random) -> Checkpoint:
    """What a file of the network `name` would say it holds."""
    library, _, architecture = name.partition("/")
    source = provider(library)
    fields = source.fields(architecture)
    classes = {"num_classes": draw.randint(2, 20_000)} if "num_classes" in fields else {}
    state = create_on_meta(source, architecture, **classes).state_dict()
    prefix = draw.choice(PREFIXES)
    return checkpoint_of({prefix + key: tensor for key, tensor in state.items()})


def names(guess: Guess) -> set[str]:
    """Every entry that an answer names."""
    found = {match.entry.id for match in guess.matches}
    return found | {f"{t.provider}/{t.architecture}" for m in guess.matches for t in m.twins}


def timed(checkpoints: list[Checkpoint]) -> tuple[float, list[Guess]]:
    """Guesses in a second, and the guesses."""
    gc.collect()
    start = time.perf_counter()
    guesses = [archfind.guess(checkpoint) for checkpoint in checkpoints]
    return len(checkpoints) / (time.perf_counter() - start), guesses


def main() -> None:
    """Plain lines on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", action="store_true", help="then show where the time goes")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    mix: dict[str, Checkpoint] = {}
    for name in entries(given.count, draw):
        found = header(name, draw)
        if FEWEST <= len(found.index) <= MOST and len(mix) < given.count:
            mix[name] = found
    assert len(mix) == given.count, f"only {len(mix)} entries are of this size"
    checkpoints = list(mix.values())

    rates: dict[str, float] = {}
    exact = 0
    for which in ("first pass", "second pass"):
        rates[which], guesses = timed(checkpoints)
        for name, guess in zip(mix, guesses, strict=True):
            assert guess.status in ("exact", "ambiguous"), (name, guess.status)
            assert name in names(guess), (name, names(guess))
        exact = sum(guess.status == "exact" for guess in guesses)
    libraries = [sum(name.startswith(p) for name in mix) for p in ("timm/", "torchvision/")]
    tensors = sum(len(checkpoint.index) for checkpoint in checkpoints) / len(checkpoints)
    print(
        f"{len(mix)} entries ({libraries[0]} timm, {libraries[1]} torchvision), {tensors:.0f} "
        f"tensors on average, against {len(default())} signatures: {exact} exact, "
        f"{len(mix) - exact} ambiguous"
    )
    for which, rate in rates.items():
        print(f"{which:<12} {rate:6.0f} guesses/s  ({1e3 / rate:.2f} ms each)")
    if given.profile:
        profile = cProfile.Profile()
        profile.runcall(timed, checkpoints)
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
