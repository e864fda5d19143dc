"""A state dict against the networks that libraries offer by name: signatures compared, and those
whose head is another. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.frozen import replace
from archfind.matching import shortlist
from archfind.matching.compare import match
from archfind.matching.decided import by_code, decided
from archfind.matching.heads import headed
from archfind.matching.nearest import Fit
from archfind.matching.parts import common_prefix
from archfind.state_dicts.canonical import strip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.entries import Database
    from archfind.types import Canonical, Guess

_NEAREST = 3  # signatures compared although ...
_HOPELESS = 0.05  # ... they share fewer of the file's tensors than this


def compared_signatures(canonical: Canonical, database: Database) -> list[Fit]:
    """The signatures that resemble a state dict, each compared with it; the best first."""
    fits: list[Fit] = []
    total = len(canonical.index)
    for prefix in shortlist.prefixes(canonical.index, database):
        index = shortlist.tensors_below(canonical.index, prefix)
        if shortlist.is_nested(index, prefix, canonical.index):
            continue
        nearest = 0 if fits else _NEAREST  # there only to be named
        for rank, (number, common, rare) in enumerate(shortlist.signatures(index, database)):
            if rank >= nearest and common < _HOPELESS * len(index):
                break
            # After a fit, only those that could fit as well are worth the comparison.
            if rank and fits and fits[-1].match.fits and common < database.sizes[number]:
                continue
            signature = database.signature(number)
            found = match(index, signature)
            fits.append(Fit(prefix, signature, found, total, len(index), rare))
        if any(is_whole(fit) for fit in fits):
            break
    fits.sort(key=lambda fit: (-fit.match.fits, -fit.share))
    return fits


def is_whole(fit: Fit) -> bool:
    """Whether a network is all of the state dict."""
    return fit.match.fits and not fit.outside


def with_another_head(canonical: Canonical, fits: list[Fit], choose: str) -> Guess | None:
    """The library's network with another head, where one is."""
    shared = common_prefix(canonical.index)
    found: list[Fit] = []
    outer = ""
    for fit in fits:
        cut = fit.prefix if shared.startswith(fit.prefix) else shared
        if found and cut != outer:
            continue
        whole = strip(canonical, cut)
        prefix = fit.prefix[len(cut) :]
        other = headed(whole.index, prefix, fit.signature, fit.match)
        if other is not None:
            total, outer = len(whole.index), cut
            found.append(Fit(prefix, fit.signature, other, total, total, fit.rare))
    # A head in the library's own place says more than one of any name.
    placed = [fit for fit in found if fit.match.head and not fit.match.head.beside]
    if not found:
        return None
    answer = by_code(decided(strip(canonical, outer), placed or found, choose))
    if answer.chosen_by == "prior" and len(answer.matches) > 1:
        # The prior chooses among twins; these are networks that differ in the head they had.
        answer = replace(answer, status="ambiguous", chosen_by="")
    return answer
