"""Networks with arguments that no registered one has: named, solved, loaded, and their outputs
compared.

    nice python benchmarks/variant_sweep.py --cases 400 --seed 0

Each case draws a class of a library, one of its registered networks, and new values for a few of
the arguments that its class got: numbers around the network's own, the other of two, what the
class's own source compares an argument with. What keys and shapes don't show is put back. With
--drawn the arguments are those that drawn_restorers.py draws whole, class after class. The class is
built, its weights are randomised, and it is saved as .pth or .safetensors. It counts as
    named    the class is named, from names and shapes alone, with every argument that shapes show
             (or others that give the same tensors)
    right    the same, after a search where that was needed
    loaded   the file loads strictly into the answer
    equal    and, given the invisible arguments, computes what the original computes
With --named only the first, of headers in memory: no weights are made, nothing is searched for.
Progress on stderr, a line for each miss on stdout. The exit code is 1 below --wanted percent.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from drawn_cases import separate
from drawn_restorers import DRAWN
from outputs import CLOSE_TO, difference, run, run_original
from safetensors.torch import save_file
from torch import nn

import archfind
from archfind.database.compile import read_texts
from archfind.database.entries import default, signatures_folder
from archfind.errors import ArchfindError
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.matching.variants import gathered
from archfind.probing.config import Config, captured_call, leaves_of_config, moved
from archfind.probing.probe import Shapes, on_meta, shapes_of
from archfind.probing.proposals import leaf_name, literals
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.example import example_for_variant
from archfind.providers.on_meta import create_on_meta
from archfind.searching.doubt import is_doubtful
from archfind.state_dicts.canonical import is_derived
from archfind.types import Guess, Match

LIMITS = {"largest": 25e6, "moved": 4}  # parameters of a network, arguments moved at once
ADDRESSES = 18 << 30  # bytes; torch itself maps 5 to 8 GB
TRIES = 60
SECONDS = 15.0  # for drawing one case
SURE = ("exact", "ambiguous")
REDRAWS = 6  # of a case whose original doesn't run


class Case:
    """A variant that its class builds."""

    def __init__(
        self, entry: str, cls: type[nn.Module], base: Config, moves: dict[str, Any], shapes: Shapes
    ) -> None:
        self.entry = entry
        self.cls = cls
        self.base = base
        self.moves = moves
        self.shapes = shapes

    def __str__(self) -> str:
        return f"{self.entry} {json.dumps(self.moves or self.base, default=str)}"


@functools.cache
def classes(only: str = "") -> dict[str, list[str]]:
    """The registered networks by class, of those with `only` in their path or a name's."""
    found: dict[str, list[str]] = {}
    for text in read_texts(Path(signatures_folder())):
        if only in text.cls or only in text.id:
            found.setdefault(text.cls, []).append(text.id)
    return found


