"""A library's network with other arguments: families tried on a state dict that no registered entry
fits. On the cold path of `archfind guess`."""

from __future__ import annotations

import math
import re

from archfind.classes.equations import ERRORS
from archfind.classes.ordinary_arguments import is_ordinary
from archfind.classes.score import Solution, within
from archfind.database.classes import of as families_of
from archfind.frozen import replace
from archfind.matching.compare import compared
from archfind.matching.parts import common_prefix
from archfind.matching.shortlist import by_key_names
from archfind.matching.shortlist import prefixes as prefixes_of
from archfind.matching.solutions import solutions, unexplained_masks
from archfind.matching.variant_assumptions import variant_with_assumed
from archfind.state_dicts.canonical import is_table, kind, strip
from archfind.types import Guess, Match, Setting, Twin, Variant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from archfind.classes.notation import Family
    from archfind.database.classes import Families, KnownFamily
    from archfind.database.entries import Database
    from archfind.types import Canonical, TensorSpec
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]

_NONE = object()
_SURE = 0.8  # share of the networks drawn that a family must give to be believed with switches
_MUCH = 12  # ... or with more arguments moved
_HELD = "the rules of its family, which loading proves or refuses, held for"
# Sizes of pictures, which people change first.
_PICTURES = frozenset("img_size image_size input_size patch_size in_chans num_classes".split())
_NEAR = 4  # presets of a family that are looked at
_RIVALS = 3  # larger networks that are named beside their part
_RESTORED = 24  # leaves tried as the preset has them
_WORDS = 2  # of its own that a family must have in its keys, for its name to be sure


def varied(
    canonical: Canonical, database: Database, choose: str, near: Sequence[str], work: Work
) -> tuple[float, Guess | None]:
    """The library's network with other arguments: 1 and the answer where every tensor fits, else
    the share that does and the nearest. The families of the entries `near` are tried first."""
    families = families_of(database)
    shared = common_prefix(canonical.index)
    prefixes = [p for p in prefixes_of(canonical.index, database) if shared.startswith(p)]
    nearest: tuple[float, Guess | None] = 0.0, None
    # The whole before what stands below a prefix: a class may keep its network in an `encoder.`
    for prefix in dict.fromkeys(["", *prefixes, shared]) if families else ():
        below = strip(canonical, prefix) if prefix else canonical
        found = variants(below.index, families, choose, near, work) if families else []
        settled = answer(below, [match for _, match in found if match.fits], database, choose)
        if settled is not None:
            return 1, _with_rivals(settled, prefix, canonical, database)
        for share, match in found[:1]:
            if share > nearest[0]:
                nearest = share, Guess(below, "close", (match,), "")
    return nearest


def answer(
    canonical: Canonical, fitting: list[Match], database: Database, choose: str
) -> Guess | None:
    """What may be said where these variants, the likeliest first, give every tensor; None where
    there is none."""
    square = {m.variant.cls for m in fitting if m.variant and not m.variant.oblong}
    fitting = [
        m for m in fitting if m.variant and not (m.variant.oblong and m.variant.cls in square)
    ]
    whole = [
        variant_with_assumed(_with_twins(match, database), choose) for match in together(fitting)
    ]
    picked = [m for m in whole if choose in (m.entry.id, m.entry.name)]
    if picked:
        return Guess(canonical, "exact", (picked[0],), "user", warnings=_doubt(picked[0]))
    if not whole:
        return None
    status, chosen_by = "exact", "only" if len(whole) == 1 else "prior"
    usual = [m for m in whole if m.variant and m.variant.plain]
    # One that has other sizes only is likelier than one with switches turned, too.
    usual = usual or [m for m in whole if not _switches(m)]
    twins = any(not twin.same_function for twin in whole[0].twins)
    twins = twins and not (whole[0].variant and whole[0].variant.plain)
    doubtful = whole[0].variant is not None and whole[0].variant.doubtful
    others = len(whole) > 1 and usual != whole[:1]
    if is_thin(canonical.index) or twins or others or doubtful:
        status, chosen_by = "ambiguous", ""
    return Guess(canonical, status, tuple(whole), chosen_by, warnings=_doubt(whole[0]))


def _doubt(match: Match) -> tuple[str, ...]:
    """What a search says of itself (how many networks it built) is no doubt."""
    return tuple(reason for reason in match.reasons if reason.startswith(_HELD))


