"""Descriptions of unknown networks held against what the networks are.

    nice python benchmarks/anatomy_sweep.py --each 6

Twenty kinds of network (drawn_nets.py), seeded; every second one with its keys sorted. Prints the
wrong ones and how many of each field are right. The exit code is 1 where the family is wrong in
more than one of twenty, or an input or output in more than one of ten.
"""

from __future__ import annotations

import argparse
from collections import Counter

from drawn_nets import drawn

from archfind.evidence.anatomy import anatomy
from archfind.learning.check import checkpoint_of

FIELDS = ("family", "dims", "takes", "inputs", "outputs", "cell", "bidirectional", "depth")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=6, help="networks of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    right: Counter[str] = Counter()
    total = unsaid = 0
    for kind, state, answer in drawn(arguments.seed, arguments.each):
        found = anatomy(checkpoint_of(state).index)
        total += 1
        wrong: list[str] = []
        for field in FIELDS:
            said, true = getattr(found, field), getattr(answer, field)
            right[field] += said == true
            unsaid += field in ("inputs", "outputs") and not said
            wrong += [f"{field}: {said!r}, not {true!r}"] * (said != true)
        if wrong:
            order = "sorted" if list(state) == sorted(state) else "in order"
            print(f"{kind} ({order}): {'; '.join(wrong)}")
    print(f"{total} networks; " + ", ".join(f"{field} {right[field]}" for field in FIELDS))
    low = {"family": 0.95, "inputs": 0.9, "outputs": 0.9}
    return int(any(right[field] < share * total for field, share in low.items()))


if __name__ == "__main__":
    raise SystemExit(main())
