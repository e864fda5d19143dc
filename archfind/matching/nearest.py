"""A signature tried on a state dict, and what to say where none fits: close to one, or unknown
with the nearest few. Why each was kept is counted. This module is on the cold path."""

from __future__ import annotations

from archfind.evidence.hints import named_in_file
from archfind.frozen import replace
from archfind.matching.compare import match
from archfind.matching.heads import headed, pooled
from archfind.matching.parts import is_cut
from archfind.matching.shortlist import by_key_names, by_shape
from archfind.state_dicts.canonical import named_below, strip
from archfind.types import Guess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.entries import Database, Signature
    from archfind.matching.shortlist import Index
    from archfind.types import Canonical, Match

CLOSE = 0.8  # of the tensors on both sides, and of the weights, must fit for a close answer
HELPS = 0.5  # of the keys must be in common for a network to be named as near, ...
_RENAMED = 0.7  # ... or this of the shapes, which alone say less
_CANDIDATES = 3
_OTHER = "its kernels have another number of dimensions"


class Fit:
    """One signature tried below one prefix; `share` counts fitting tensors against both sides,
    `rare` those in common that few signatures have."""

    __slots__ = ("match", "outside", "prefix", "rare", "share", "signature")

    def __init__(
        self, prefix: str, signature: Signature, found: Match, total: int, below: int, rare: int = 0
    ) -> None:
        self.prefix = prefix
        self.signature = signature
        self.match = found
        self.outside = total - below
        self.rare = rare
        known = found.matched + len(found.mismatched) + len(found.unexpected)
        self.share = found.matched / max(found.expected, known + self.outside, 1)


def is_(found: Match, choose: str) -> bool:
    """Whether a match is the entry that the user names, with its library or without, or of the
    model type."""
    kind = found.pretrained.model_type if found.pretrained is not None else found.entry.id
    return choose in (found.entry.id, found.entry.name, kind)


def is_member(signature: Signature, choose: str) -> bool:
    """Whether the user's entry has this signature."""
    return any(choose in (m.entry.id, m.entry.name) for m in signature.members)


def under_chosen_name(fit: Fit, canonical: Canonical, choose: str) -> Match:
    """The match under the name of the twin that the user or the file asks for, with reasons."""
    found = fit.match
    entries = [member.entry for member in fit.signature.members]
    wanted = [e for e in entries if choose and choose in (e.id, e.name)]
    wanted = wanted or named_in_file(canonical.checkpoint, entries)
    if wanted and wanted[0].id != found.entry.id:
        if found.head:
            again = headed(canonical.index, fit.prefix, fit.signature, found, wanted[0].id)
            found = again or found
        else:
            found = match(canonical.index, fit.signature, first=wanted[0].id)
    reason = f"shares {fit.rare} rare keys" if fit.rare else ""
    return replace(found, reasons=(reason,)) if reason else found


def near(
    canonical: Canonical, fits: list[Fit], choose: str, database: Database, every: bool = False
) -> Guess:
    """Close to the best fit, or unknown with the few networks that it resembles, if there are;
    `every`: with the best fits whether they resemble it or not."""
    if choose:
        fits = [f for f in fits if is_member(f.signature, choose)] or fits
    nearest: list[tuple[Fit, Match]] = []
    seen: set[int] = set()
    for fit in fits:  # the best prefix of each comes first
        if fit.signature.number in seen:
            continue
        seen.add(fit.signature.number)
        below = strip(canonical, fit.prefix)
        outside = tuple(k for k in canonical.index if not k.startswith(fit.prefix))
        found = under_chosen_name(fit, below, choose)
        found = replace(
            found,
            unexpected=(*found.unexpected, *outside),
            in_common=_in_common(below.index, fit.signature),
        )
        nearest.append((fit, found))
    # Where no key is shared, shapes say more than the order in which candidates came.
    nearest.sort(key=lambda pair: (-pair[0].share, -pair[1].in_common[1]))
    # What most of the file is comes before what it has as much of, and lacks as much of.
    nearest.sort(key=lambda pair: not is_close(pair[1], canonical.index, pair[0].prefix))
    top = tuple(found for _, found in nearest[:_CANDIDATES])
    if not top:
        return Guess(canonical, "unknown", (), "")
    fit, found = nearest[0]
    below = named_below(canonical, fit.prefix)
    cut = not (found.unexpected or found.mismatched) and is_cut(
        found.missing, fit.signature.fixed, found.matched
    )
    if cut or is_close(found, canonical.index, fit.prefix):
        note = pooled(below.index, fit.signature, fit.match)
        by = "user" if choose else ""
        return Guess(below, "close", top, by, warnings=(note,) if note else ())
    if choose or every:
        return Guess(below, "unknown", top, "user" if choose else "")
    # Most keys of a network that the library has, at other sizes, say more than a few tensors.
    if fit.share < HELPS:
        top = (*_kin(canonical.index, by_key_names(canonical.index, database), database), *top)
    top = tuple(one for one in top if helps(one, canonical.index))
    if not top or all(map(other_kernels, top)):
        renamed = _kin(canonical.index, by_shape(canonical.index, database), database)
        top = (*(one for one in renamed if helps(one, canonical.index)), *top)
    ids = [one.entry.id for one in top]
    top = tuple(one for place, one in enumerate(top) if ids.index(one.entry.id) == place)
    top = tuple(replace(one, reasons=(_OTHER,)) if other_kernels(one) else one for one in top)
    named = below if top and top[0].entry is found.entry else canonical
    return Guess(named, "unknown", top[:_CANDIDATES], "")