def _with_rivals(found: Guess, prefix: str, canonical: Canonical, database: Database) -> Guess:
    """Below a prefix, a network stands in a larger one. Where a library has that one, keys and all,
    the file may be it with other arguments: not exact then."""
    if not prefix or found.chosen_by == "user":
        return found
    own = {match.entry.id for match in found.matches}
    rivals = [
        Twin(member.entry.provider, member.entry.name, False, f"has the keys with {prefix}")
        for number in by_key_names(canonical.index, database)[:_RIVALS]
        for member in database.signature(number).members
        if member.entry.id not in own
    ]
    if not rivals:
        return found
    first = replace(found.matches[0], twins=(*found.matches[0].twins, *rivals))
    return replace(found, status="ambiguous", matches=(first, *found.matches[1:]), chosen_by="")


def _with_twins(found: Match, database: Database) -> Match:
    """The match with the entries that have the same tensors, of other classes or with other
    functions: with the same arguments moved they may fit as well, and compute the same or something
    else as they do. Plain is what computes the same as the one that the prior names."""
    assert found.variant is not None
    number, function = found.variant.function
    known = {f"{twin.provider}/{twin.architecture}" for twin in found.twins}
    members = database.signature(number).members
    others = tuple(
        Twin(m.entry.provider, m.entry.name, m.function == function, m.differs)
        for m in members
        if m.entry.id not in known and (m.entry.cls != found.entry.cls or m.function != function)
    )
    plain = any(m.plain and m.function == function for m in members)
    variant = replace(found.variant, plain=plain)
    return replace(found, twins=(*found.twins, *others), variant=variant)


def variants(
    index: Index, families: Families, choose: str, near: Sequence[str], work: Work
) -> list[tuple[float, Match]]:
    """Matches of the families that resemble a state dict with the share of tensors, on both sides,
    that fit; the best first, of equals those that explain the file's masks too, the networks that
    the prior names, then those with the fewest switches turned, and then those that move least.
    What no tensor shows is that of the entry that `choose` names, if it is one of a family's."""
    found: list[tuple[float, int, bool, int, int, int, Match]] = []
    settled = solutions(index, families, choose, near, work)
    # Nothing else need be moved where a registered network has the file's tensors without.
    settled = [item for item in settled if item[1].fitting] or settled
    most = max((solution.score for _, solution in settled), default=0.0)
    for number, solution in settled:
        if solution.score and solution.score == most:  # beside what fits best, nothing else
            match = variant_match(index, families.known(number), solution, choose)
            moved = len(match.variant.moved) if match.variant else 0
            rare = not (match.variant and match.variant.plain)
            masks = unexplained_masks(index, solution)
            found.append((-solution.score, masks, rare, _switches(match), moved, number, match))
    found.sort(key=lambda item: item[:6])
    return [(-item[0], item[6]) for item in found]


def _switches(match: Match) -> int:
    return _turned(match.variant.moved) if match.variant else 0


def _turned(moved: Mapping[str, object]) -> int:
    """How many of the arguments that a variant moves aren't numbers."""
    return sum(type(value) not in (int, float) for value in moved.values())


def variant_match(index: Index, known: KnownFamily, solution: Solution, choose: str) -> Match:
    """A solution as the nearest entry with other arguments, held against a state dict."""
    family = known.family
    chosen = [n for n in family.presets if choose and choose in (n, n.partition("/")[2])]
    shown = {path: solution.values[path] for path in solution.solved}
    near = chosen[:1] or _nearest(known, shown, solution)
    name, values, solved = _least_moved(family, near, solution)
    preset = family.presets[name]
    values = within(values)
    values = {
        path: value
        for path, value in values.items()
        if (path in solved and value is not None) or not _is_untold(path, preset)
    }
    moved = {
        path: value
        for path, value in values.items()
        if path not in preset or preset[path] != value or type(preset[path]) is not type(value)
    }
    entry = known.members[name].entry
    right, drawn = family.held
    found = compared(index, solution.expected, lambda key, spec: is_table(key, kind(spec)))
    doubtful = right < _SURE * drawn and (_turned(moved) > 0 or len(moved) > _MUCH)
    oblong = _oblong(family, preset, values)
    return replace(
        found,
        entry=entry,
        config=_config(family, solved, values, moved),
        reasons=(f"{_HELD} {right} of {drawn} networks drawn to try them",)
        if right < drawn
        else (),
        twins=_others(name, solution, family),
        variant=Variant(
            family.cls,
            moved,
            set(_roots(moved)) <= set(family.direct),
            (known.groups[name], known.members[name].function),
            known.members[name].plain,
            doubtful or _is_enumerated(family, values) or bool(oblong),
            oblong,
            {p: other for p, other in solution.instead.items() if name in solution.fitting},
        ),
    )


