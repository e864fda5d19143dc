"""Examples of one class -> its block: networks that are known already, below a prefix, and lines
for the rest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archfind.classes.blocks import Block, Like, pattern
from archfind.classes.expansion import Expansion
from archfind.classes.numbered import joined_key
from archfind.classes.program import FamilyLine, Program
from archfind.learning.configs.bench import Bench, BuiltTensors
from archfind.learning.configs.explore import CORE
from archfind.learning.configs.traced import HintedLearner, Hints
from archfind.learning.learn import Blame
from archfind.probing.config import Leaf
from archfind.probing.probe import Sample, Shapes
from archfind.probing.proposals import COUNT

_ROUNDS = 10
_EACH = 4.0  # seconds for one search
_FEW = 10  # keys whose rules are found without a look at the code
_LEAST = 6  # keys that a known network must give to be named
_SHARE = 0.5  # of a known network's lines that must be there
_ERRORS = (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError, IndexError)


@dataclass
class LearnedBlock:
    """A block with its check: of `held` networks, `right` are given exactly."""

    block: Block
    right: int
    held: int


def learn(
    bench: Bench,
    dialect: str,
    visible: Mapping[str, list[Leaf]],
    known: Sequence[Block],
    hints: Hints,
    limit: float,
    end: float,
) -> LearnedBlock | None:
    """The block of a class in one dialect; `known` are blocks that it may hold, the likeliest
    first. None where no rules are found for its base network, in `limit` seconds of work for each
    of the ways that are tried; after `end` only while there is nothing yet."""
    numbers = {path for path in visible if type(bench.base.get(path)) is int}
    core = {path for path in numbers if CORE.search(path)}
    every = set(visible)
    weights = {path: bench.influence(path) for path in numbers}

    def worth(found: LearnedBlock) -> int:
        return sum(weight for path, weight in weights.items() if path not in found.block.left)

    best: LearnedBlock | None = None
    # What isn't found with all leaves may be found where no number is None, or with sizes alone,
    # which people change more.
    tries: list[tuple[set[str], bool]] = [(set(), True)]
    if any(_has_none(bench, one) for one in bench.built()):
        tries.append((set(), False))
    tries += [(left, False) for left in (every - numbers, every - core) if left]
    for left, with_none in tries:
        some = [one for one in bench.built() if with_none or not _has_none(bench, one)]
        now = time.process_time()
        if best is not None and now > end:
            break
        one = now + min(limit, max(end - now, 1.0))
        found = _learn(bench, some, dialect, visible, known, hints, set(left), one)
        if found is not None and (best is None or worth(found) > worth(best)):
            best = found
        if best is not None and not core & set(best.block.left):
            break
    return best


def _has_none(bench: Bench, built: BuiltTensors) -> bool:
    """Whether a network was built with nothing for a number: mostly with another one's then."""
    return any(v is None and type(bench.base.get(p)) is int for p, v in built.moves.items())


def _learn(
    bench: Bench,
    some: Sequence[BuiltTensors],
    dialect: str,
    visible: Mapping[str, list[Leaf]],
    known: Sequence[Block],
    hints: Hints,
    fixed: set[str],
    end: float,
) -> LearnedBlock | None:
    built = [one for one in some if not fixed & one.moves.keys()]
    likes = _likes(bench, built, dialect, known)
    covered = [_covered(one, likes) for one in built]
    samples = [b.sample(keys, dialect) for b, keys in zip(built, covered, strict=True)]
    lines: list[str] = []
    for _ in range(_ROUNDS):
        free = [path for path in visible if path not in fixed]
        samples = [s for s in samples if not fixed & s.moves.keys()]
        if all(not s.shapes for s in samples):
            lines = []
            break
        try:
            seconds = max(0.5, min(_EACH, end - time.process_time()))
            many = max(len(s.shapes) for s in samples) > _FEW
            lines = _searched(bench, dialect, samples, free, seconds, hints if many else None)
            if not many and any(map(has_size, lines)):
                lines = _searched(bench, dialect, samples, free, seconds, hints)
        except Blame as blame:
            fixed |= blame.paths
            if time.process_time() > end:
                return None
            continue
        except _ERRORS:
            return None
        program = Program(lines)
        wrong = [s for s in samples if not _gives(program, s)]
        if not wrong:
            break
        culprits = _culprits(samples, wrong)
        if not culprits or time.process_time() > end:
            break
        fixed |= culprits
    lines = _borrowed(bench, dialect, likes, lines)
    block = Block(bench.name, dialect, likes, lines)
    right = [b for b in bench.built() if block_gives(block, b)]
    if bench.first not in right:
        return None
    free = {n for line in block.whole() for n in _names(line)}
    block.left = sorted(path for path in fixed if path not in free or len(right) < len(built))
    return LearnedBlock(block, len(right), len(bench.built()))


