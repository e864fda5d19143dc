"""A class without rules of its own whose network another class of its type holds: that one's rules,
below the place where it keeps it."""

from __future__ import annotations

from collections.abc import Sequence

from archfind.classes.blocks import Block
from archfind.classes.numbered import numbered
from archfind.learning.configs.bench import Bench
from archfind.learning.configs.learn import LearnedBlock, block_gives


def inner_block_rules(bench: Bench, dialect: str, known: Sequence[Block]) -> LearnedBlock | None:
    """The rules of `known` blocks below their prefix, those that give most of the bench's networks;
    None where none gives the first."""
    best: LearnedBlock | None = None
    for block in known:
        if block.dialect != dialect or not block.prefix:
            continue
        head = numbered(f"{block.prefix}.")
        lines = [line[len(head) :] for line in block.flat() if line.startswith(head)]
        own = Block(bench.name, dialect, [], lines, block.leaves)
        if not lines or not block_gives(own, bench.first):
            continue
        right = sum(block_gives(own, built) for built in bench.built())
        if best is None or right > best.right:
            own.left = list(block.left)
            best = LearnedBlock(own, right, len(bench.built()))
    return best