def other(draw: random.Random, path: str, value: Any, options: list[Any]) -> Any:
    """Another value of the same kind."""
    if type(value) is bool:
        return not value
    if path.endswith(".#"):
        return max(1, value + draw.choice((-1, 1)))
    if type(value) is int:
        if value <= 12:
            return draw.choice([n for n in range(1, 9) if n != value])
        return max(1, draw.choice((value * draw.randint(2, 14) // 8, value + 8, value - 8)))
    if type(value) is float:
        return value * draw.choice((0.5, 0.75, 1.25, 1.5, 2)) if value else 0.25
    return draw.choice(options) if options else value


def variant(draw: random.Random, name: str) -> Case | None:
    """Some of a network's arguments moved, as long as the class takes them."""
    library, _, architecture = name.partition("/")
    source = provider(library)
    try:
        _, cls, base = captured_call(lambda: create_on_meta(source, architecture))
        first = shapes_of(on_meta(cls, moved(base, {})))
    except Exception:  # not to be called again with what it got
        return None
    if any(isinstance(value, nn.Module | torch.Tensor) for value in base.values()):
        return None  # of a network on meta: the class can't be called again with it
    values = leaves_of_config(base)
    hints = literals(cls)
    roots: dict[str, list[str]] = {}
    for path in values:
        roots.setdefault(path.partition(".")[0], []).append(path)
    if sum(torch.Size(shape).numel() for shape, _ in first.values()) > 4 * LIMITS["largest"]:
        return None  # few of its variants would be small enough
    end = time.monotonic() + SECONDS
    for _ in range(TRIES if roots else 0):
        if time.monotonic() > end:
            break
        some = draw.sample(list(roots), min(len(roots), int(LIMITS["moved"])))
        paths = [draw.choice(roots[root]) for root in some]
        moves = {p: other(draw, p, values[p], hints.get(leaf_name(p), [])) for p in paths}
        moves = {p: v for p, v in moves.items() if v != values[p]}
        shapes = tensors(cls, base, moves)
        for path in list(moves):  # only what shows
            rest = {p: v for p, v in moves.items() if p != path}
            if shapes is not None and len(moves) > 1 and tensors(cls, base, rest) == shapes:
                moves = rest
        if not moves or shapes is None or shapes == first:
            continue
        total = sum(torch.Size(shape).numel() for shape, _ in shapes.values())
        if total < LIMITS["largest"] and all(0 not in shape for shape, _ in shapes.values()):
            return Case(name, cls, base, moves, shapes)
    return None


def drawn_whole(draw: random.Random, name: str, number: int) -> Case | None:
    """A restorer with the arguments that are drawn for its class, as long as it takes them."""
    library, _, architecture = name.partition("/")
    _, cls, base = captured_call(lambda: create_on_meta(provider(library), architecture))
    for _ in range(TRIES):
        config = {**base, **DRAWN[name](draw, number)}
        shapes = tensors(cls, config, {})
        total = sum(torch.Size(shape).numel() for shape, _ in (shapes or {}).values())
        if shapes is not None and total < LIMITS["largest"]:
            return Case(name, cls, config, {}, shapes)
    return None


def tensors(cls: type[nn.Module], base: Config, moves: dict[str, Any]) -> Shapes | None:
    """What the class makes of these arguments, None where it refuses them."""
    try:
        return shapes_of(on_meta(cls, moved(base, moves)))
    except Exception:  # a class refuses values in its own ways
        return None


def wrong_arguments(case: Case, found: Match) -> dict[str, Any]:
    """Arguments read as other than drawn, although shapes show them."""
    read = arguments_of(found)
    truth = leaves_of_config(moved(case.base, case.moves))
    together = {p: v for p, v in read.items() if p in truth}
    if is_same(tensors(case.cls, case.base, {**case.moves, **together}), case.shapes):
        return {}
    wrong: dict[str, Any] = {}
    for path, value in read.items():
        if path in truth and truth[path] != value:
            try:
                same = shapes_of(on_meta(case.cls, moved(case.base, {**case.moves, path: value})))
            except Exception:  # one of several that go together
                same = case.shapes
            if not is_same(same, case.shapes):
                wrong[path] = (truth[path], value)
    return wrong


def is_same(shapes: Shapes | None, own: Shapes) -> bool:
    """Whether arguments give a file's tensors: all that it has, and beside them only masks, which
    are left out of files as often as not."""
    if shapes is None or not own.keys() <= shapes.keys():
        return False
    return all(
        own.get(key) == spec or (key not in own and is_derived(key, spec[1]))
        for key, spec in shapes.items()
    )


def arguments_of(found: Match) -> dict[str, Any]:
    """The leaves that an answer's config gives."""
    return leaves_of_config({name: setting.value for name, setting in found.config.items()})


def named(case: Case, counts: Counter[str]) -> str:
    """Count one case by its header alone; what's wrong with it, if anything."""
    index = {
        key: torch.empty(shape, device="meta", dtype=getattr(torch, kind))
        for key, (shape, kind) in case.shapes.items()
    }
    found = guess_checkpoint(checkpoint_of(index), default())
    counts["cases"] += 1
    counts[found.status] += 1
    fits = fitting(case, found)
    wrong = wrong_arguments(case, fits[0]) if fits else {}
    counts["named"] += bool(fits) and not wrong
    return why_not(found, fits) or (f"read {wrong}" if wrong else "")


def fitting(case: Case, found: Guess) -> list[Match]:
    """The answers that are right about the class, then those of a class of another library that is
    known to compute the same for some network: whether it does for this one, outputs tell."""
    if found.status not in SURE:
        return []
    wanted = class_of(case)
    own = [m for m in found.matches if m.fits and m.entry.cls == wanted]
    return own + [m for m in found.matches if m.fits and (m.entry.cls, wanted) in sisters()]


def class_of(case: Case) -> str:
    return f"{case.cls.__module__}.{case.cls.__qualname__}"


@functools.cache
def sisters() -> set[tuple[str, str]]:
    """Pairs of classes with a network of the same function."""
    database = default()
    found: set[tuple[str, str]] = set()
    for number in range(len(database)):
        members = database.signature(number).members
        found |= {
            (one.entry.cls, other.entry.cls)
            for one in members
            for other in members
            if one.function == other.function and one.entry.cls != other.entry.cls
        }
    return found


def why_not(found: Guess, fits: Sequence[Match]) -> str:
    near = found.matches[0] if found.matches else None
    if fits:
        return ""
    told = f"{near.entry.id} {near.matched}/{near.expected}" if near else ""
    return f"{found.status} {told}"


def judge(case: Case, path: Path, counts: Counter[str]) -> str | None:
    """Count one case; what's wrong with it, if anything. None where the original itself doesn't
    run: shapes that go together aren't all that a network needs."""
    try:
        module = case.cls(**moved(case.base, case.moves)).eval()
        randomise_seeded(module)
    except Exception:  # what goes on the meta device doesn't always go without
        return None
    library, _, name = case.entry.partition("/")
    truth = leaves_of_config(moved(case.base, case.moves))
    whole = {k: v for root in case.base for k, v in gathered(root, below(root, truth)).items()}
    if (
        cfg := getattr(create_on_meta(provider(library), name), "pretrained_cfg", None)
    ) is not None:
        module.pretrained_cfg = cfg
    example = example_for_variant(provider(library).example(name, module), whole)
    inputs, expected, _ = run_original(example.args, module)
    if expected is None:
        return None
    if path.suffix == ".pth":
        torch.save({"state_dict": module.state_dict()}, path)
    else:
        save_file(separate(module.state_dict()), path)
    del module
    answer = archfind.guess(path)
    counts["cases"] += 1
    counts[answer.status] += 1
    light = answer.status in SURE and not is_doubtful(answer)
    if not light:
        answer = archfind.guess(answer, search=True)
        counts[f"{answer.status} after a search"] += 1
    fits = fitting(case, answer)
    if not fits:
        return why_not(answer, fits)
    found = fits[0]
    wrong = wrong_arguments(case, found)
    if wrong and light:  # what was assumed may be what the class refuses: loading searches, too
        light = False
        with contextlib.suppress(ArchfindError):
            found = archfind.build(path, choose=found.entry.id).guess.matches[0]
            wrong = wrong_arguments(case, found)
    is_own = found.entry.cls == class_of(case)
    counts["right"] += not wrong and is_own
    counts["named"] += light and not wrong and is_own
    if wrong:
        return f"read {wrong}"
    read = arguments_of(found)
    invisible = {
        root: whole[root]
        for root in whole
        if "." not in root and any(read.get(p, v) != v for p, v in below(root, truth).items())
    }
    found_base = captured_call(
        lambda: create_on_meta(provider(found.entry.provider), found.entry.name)
    )
    entry_values = leaves_of_config(found_base[2])
    for root in case.base:
        if any(entry_values.get(p) != v and p not in read for p, v in below(root, truth).items()):
            if root in whole:
                invisible[root] = whole[root]
            else:  # leaves of a nested argument
                own = below(root, truth)
                invisible |= {p: v for p, v in own.items() if p not in read and p[-1] != "#"}
    shown = {p.partition(".")[0] for p, s in found.config.items() if s.source == "shape"}
    given = found_base[2].keys() - shown
    every = invisible
    invisible = {p: v for p, v in invisible.items() if p.partition(".")[0] in given}
    try:
        archfind.load(path, choose=found.entry.id)
    except ArchfindError as error:
        return f"load: {error.message}"
    counts["loaded"] += 1
    why = ""
    # What can't be written as a setting (a layer's class) is given with the entry.
    # Last all arguments, those that were read as others that make the same tensors, too: a picture
    # of 216 pixels has as many patches as one of 208.
    ways = [(entry, invisible) for entry in dict.fromkeys((found.entry.id, case.entry))]
    for entry, settings in [*ways, (found.entry.id, every)]:
        try:
            loaded = archfind.load(path, choose=entry, settings=settings)
            worst = difference(expected, run(loaded, inputs))
        except ArchfindError as error:
            why = why or f"load: {error.message}"
            continue
        except Exception as error:  # built from arguments with which it can't take this input
            why = why or f"runs not: {error}"
            continue
        if worst <= CLOSE_TO:
            counts["equal"] += 1
            counts["right"] += not is_own
            counts["named"] += light and not is_own
            return ""
        why = why or f"outputs differ by {worst:.1e}"
    return why


def below(root: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {p: v for p, v in values.items() if p == root or p.startswith(f"{root}.")}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cases", type=int, default=400)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="")
    options.add_argument(
        "--drawn", action="store_true", help="restorers with arguments drawn whole"
    )
    options.add_argument("--named", action="store_true", help="no weights, no search")
    options.add_argument("--wanted", type=float, default=98)
    options.add_argument("--part", default="0/1", metavar="N/OF", help="every OF-th case, from N")
    options.add_argument("--verbose", action="store_true", help="each case on stderr, before")
    options.add_argument("--largest", type=float, default=25, help="million parameters of a case")
    options.add_argument("--moved", type=int, default=4, help="arguments at once, at most")
    arguments = options.parse_args()
    LIMITS["moved"] = arguments.moved
    LIMITS["largest"] = arguments.largest * 1e6
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    # Some variants would take all of a machine's memory to be run: they are drawn anew.
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    known = classes(arguments.only)
    if arguments.drawn:
        known = {name: [name] for name in DRAWN if arguments.only in name}
    order = sorted(known)
    random.Random(arguments.seed).shuffle(order)
    counts: Counter[str] = Counter()
    drawn: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        first, step = map(int, arguments.part.split("/"))
        numbers = range(first, arguments.cases, step)
        for number in progress(numbers, len(numbers), "variants"):
            own = random.Random(f"{arguments.seed} {number}")
            cls = order[number % len(order)]
            for _ in range(REDRAWS):
                name = own.choice(known[cls])
                turn = number // len(order)  # of a class among its cases
                whole = arguments.drawn
                case = drawn_whole(own, name, turn) if whole else variant(own, name)
                if case is None:
                    counts["can't be drawn"] += 1
                    continue
                path = Path(place) / f"{number}{own.choice(('.pth', '.safetensors'))}"
                if arguments.verbose:
                    print(number, case, file=sys.stderr, flush=True)
                why = named(case, counts) if arguments.named else judge(case, path, counts)
                path.unlink(missing_ok=True)
                gc.collect()
                if why is None:
                    counts["redrawn"] += 1
                    continue
                drawn.setdefault(case.entry.partition("/")[0], set()).add(cls)
                if why:
                    print(f"{case}: {why}", flush=True)
                break
    for library, names in sorted(drawn.items()):
        print(f"{library}: {len(names)} classes: {' '.join(sorted(names))}")
    print(dict(counts))
    share = {
        k: 100 * counts[k] / max(1, counts["cases"])
        for k in (("named",) if arguments.named else ("named", "right", "loaded", "equal"))
    }
    print(", ".join(f"{name} {value:.1f} %" for name, value in share.items()))
    wanted = [value for k, value in share.items() if k != "named"] or [share["named"]]
    return int(min(wanted) < arguments.wanted)


if __name__ == "__main__":
    sys.exit(main())
