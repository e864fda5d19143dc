"""Upscalers by every scale, in every way that their class knows, from keys and shapes alone.

    nice python benchmarks/upscalers.py SwinIR Swin2SR DRCT SRFormer GRL DAT HAT

Of spandrel's classes that are named (all of them without names), every number that is a scale is 1,
2, 3, 4 and 8, with every kind of upsampling that the source compares with; what the class refuses
isn't counted. A line for each network that isn't read as it was made.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections import Counter

from variant_sweep import Case, classes, named, tensors

from archfind.probing.config import captured_call, leaves_of_config
from archfind.probing.probe import on_meta
from archfind.probing.proposals import literals
from archfind.progress import progress
from archfind.providers import provider

SCALES = (1, 2, 3, 4, 8)


def cases(entry: str) -> list[Case]:
    """Every scale with every kind; none where the class has no scale, or can't be called again."""
    source = provider("spandrel")
    name = entry.partition("/")[2]
    try:
        _, cls, base = captured_call(lambda: on_meta(lambda: source.create(name), {}))
    except Exception:  # a class refuses its own defaults
        return []
    hints = literals(cls)
    choices: dict[str, list[object]] = {}
    for path, value in leaves_of_config(base).items():
        if "scale" in path and type(value) is int:
            choices[path] = [*SCALES]
        elif "upsampl" in path and type(value) is str:
            known = [hint for hint in hints.get(path, []) if isinstance(hint, str)]
            choices[path] = [*dict.fromkeys([value, *known])]
    found: list[Case] = []
    for values in itertools.product(*choices.values()) if choices else ():
        moves = {
            p: v for p, v in zip(choices, values, strict=True) if v != leaves_of_config(base)[p]
        }
        shapes = tensors(cls, base, moves)
        if shapes is not None:
            found.append(Case(entry, cls, base, moves, shapes))
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help="spandrel's classes")
    arguments = options.parse_args()
    warnings.simplefilter("ignore")
    entries = sorted(entry for some in classes("spandrel/").values() for entry in some)
    chosen = [e for e in entries if not arguments.names or e.partition("/")[2] in arguments.names]
    counts: Counter[str] = Counter()
    for entry in progress(chosen, len(chosen), "upscalers"):
        for case in cases(entry):
            why = named(case, counts)
            if why:
                print(f"{case}: {why}", flush=True)
    print(f"{counts['named']} of {counts['cases']} read as they were made")
    return int(counts["named"] < 0.9 * counts["cases"])


if __name__ == "__main__":
    sys.exit(main())
