"""Which signatures a state dict resembles, and below which prefix: found by counting, not by
trying.

Every key votes with each of its dotted suffixes, so an unknown prefix shows as the one below which
most keys are in the index. Cost grows with the file's keys and the rarity of what they share.
"""

from __future__ import annotations

from archfind.database.entries import start_of_tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from archfind.database.entries import Database
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]

_SAMPLE = 48  # keys that vote for a prefix
_COUNTED = 3_000  # tensors of a file that are counted: no registered network has more
_RARE = 8  # signatures with a tensor in common, at most, for it to say much
_POSTINGS = 20_000  # signature numbers counted per prefix: the rarest features come first

_NAMED = 0.6  # of the keys on both sides: another network of the class, deeper or not
_HELD = 0.9  # of the file's keys
_SHARE = 0.7  # of the tensors have a shape that no field changes, in every network


def prefixes(index: Index, database: Database, most: int = 4) -> list[str]:
    """Prefixes below which the index knows the keys, the best supported first; at least one."""
    step = max(1, len(index) // _SAMPLE)
    votes: dict[str, float] = {}
    for key in list(index)[::step]:
        shape = index[key].shape
        start = start_of_tail(key)
        while True:
            suffix = key[start:]
            if database.holding(suffix, shape) >= 0:
                weight = 1.0
            elif database.holding(suffix) >= 0:
                weight = 0.1  # the name alone: another width, or a changed head
            else:
                weight = 0.0
            if weight:
                votes[key[:start]] = votes.get(key[:start], 0.0) + weight
            start = key.find(".", start) + 1
            if not start:
                break
    ranked = sorted(votes, key=lambda prefix: (-votes[prefix], len(prefix)))
    floor = max(votes.values(), default=0.0) / 20
    return [prefix for prefix in ranked if votes[prefix] > floor][:most] or [""]


def tensors_below(index: Index, prefix: str) -> Index:
    """The part of a state dict under a prefix, without it."""
    if not prefix:
        return index
    return {key[len(prefix) :]: spec for key, spec in index.items() if key.startswith(prefix)}


def is_nested(part: Index, prefix: str, whole: Index) -> bool:
    """Whether the part below `prefix` is the whole once more, to a depth of three and more: `a`,
    `m.a`, `m.m.a` ... Two levels can be a network and its average."""
    is_deep = bool(prefix) and any(key.startswith(prefix) for key in part)
    return is_deep and all(key in whole and whole[key].shape == part[key].shape for key in part)


def signatures(index: Index, database: Database, most: int = 6) -> list[tuple[int, int, int]]:
    """Signatures as (number, tensors in common, rare ones of them), most alike first: by key and
    shape; where nothing has both, by key alone; where no key is known, by shapes alone."""
    step = 1 + len(index) // _COUNTED
    some = list(index.items())[::step]
    for kind in ("both", "key", "shape"):
        classes: dict[int, int] = {}
        for key, spec in some:
            name = "" if kind == "shape" else key
            holders = database.holding(name, None if kind == "key" else spec.shape)
            if holders >= 0:
                classes[holders] = classes.get(holders, 0) + step
        counts: dict[int, int] = {}
        rare: dict[int, int] = {}
        counted = 0
        for holders in sorted(classes, key=lambda c: len(database.members(c))):
            members = database.members(holders)
            counted += len(members)
            if counted > _POSTINGS and counts:
                break
            weight = classes[holders]
            for number in members:
                counts[number] = counts.get(number, 0) + weight
            if len(members) <= _RARE:
                rare.update((n, counts[n]) for n in members)
        # Dice's coefficient: common tensors against both sides' counts.
        ranked = sorted(counts, key=lambda n: (-counts[n] / (len(index) + database.sizes[n]), n))
        if ranked and (kind != "both" or counts[ranked[0]] * 4 >= len(index)):
            return [(number, counts[number], rare.get(number, 0)) for number in ranked[:most]]
    return []


def by_key_names(index: Index, database: Database) -> list[int]:
    """Signatures that share most keys with a state dict, or have nearly all of its, whatever their
    shapes; the likeliest first."""
    counts = _named(index, database)
    dice = {n: 2 * count / (len(index) + database.sizes[n]) for n, count in counts.items()}
    alike = [n for n in dice if dice[n] >= _NAMED or counts[n] >= _HELD * len(index)]
    return sorted(alike, key=lambda n: (-dice[n], n))


def most_named(keys: Collection[str], database: Database, most: int) -> list[int]:
    """The signatures that share most keys, whatever their shapes."""
    counts = _named(keys, database)
    share = {n: count / (len(keys) + database.sizes[n]) for n, count in counts.items()}
    return sorted(share, key=lambda n: (-share[n], n))[:most]


def _named(keys: Iterable[str], database: Database) -> dict[int, int]:
    """How many of these keys each signature has."""
    counts: dict[int, int] = {}
    for key in keys:
        holders = database.holding(key)
        for number in database.members(holders) if holders >= 0 else ():
            counts[number] = counts.get(number, 0) + 1
    return counts


def by_shape(
    index: Index,
    database: Database,
    most: int = 24,
    least: float = _SHARE,
    largest: float = 1.0,
) -> list[int]:
    """Signatures that might have the file's float tensors under other names: `least` to `largest`
    times as many, and most of the rare shapes; the likeliest first."""
    shapes: dict[tuple[int, ...], int] = {}
    for spec in index.values():
        if "float" in spec.dtype:
            shapes[spec.shape] = shapes.get(spec.shape, 0) + 1
    total = sum(shapes.values())
    classes: dict[int, int] = {}
    for shape, count in shapes.items():
        holders = database.holding("", shape)
        if holders >= 0:
            classes[holders] = classes.get(holders, 0) + count
    counts: dict[int, int] = {}
    counted = seen = 0
    for holders in sorted(classes, key=lambda c: len(database.members(c))):
        members = database.members(holders)
        counted += len(members)
        if counted > _POSTINGS and counts:
            break
        seen += classes[holders]
        for number in members:
            if total * least <= database.sizes[number] <= total * largest:
                counts[number] = counts.get(number, 0) + classes[holders]
    likely = [n for n in counts if counts[n] >= seen * _SHARE]
    return sorted(likely, key=lambda n: (-counts[n], total - database.sizes[n], n))[:most]
