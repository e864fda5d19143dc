"""Rules tried on networks that they weren't learned from: what they miss is learned next."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

from archfind.learning.configs.bench import Bench, BuiltTensors
from archfind.learning.configs.explore import WIDTH
from archfind.learning.configs.learn import LearnedBlock, block_gives
from archfind.probing.config import Leaf
from archfind.probing.probe import Moves
from archfind.probing.proposals import COUNT, leaf_name

_WANTED = 10  # networks of one round
_TRIES = 4  # configs for each of them; a library refuses many
_EIGHTHS = (1, 2, 3, 4, 5, 6, 7, 10, 12, 14, 16, 24)
_COINCIDING = 0.3  # of the networks have two widths, or all, of one size
_ENOUGH = 3  # networks missed are enough to learn from


def challenged(
    bench: Bench,
    paths: Sequence[str],
    visible: dict[str, list[Leaf]],
    learned: Sequence[LearnedBlock],
    draw: random.Random,
    end: float,
) -> bool:
    """Whether new networks show that the rules are wrong. Any whole number that the constructor
    reads is moved; one that turns out to move a tensor joins `visible`, with the value that did.
    The networks stay on the bench."""
    missed = made = 0
    for _ in range(_TRIES * _WANTED):
        if made >= _WANTED or missed >= _ENOUGH or time.process_time() > end:
            break
        moves = drawn_fields(bench, paths, visible, draw)
        built = bench.build(moves) if moves else None
        if built is None:
            continue
        made += 1
        if all(block_gives(one.block, built) for one in learned):
            continue
        missed += 1
        for path in moves.keys() - visible.keys():
            if _moves(bench, built, path):
                visible[path] = [moves[path]]
    return missed > 0


def share(bench: Bench, learned: LearnedBlock) -> int:
    """How many of the bench's networks a block gives exactly."""
    return sum(block_gives(learned.block, built) for built in bench.built())


def _moves(bench: Bench, built: BuiltTensors, path: str) -> bool:
    """Whether a leaf moves a tensor of a network, alone or beside what else was moved in it."""
    alone = bench.build({path: built.moves[path]})
    if alone is not None and alone.shapes != bench.first.shapes:
        return True
    others = bench.build({p: v for p, v in built.moves.items() if p != path})
    return others is not None and others.shapes != built.shapes


def drawn_fields(
    bench: Bench,
    paths: Sequence[str],
    visible: Mapping[str, list[Leaf]],
    draw: random.Random,
) -> Moves:
    """Sizes, counts and now and then a switch, as people change them; widths that coincide."""
    chance = draw.choice((0.15, 0.3, 0.5))
    moves: Moves = {}
    for path in paths:
        base = bench.base[path]
        value: Leaf
        if path.endswith("#"):
            continue
        if type(base) is not int:
            if path in visible and draw.random() < chance / 3:
                moves[path] = draw.choice(visible[path])
            continue
        if None in visible.get(path, ()) and draw.random() < chance / 2:
            moves[path] = None
            continue
        if draw.random() > chance:
            continue
        if "head" in leaf_name(path):
            value = max(1, draw.choice((base // 4, base // 2, base * 2)))
        elif base <= COUNT:
            value = draw.randint(1, 6)
        else:
            value = max(1, base * draw.choice(_EIGHTHS) // 8)
        if value != base:
            moves[path] = value
    widths = [p for p in paths if type(bench.base[p]) is int and WIDTH.search(leaf_name(p))]
    if len(widths) > 1 and draw.random() < _COINCIDING:
        some = widths if draw.random() < _COINCIDING else draw.sample(widths, 2)
        one = draw.choice(some)
        moves |= dict.fromkeys(some, moves.get(one, bench.base[one]))
    return moves
