"""A signature tried on a state dict, and what to say where none fits: close to one, or unknown
with the nearest few. Why each was kept is counted. This module is on the cold path."""

from __future__ import annotations

from archfind.canonical import strip
from archfind.evidence.hints import named_in_file
from archfind.frozen import replace
from archfind.heads import headed, pooled
from archfind.match import match
from archfind.parts import is_cut
from archfind.shortlist import by_name
from archfind.types import Guess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database import Database, Signature
    from archfind.shortlist import Index
    from archfind.types import Canonical, Match

CLOSE = 0.8  # of the tensors on both sides must fit for an answer to be called close
_ALIKE = 0.5  # of the tensors: more than names alone say
_CANDIDATES = 3


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
    """Whether a match is the entry that the user names, with its library or without."""
    return choose in (found.entry.id, found.entry.name)


def is_member(signature: Signature, choose: str) -> bool:
    """Whether the user's entry has this signature."""
    return any(choose in (m.entry.id, m.entry.name) for m in signature.members)


def chosen(fit: Fit, canonical: Canonical, choose: str) -> Match:
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


def near(canonical: Canonical, fits: list[Fit], choose: str, database: Database) -> Guess:
    """Close to the best fit, or unknown with the nearest few."""
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
        found = chosen(fit, below, choose)
        common = _shapes_in_common(below.index, fit.signature)
        shapes = f"{common} of its {len(fit.signature)} shapes are in the file, under any name"
        found = replace(
            found,
            unexpected=(*found.unexpected, *outside),
            reasons=(shapes, *found.reasons),
        )
        nearest.append((fit, found))
    # Where no key is shared, shapes say more than the order in which candidates came.
    nearest.sort(
        key=lambda pair: (-pair[0].share, -_shapes_in_common(canonical.index, pair[0].signature))
    )
    top = tuple(found for _, found in nearest[:_CANDIDATES])
    if not top:
        return Guess(canonical, "unknown", ())
    fit = nearest[0][0]
    found = nearest[0][1]
    cut = not (found.unexpected or found.mismatched) and is_cut(
        found.missing, fit.signature.fixed, found.matched
    )
    status = "close" if fit.share >= CLOSE or cut else "unknown"
    if status == "unknown" and not choose:
        # Most keys of a network that the library has, at other sizes, say more than a few tensors.
        kin = by_name(canonical.index, database)[:_CANDIDATES]
        same = [match(canonical.index, database.signature(number)) for number in kin]
        if same and fit.share < _ALIKE:
            return Guess(canonical, status, (*same, *top)[:_CANDIDATES])
    below = strip(canonical, fit.prefix)
    note = pooled(below.index, fit.signature, fit.match) if status == "close" else ""
    warnings = (note,) if note else ()
    return Guess(below, status, top, "user" if choose else "", warnings=warnings)


def _shapes_in_common(index: Index, signature: Signature) -> int:
    """How many of the signature's shapes the file has, whatever they're called."""
    held: dict[tuple[int, ...], int] = {}
    for spec in index.values():
        held[spec.shape] = held.get(spec.shape, 0) + 1
    common = 0
    for shape in signature.fixed.values():
        if held.get(shape):
            held[shape] -= 1
            common += 1
    return common