def is_close(found: Match, index: Index, prefix: str = "") -> bool:
    """Whether all but a few tensors of a state dict are a network's: CLOSE of the tensors on both
    sides, and as much of the file's weights (norms, which are many, say little), with kernels of as
    many dimensions, and most modules right. The match names keys less `prefix`."""
    total = max(found.expected, len(index) - len(found.tolerated), 1)
    if found.matched < CLOSE * total or other_kernels(found):
        return False
    wrong = {*found.unexpected, *(one.key for one in found.mismatched)}
    weights = [key.removeprefix(prefix) for key, spec in index.items() if len(spec.shape) > 1]
    fitting = sum(key not in wrong for key in weights)
    return fitting >= CLOSE * len(weights) and _modules_fit(found, index, prefix, wrong)


def _modules_fit(found: Match, index: Index, prefix: str, wrong: set[str]) -> bool:
    """Whether half of the modules at the top are mostly right: a network without a stage, with
    another stem and another head is another one, however deep the stages are that both have."""
    tensors: dict[str, list[int]] = {}
    for key in index:
        name = key.removeprefix(prefix)
        held = tensors.setdefault(name.partition(".")[0], [0, 0])
        held[name not in wrong] += 1
    for key in found.missing:
        tensors.setdefault(key.partition(".")[0], [0, 0])[0] += 1
    right = sum(fits >= amiss for amiss, fits in tensors.values())
    return 2 * right >= len(tensors)


def helps(found: Match, index: Index) -> bool:
    """Whether a network that doesn't fit is worth naming: HELPS of the tensors on both sides have
    its keys, or _RENAMED its shapes under other names."""
    keys, shapes = found.in_common
    total = max(found.expected, len(index) - len(found.tolerated), 1)
    return max(found.matched, keys) >= HELPS * total or shapes >= _RENAMED * total


def other_kernels(found: Match) -> bool:
    """Whether convolutions run over another number of dimensions: 3-D where they are 2-D."""
    ranks = [(one.found.count(","), one.expected.count(",")) for one in found.mismatched]
    return any(min(pair) > 1 and pair[0] != pair[1] for pair in ranks)


def _kin(index: Index, numbers: list[int], database: Database) -> list[Match]:
    """A few signatures held against a state dict."""
    kin: list[Match] = []
    for number in numbers[:_CANDIDATES]:
        signature = database.signature(number)
        kin.append(replace(match(index, signature), in_common=_in_common(index, signature)))
    return kin


def _in_common(index: Index, signature: Signature) -> tuple[int, int]:
    """How many of the signature's keys the file has, whatever their shapes, and how many of its
    shapes, whatever they're called."""
    held: dict[tuple[int, ...], int] = {}
    for spec in index.values():
        held[spec.shape] = held.get(spec.shape, 0) + 1
    shapes = 0
    for shape in signature.fixed.values():
        if held.get(shape):
            held[shape] -= 1
            shapes += 1
    keys = sum(key in index for names in (signature.fixed, signature.free) for key in names)
    return keys, shapes