def _others(name: str, solution: Solution, family: Family) -> tuple[Twin, ...]:
    """Entries that give the same tensors with their own ordinary arguments moved, and differ in
    others that no tensor shows: 3 heads of 48 are as wide as 4 of 36."""
    found: list[Twin] = []
    preset = family.presets[name]
    for other in solution.fitting:
        theirs = family.presets[other]
        paths = [p for p in theirs.keys() | preset.keys() if theirs.get(p) != preset.get(p)]
        paths = sorted(p for p in paths if not is_ordinary(p))
        if paths:
            path, more = paths[0], " ..." if len(paths) > 1 else ""
            differs = f"{path}={theirs.get(path)}, not {preset.get(path)}{more}"
            found.append(Twin(*other.split("/", 1), same_function=False, differs=differs))
    return tuple(found)


def _oblong(family: Family, preset: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """An argument that a preset has as a square, and that is none here: where a table's size is
    made of more than height and width, something else may have been read wrong instead."""
    for path, value in values.items():
        root, _, last = path.rpartition(".")
        one, two = f"{root}.0", f"{root}.1"
        if last != "0" or value == values.get(two) or preset.get(one) != preset.get(two, _NONE):
            continue
        sizes = (size for line in family.program.lines for size in line.sizes)
        if any(one in size.names and two in size.names for size in sizes):
            return root
    return ""


def _is_enumerated(family: Family, values: Mapping[str, Any]) -> bool:
    """Whether the rules say of a number block by block what each of its values does, as it was seen
    in rows of one length, and both are others here: what they say then was never seen."""
    other = {p for p, v in values.items() if type(v) is int and v != family.leaves.get(p)}
    for line in family.program.lines:
        text = line.condition.text if line.condition is not None else ""
        if "{" not in text or not other.intersection(line.reads):
            continue
        rows = {name for part in line.parts if part.bound is not None for name in part.bound.names}
        told = [p for p in other - rows if re.search(rf"(?<![\w.]){re.escape(p)} [!=]= \d", text)]
        if told and rows & other:
            return True
    return False


def _completed(
    family: Family, solution: Solution, preset: Mapping[str, Any]
) -> tuple[dict[str, Any], set[str]]:
    """The values, with all that the preset has otherwise as it has them, where that gives the same
    tensors; and the leaves that shapes gave then."""
    solved = set(solution.solved)
    values = {
        path: value if path in solution.solved else preset.get(path, value)
        for path, value in solution.values.items()
    }
    if not _is_same(family, values, solution):
        values = solution.values
    moved = [p for p, v in values.items() if preset.get(p, _NONE) not in (v, _NONE)]
    for path in moved[:_RESTORED] if solution.score == 1 else ():
        plainer = {**values, path: preset[path]}
        if _is_same(family, plainer, solution):
            values = plainer
            solved.discard(path)
    return values, solved


def _is_same(family: Family, values: Mapping[str, Any], solution: Solution) -> bool:
    try:
        return family.program.expand(within(dict(values))) == solution.expected
    except ERRORS:  # a mixture that no network has
        return False


def _is_untold(path: str, preset: Mapping[str, Any]) -> bool:
    """Whether a preset has an object in a leaf's place (a layer's class, a norm with its epsilon),
    of which leaves can't tell; not where it has nothing there, as beyond the end of a list."""
    above, _, last = path.rpartition(".")
    if path in preset or last.isdecimal() or last == "#":
        return False
    return not above or any(name.startswith(f"{above}.") for name in preset)


def _nearest(known: KnownFamily, values: Mapping[str, Any], solution: Solution) -> list[str]:
    """The presets, of those that fit if there are any, from which the fewest arguments are moved,
    none of them within one that it has nothing for, switches (a scale that it doesn't have) least
    of all and sizes of pictures first; of several, the one that the prior names, then the one whose
    moved arguments the fewest tensors are made of (a network as wide is nearer than one as deep),
    then the nearest in size."""
    lines = known.family.program.lines
    made = {path: sum(path in line.reads for line in lines) for path in values}
    leaves = known.family.leaves
    # That there is a scale is seen in the tensors, of what size it was at first is not.
    every = solution.values
    given = [p for p, v in every.items() if leaves.get(p, _NONE) is None and v is not None]
    values = {**values, **{path: every[path] for path in given}}

    def distance(name: str) -> tuple[object, ...]:
        preset = known.family.presets[name]
        moved = [path for path, value in values.items() if preset.get(path, _NONE) != value]
        moved = [path for path in moved if path not in given or preset.get(path) is None]
        roots = {path.partition(".")[0] for path in moved}
        lacking = sum(_is_within_none(path, preset) for path in moved)
        turned = sum(not _are_sizes(preset.get(path), values[path]) for path in moved)
        plain, widest = (
            known.members[name].plain,
            max((made.get(path, 0) for path in moved), default=0),
        )
        apart = sum(_apart(preset.get(path), values[path]) for path in moved)
        return (
            lacking,
            turned,
            len(roots - _PICTURES),
            len(roots),
            not plain,
            widest,
            apart,
            len(name),
            name,
        )

    return sorted(solution.fitting or known.family.presets, key=distance)[:_NEAR]


def _least_moved(
    family: Family, names: list[str], solution: Solution
) -> tuple[str, dict[str, Any], set[str]]:
    """Of presets, the nearest first, the one of whose values the fewest are others, with all of the
    solution's: switches count before sizes."""
    found: list[tuple[tuple[int, ...], str, dict[str, Any], set[str]]] = []
    for name in names if solution.score == 1 else names[:1]:
        preset = family.presets[name]
        if name in solution.fitting:
            values, solved = solution.fitting[name], set(solution.solved)
        else:
            values, solved = _completed(family, solution, preset)
        moved = [path for path, value in values.items() if preset.get(path, value) != value]
        turned = sum(not _are_sizes(preset[path], values[path]) for path in moved)
        roots = {path.partition(".")[0] for path in moved}
        far = turned, len(roots - _PICTURES), len(roots)
        found.append((far, name, values, solved))
    return min(found, key=lambda one: one[0])[1:]


def _are_sizes(one: object, other: object) -> bool:
    return all(isinstance(n, int | float) and not isinstance(n, bool) for n in (one, other))


def _apart(one: object, other: object) -> float:
    """How far two values of a leaf are from each other: numbers by their ratio."""
    if isinstance(one, int | float) and isinstance(other, int | float) and min(one, other) > 0:
        return abs(math.log(one / other))
    return 1.0


def _is_within_none(path: str, preset: Mapping[str, Any]) -> bool:
    """Whether a leaf is a part of what a preset has None for."""
    above = path.rpartition(".")[0]
    while above:
        if preset.get(above, _NONE) is None:
            return True
        above = above.rpartition(".")[0]
    return False


def _roots(paths: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(path.partition(".")[0] for path in paths))


def _config(
    family: Family, solved: set[str], values: Mapping[str, Any], moved: Mapping[str, Any]
) -> dict[str, Setting]:
    """Settings by argument, a plain list as one; `default` where no tensor showed the value."""
    config: dict[str, Setting] = {}
    for root in _roots({**moved, **family.options}):
        own = {p: v for p, v in values.items() if p == root or p.startswith(f"{root}.")}
        for name, value in gathered(root, own).items():
            below = [p for p in own if p == name or p.startswith(f"{name}.")]
            seen = any(p in solved for p in below)
            config[name] = Setting(value, "shape" if seen else "default")
    return config


def gathered(root: str, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves below one argument as values: lists of plain items together, and lists of those; the
    rest each by path."""
    whole = _whole(root, leaves)
    if whole is not _NONE:
        return {root: whole}
    return {path: value for path, value in leaves.items() if not path.endswith(".#")}


def _whole(path: str, leaves: Mapping[str, Any]) -> Any:
    """The value or the list of values at a path; _NONE where a part of it is no leaf."""
    length = leaves.get(f"{path}.#")
    if path in leaves or type(length) is not int or length > len(leaves):
        return leaves.get(path, _NONE)  # of a list, not all of its items are told
    items = [_whole(f"{path}.{n}", leaves) for n in range(length)]
    return _NONE if any(item is _NONE for item in items) else items


_COMMON = frozenset(
    ("", "weight", "bias", "running_mean", "running_var", "num_batches_tracked", "conv", "bn")
)


def is_thin(index: Index) -> bool:
    """Whether a family's keys say so little that any stack of layers could have them."""
    words = {w.strip("0123456789") for key in index for w in key.split(".")}
    return len(words - _COMMON) < _WORDS


def together(matches: list[Match]) -> list[Match]:
    """One match for each function: those that are known to compute the same stand as twins of the
    first, and of one class with several settings that no tensor shows, the nearest stands."""
    kept: list[Match] = []
    for match in matches:
        assert match.variant is not None
        for at, other in enumerate(kept):
            assert other.variant is not None
            same = other.variant.function == match.variant.function
            if same and other.entry.id != match.entry.id:
                twin = Twin(match.entry.provider, match.entry.name, True)
                kept[at] = replace(other, twins=(*other.twins, twin))
            if same or (
                other.variant.cls == match.variant.cls
                and len(other.variant.moved) < len(match.variant.moved)
            ):
                break
        else:
            kept.append(match)
    return kept
