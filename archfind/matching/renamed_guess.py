"""Guess of a state dict whose network has other names: what it assumes, and whether it's sure. On
the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.frozen import replace
from archfind.matching.code_origin import code_of, preferred, renamed_by
from archfind.matching.decided import decided
from archfind.matching.nearest import CLOSE, HELPS, Fit, is_member, under_chosen_name
from archfind.matching.renamed import beginning, partly_renamed, renamings
from archfind.state_dicts.alignment import SPELLING
from archfind.state_dicts.canonical import strip
from archfind.types import Guess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.entries import Database
    from archfind.matching.renamed import Renaming
    from archfind.types import Canonical


def guess_of_renamed(
    canonical: Canonical, fits: list[Fit], database: Database, choose: str
) -> Guess | None:
    """The library's network under other names. Where nearly all names fit, it is that network, with
    what is missing under the names that are unexpected, or another."""
    if any(step.kind == "rename" for step in canonical.steps):
        return None  # older names, which are no other's
    if fits and fits[0].share >= CLOSE:
        found = _partly_renamed(canonical, fits)
    else:
        found = renamings(canonical, database)
    if not found and (not fits or fits[0].share < HELPS):
        first = beginning(canonical, database)
        found = [first] if first is not None else []
    code = code_of(canonical) if found else None
    own = preferred([Fit("", one.signature, one.match, 0, 0) for one in found], code)
    wanted = choose or own
    if wanted:
        found = [one for one in found if is_member(one.signature, wanted)] or found
    if not found or (fits and found[0].match.matched <= fits[0].match.matched):
        return None
    first = found[0]
    fit = Fit("", first.signature, first.match, 0, 0)
    if not first.whole:
        best = (under_chosen_name(fit, first.canonical, wanted),)
        return Guess(first.canonical, "close", best, warnings=first.notes)
    answer = decided(first.canonical, [fit], choose, code)
    if answer.chosen_by != "user" and (len(found) > 1 or not first.enough):
        every = (*answer.matches, *(one.match for one in found[1:]))
        answer = replace(answer, status="ambiguous", matches=every, chosen_by="")
    if answer.chosen_by not in ("user", "file"):
        is_spelling = first.likeness >= SPELLING
        known = tuple(renamed_by(one, code, canonical, is_spelling) for one in answer.matches)
        answer = replace(answer, matches=known)
    return replace(answer, warnings=first.notes)


def _partly_renamed(canonical: Canonical, fits: list[Fit]) -> list[Renaming]:
    """Those of the nearest networks that have the same tensors, some under other names."""
    near = [fit for fit in fits if fit.share >= CLOSE and not fit.outside]
    tried = [partly_renamed(strip(canonical, fit.prefix), fit.signature) for fit in near]
    return [one for one in tried if one is not None]
