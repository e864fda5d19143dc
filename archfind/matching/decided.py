"""What may be said where networks fit: one that stands out, or all of them. On the cold path of
`archfind guess`."""

from __future__ import annotations

from archfind.evidence.hints import named_in_file
from archfind.frozen import replace
from archfind.matching.code_origin import code_of, of_code, preferred
from archfind.matching.compare import prior_names_first
from archfind.matching.nearest import Fit, is_, is_member, under_chosen_name
from archfind.types import Guess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.evidence.origins import Origin
    from archfind.types import Canonical


def decided(
    canonical: Canonical, fits: list[Fit], choose: str, code: Origin | None = None
) -> Guess:
    """Exact where one function stands out among everything that fits, ambiguous otherwise. `code`
    is whose names the file has, where they aren't the library's."""
    fits = _known([fit for fit in fits if fit.match.fits], choose)
    own = preferred(fits, code)
    matches = [under_chosen_name(fit, canonical, choose or own) for fit in fits]
    picked = [m for m in matches if is_(m, choose)] if choose else []
    if picked:
        return Guess(canonical, "exact", (picked[0],), "user")
    if len(matches) == 1 and all(twin.same_function for twin in matches[0].twins):
        return Guess(canonical, "exact", tuple(matches), "only")
    if own:
        picked = [m for m in matches if is_(m, own)]
        return Guess(canonical, "exact", (picked[0],), "origin")
    named = [m for m in matches if named_in_file(canonical.checkpoint, [m.entry])]
    if named:
        return Guess(canonical, "exact", tuple(named[:1]), "file")
    users = any(match.entry.is_users for match in matches)  # whose class may be what is meant
    if prior_names_first(fits[0].signature) and not users:
        return Guess(canonical, "exact", tuple(matches), "prior")
    return Guess(canonical, "ambiguous", tuple(matches), "")


def _known(fits: list[Fit], choose: str) -> list[Fit]:
    """The networks that are more than a name. A user's record of keys and shapes is the answer
    where nothing else is, or where `choose` is its name."""
    known = [fit for fit in fits if fit.match.entry.callable or is_member(fit.signature, choose)]
    return known or fits


def by_code(answer: Guess) -> Guess:
    """The answer about a network within a larger one, whose code may have changed it."""
    code = code_of(answer.canonical)
    if code is None or answer.chosen_by == "user":
        return answer
    of = answer.canonical.checkpoint
    return replace(answer, matches=tuple(of_code(one, code, of) for one in answer.matches))