def _searched(
    bench: Bench,
    dialect: str,
    samples: Sequence[Sample],
    free: Sequence[str],
    seconds: float,
    hints: Hints | None,
) -> list[str]:
    """Lines that give the samples; with `hints`, after a look at the code."""
    told = hints.filled() if hints is not None else None
    sizes = told.sizes[dialect] if told is not None else {}
    bounds = list(told.bounds) if told is not None else []
    return HintedLearner(samples, free, seconds, sizes, bounds, bench.failed).learn()


def has_size(line: str) -> bool:
    """Whether a line has a plain number so large that a field may stand behind it, which no network
    was built with another value of."""
    return any(size.isdigit() and int(size) > COUNT for size in line.partition("  ")[2].split())


def _borrowed(bench: Bench, dialect: str, likes: list[Like], lines: list[str]) -> list[str]:
    """The lines with the conditions of those that they stand for: experts apart are where the fused
    tensor is in the other dialect, which is the easier rule to learn."""
    conditions = dict.fromkeys(
        part.partition(" if ")[2] for like in likes for part in like.without if " if " in part
    )
    built = bench.built()

    def right(some: list[str]) -> int:
        block = Block("", dialect, likes, some)
        return sum(block_gives(block, one) for one in built)

    best, most = lines, right(lines) if conditions else len(built)
    for condition in conditions if most < len(built) else ():
        changed = [
            f"{line.partition('  if ')[0]}  if {condition}" if "  if " in line else line
            for line in lines
        ]
        count = right(changed) if changed != lines else 0
        if count > most:
            best, most = changed, count
    return best


def _names(line: FamilyLine) -> list[str]:
    found = [*line.sizes, line.condition, *(part.bound for part in line.parts)]
    return [name for expression in found if expression is not None for name in expression.names]


def _gives(program: Program, sample: Sample) -> bool:
    try:
        return program.expand(sample.values) == sample.shapes
    except _ERRORS:
        return False


def block_gives(block: Block, built: BuiltTensors) -> bool:
    """Whether a block gives a network's tensors, all of them and no more."""
    try:
        return block.expand(built.values) == built.shapes[block.dialect]
    except _ERRORS:
        return False


def _culprits(samples: Sequence[Sample], wrong: Sequence[Sample]) -> set[str]:
    """The leaves that the program is wrong about, as far as they can be told."""
    bad = {id(sample) for sample in wrong}
    moved = {path: value for s in samples for path, value in s.moves.items()}
    for count in (1, 2, 3, 1000):
        some = [s for s in samples if len(s.moves) <= count]
        total = Counter(path for s in some for path in s.moves)
        failed = Counter(path for s in some if id(s) in bad for path in s.moves)
        if failed:
            if count == 1:
                return set(failed)
            return {max(failed, key=lambda p: _suspicion(p, moved[p], failed[p], total[p]))}
    return set()


def _suspicion(path: str, value: Leaf, failed: int, total: int) -> float:
    """More for a leaf behind much that is wrong and little that is right; less for a usual size."""
    weight = 1 if type(value) is int and CORE.search(path) else 3
    return weight * failed**2 / total


