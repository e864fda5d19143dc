"""Whether `--code` finds the class that a state dict belongs to, in packages that are no providers.

    python benchmarks/code_classes.py --packages monai vit_pytorch kornia --cases 60 --seed 0
    python benchmarks/code_classes.py --packages monai vit_pytorch nflows --cases 50 --trust

Classes are drawn from the packages' modules, built with arguments drawn for those that have no
default, and written as keys and shapes alone. Then the package's files are read, never run, and the
class must be among the first three; the arguments that the sizes tell are held against those that
it was built with. Importing the packages is this script's part, to have something to ask. With
`--trust` the class is then imported, probed and loaded strictly as `archfind.load` does it, from a
file of random weights: right is an answer that has the class among what fits, with arguments that
make every tensor, and with the values that it was built with wherever the answer says that the
tensors show them.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import random
import tempfile
import time
import warnings
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import nn

import archfind
from archfind.codebase.ranked import classes_of
from archfind.providers.building import without_sockets

_NUMBERS = (4, 8, 12, 16, 24, 32, 48, 64)
_FEWEST = 6  # tensors: fewer fit many classes


def module_classes(package: str) -> Iterator[type[nn.Module]]:
    """Every kind of nn.Module that a package's modules declare."""
    top = importlib.import_module(package)
    seen: set[type] = set()
    for module in [top, *_submodules(top)]:
        for _, cls in inspect.getmembers(module, inspect.isclass):
            is_its = cls.__module__.partition(".")[0] == package
            if issubclass(cls, nn.Module) and is_its and cls not in seen:
                seen.add(cls)
                yield cls


def _submodules(top: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(getattr(top, "__path__", ()), f"{top.__name__}."):
        if any(word in found.name for word in ("test", "__main__", "cli", "app")):
            continue
        try:
            yield importlib.import_module(found.name)
        except BaseException:  # what needs another package has nothing to draw
            continue


def drawn_arguments(cls: type[nn.Module], draw: random.Random) -> dict[str, object] | None:
    """Arguments for those without a default; None where one of them is no number."""
    given: dict[str, object] = {}
    for name, spec in inspect.signature(cls.__init__).parameters.items():
        if name == "self" or spec.kind in (spec.VAR_POSITIONAL, spec.VAR_KEYWORD):
            continue
        kind = str(spec.annotation)
        is_number = "int" in kind or spec.annotation is inspect.Parameter.empty
        if spec.default is inspect.Parameter.empty:
            if name in ("spatial_dims", "dimensions"):
                given[name] = draw.choice((2, 3))
            elif not is_number:
                return None
            else:
                given[name] = draw.choice(_NUMBERS)
        elif type(spec.default) is int and spec.default > 1 and draw.random() < 0.3:
            given[name] = draw.choice((spec.default, 2 * spec.default))
    return given


def built(cls: type[nn.Module], draw: random.Random) -> tuple[dict[str, object], nn.Module] | None:
    """A network of the class, with the arguments that it was built with."""
    for _ in range(8):
        given = drawn_arguments(cls, draw)
        if given is None:
            return None
        try:
            with without_sockets(), torch.device("meta"):
                module = cls(**given)
        except Exception:  # numbers that don't go together
            continue
        if len(module.state_dict()) >= _FEWEST:
            return given, module
    return None


def proven(module: nn.Module, package: str, cls: type[nn.Module], given: dict[str, object]) -> str:
    """What is wrong with the answer for a file of this network; "" where nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/net.pth"
        state = {k: torch.zeros(t.shape, dtype=t.dtype) for k, t in module.state_dict().items()}
        torch.save(state, path)
        guess = archfind.guess(path, code=package, trust=True)
        names = [m.trusted.name for m in guess.matches if m.trusted and m.fits]
        if cls.__name__ not in names:
            return f"{guess.status}, {names}, {'; '.join(guess.warnings[-2:])}"
        match = guess.matches[names.index(cls.__name__)]
        told = {k: s.value for k, s in match.config.items() if s.source == "shape"}
        wrong = {k: v for k, v in told.items() if k in given and given[k] != v}
        if wrong:
            return f"{wrong} instead of {given}"
        try:
            archfind.load(guess, choose=match.entry.id, accept_ambiguous=True)
        except archfind.ArchfindError as error:
            return error.message
        return "" if guess.status != "exact" or len(names) == 1 else "exact, and several fit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", nargs="+", required=True)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trust", action="store_true", help="import the class, and load it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    draw = random.Random(options.seed)
    classes = [(package, cls) for package in options.packages for cls in module_classes(package)]
    draw.shuffle(classes)
    first = three = cases = told = wrong = proofs = 0
    seconds = slow = 0.0
    for package, cls in classes:
        made = built(cls, draw) if cases < options.cases else None
        if made is None:
            continue
        cases += 1
        given, module = made
        if options.trust:
            begin = time.monotonic()
            why = proven(module, package, cls, given)
            slow += time.monotonic() - begin
            proofs += not why
            print(f"{package}.{cls.__name__} {given}: {why or 'proven'}", flush=True)
        shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        begin = time.monotonic()
        found, _, _ = classes_of(shapes, package)
        seconds += time.monotonic() - begin
        names = [one.name for one in found]
        first += names[:1] == [cls.__name__]
        three += cls.__name__ in names[:3]
        place = names.index(cls.__name__) if cls.__name__ in names else None
        known = found[place].arguments if place is not None else {}
        right = {k: v for k, v in known.items() if given.get(k, v) == v}
        told += len(right)
        wrong += len(known) - len(right)
        if place is None or place > 2 or len(right) < len(known):
            print(f"{package}.{cls.__name__} {given}: {len(shapes)} tensors, place {place}, "
                  f"{names[:3]}, {known}", flush=True)  # fmt: skip
    print(
        f"{cases} classes of {', '.join(options.packages)}: first {first}, among three {three}; "
        f"arguments told {told}, of these wrong {wrong}; {seconds / max(cases, 1):.1f} s each"
    )
    if options.trust:
        each = slow / max(cases, 1)
        print(f"with --trust {proofs} of {cases} right, and loaded strictly; {each:.1f} s each")


if __name__ == "__main__":
    main()
