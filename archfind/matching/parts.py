"""Which submodules of a state dict may be networks of their own: an encoder beside a decoder,
towers, a generator and its critic. This module is on the cold path of `archfind guess`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.database.entries import Database
    from archfind.types import Guess, TensorSpec

    Index = Mapping[str, TensorSpec]

FEWEST = 8  # tensors of anything worth a name
_SAMPLE = 24  # keys of a submodule that are looked up
_CUT = 20  # tensors that a network must have before it counts as one without its end


def common_prefix(index: Index) -> str:
    """The dotted prefix of every key."""
    first, last = min(index, default=""), max(index, default="")
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return first[: first.rfind(".", 0, same) + 1]


def children(index: Index) -> dict[str, list[str]]:
    """Prefix -> keys, of every submodule with more than a few where the keys first part."""
    start = len(common_prefix(index))
    held: dict[str, list[str]] = {}
    for key in index:
        end = key.find(".", start) + 1
        if end:
            held.setdefault(key[:end], []).append(key)
    return {prefix: keys for prefix, keys in held.items() if len(keys) >= FEWEST}


def known_submodules(index: Index, database: Database) -> list[str]:
    """The submodules most of whose tensors the database knows, under their names less any prefix
    that is below the submodule's own."""
    found: list[str] = []
    for prefix, keys in children(index).items():
        sample = keys[:: max(1, len(keys) // _SAMPLE)]
        known = sum(_known(key, len(prefix), index[key], database) for key in sample)
        if known * 2 >= len(sample):
            found.append(prefix)
    return found


def _known(key: str, start: int, spec: TensorSpec, database: Database) -> bool:
    while start:
        if database.holding(key[start:], spec.shape) >= 0:
            return True
        start = key.find(".", start) + 1
    return not spec.shape  # counters are in no index


def parts_below(prefix: str, found: Mapping[str, Guess]) -> dict[str, Guess]:
    """What was found below a submodule, by name in the whole: it, or the parts that it has."""
    named: dict[str, Guess] = {}
    for name, one in found.items():
        if one.parts or one.status == "unknown":
            within = prefix + name
            for inner, part in one.parts.items():
                # A network by its own name stands at the level that the prefix names.
                is_level = bool(part.matches) and inner == part.matches[0].entry.name
                named[within.rstrip(".") if is_level else within + inner] = part
        else:
            # What the answer itself stripped: "backbone." of "backbone.body."
            own = name
            stripped = [step.detail for step in one.canonical.steps if step.kind == "strip"]
            if not name and stripped and stripped[-1] != prefix:
                own = stripped[-1]
            named[(prefix + own).rstrip(".")] = one
    return named


def is_cut(missing: tuple[str, ...], fixed: Mapping[str, object], matched: int) -> bool:
    """Whether what is missing is the end of a network, in the order of its modules: what a getter
    of intermediate layers leaves out."""
    gone = set(missing)
    order = [key in gone for key in fixed]
    start = order.index(True) if True in order else len(order)
    return matched >= _CUT and start * 3 >= len(order) and all(order[start:])


def resolve_part(wanted: str, names: Mapping[str, object]) -> str:
    """The name of the part that `wanted` means: itself, or the one whose last words it is."""
    name = wanted.rstrip("./")
    if name in names:
        return name
    ends = [one for one in names if one.replace("/", ".").endswith("." + name.replace("/", "."))]
    return ends[0] if len(ends) == 1 else ""