def _likes(
    bench: Bench, built: Sequence[BuiltTensors], dialect: str, known: Sequence[Block]
) -> list[Like]:
    """The known networks inside, the one with most keys first, no two with a key in common."""
    left = dict(bench.first.shapes[dialect])
    found: list[Like] = []
    tried = [like for block in known for like in _placed(block, bench, left)]
    while tried:
        scored = [(len(_kept(like, bench.first, left)), like) for like in tried]
        count, best = max(scored, key=lambda item: item[0])
        if count < _LEAST:
            break
        tried = [like for n, like in scored if like is not best and n >= _LEAST]
        exact = _exact(best, built, dialect)
        if exact is None:
            continue
        keys = set(exact.expand(bench.first.values))
        if len(keys) < _LEAST or not keys <= left.keys():
            continue
        found.append(exact)
        for key in keys:
            del left[key]
    return found


def _placed(block: Block, bench: Bench, left: Shapes) -> list[Like]:
    """Where a known network's keys may stand among a class's, and which config is its own."""
    found: list[Like] = []
    for root in _roots(block, bench):
        like = Like(block, "", root, ())
        try:
            own = like.expand(bench.first.values)
        except _ERRORS:
            continue
        votes: Counter[str] = Counter()
        ends: dict[str, list[str]] = {}
        for key in own:
            ends.setdefault(key.rpartition(".")[2], []).append(key)
        by_end: dict[str, list[str]] = {}
        for key in left:
            by_end.setdefault(key.rpartition(".")[2], []).append(key)
        for end, keys in ends.items():
            for key in keys[:40]:
                for whole in by_end.get(end, ())[:400]:
                    if whole == key or whole.endswith(f".{key}"):
                        votes[whole[: len(whole) - len(key)]] += 1
        for prefix, count in votes.most_common(3):
            if count >= min(_LEAST, 0.2 * len(own)):
                found.append(Like(block, prefix, root, ()))
    return found


def _roots(block: Block, bench: Bench) -> list[str]:
    """The paths of a class's configs that are of the block's type; "" for the class's own."""
    own, theirs = bench.name.partition("/")[0], block.name.partition("/")[0]
    if own == theirs:
        return [""]
    return [
        path.removesuffix("model_type")
        for path, value in bench.base.items()
        if path.endswith(".model_type") and value == theirs
    ]


def _kept(like: Like, built: BuiltTensors, left: Shapes) -> set[str]:
    try:
        own = like.expand(built.values)
    except _ERRORS:
        return set()
    return {key for key, spec in own.items() if left.get(key) == spec}


def _exact(like: Like, built: Sequence[BuiltTensors], dialect: str) -> Like | None:
    """The network without those of its lines that aren't there in all examples, as far as half of
    its lines are."""
    lines = like.block.flat()
    bad: set[str] = set()
    cases = [(one.shapes[dialect], like.values(one.values)) for one in built]
    for text, line in zip(lines, like.block.whole(), strict=True):
        if not all(_holds(like, line, shapes, values) for shapes, values in cases):
            bad.add(pattern(text))
    ok = sum(pattern(text) not in bad for text in lines)
    if ok < _SHARE * len(lines):
        return None
    return Like(like.block, like.prefix, like.root, tuple(sorted(bad)))


def _holds(like: Like, line: FamilyLine, shapes: Shapes, values: Mapping[str, Leaf]) -> bool:
    """Whether all that a line gives is there."""
    try:
        for key, env in Expansion(values).places(line.parts):
            if line.condition is None or line.condition.value(env):
                shape = tuple([int(size.value(env)) for size in line.sizes])
                if shapes.get(like.prefix + joined_key(key)) != (shape, line.dtype):
                    return False
    except _ERRORS:
        return False
    return True


def _covered(built: BuiltTensors, likes: Sequence[Like]) -> set[str]:
    found: set[str] = set()
    for like in likes:
        found |= like.expand(built.values).keys()
    return found
