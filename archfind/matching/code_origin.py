"""What follows from whose code a file's names are, for the networks that fit it: which of several
it is, and what is assumed about it. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.evidence.said import fields_said, words_said
from archfind.frozen import replace
from archfind.matching.head_assumptions import assumed_of_head as head_assumed
from archfind.matching.heads import head_settings
from archfind.types import Assumed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.evidence.origins import Origin
    from archfind.matching.nearest import Fit
    from archfind.types import Canonical, Checkpoint, Match

_OTHER = "what no tensor shows (strides, padding, activations, eps){} is that of"


def code_of(canonical: Canonical) -> Origin | None:
    """Whose names the whole file has, also where `canonical` is a part of it."""
    from archfind.evidence.origins import (
        origin_of_keys,  # late: a network alone under its own names
    )

    return origin_of_keys(canonical.checkpoint.index)


def preferred(fits: list[Fit], code: Origin | None) -> str:
    """The id of the entry that the code computes, among those that fit; "" where that isn't one."""
    if code is None or not code.prefers:
        return ""
    entries = [member.entry for fit in fits for member in fit.signature.members]
    ids = [one.id for one in entries if code.prefers in one.name]
    return ids[0] if len(set(ids)) == 1 else ""


def of_code(match: Match, code: Origin | None, checkpoint: Checkpoint) -> Match:
    """The match with what the code confirms taken off what is assumed, and what it leaves open put
    on."""
    if code is None:
        return match
    kept = tuple(item for item in match.assumed if item.place not in code.confirms)
    if code.leaves and not _is_told(code, checkpoint):
        what = f"{code.leaves}, which {code.name} configs decide, is that of"
        kept += (Assumed("implementation", what, match.entry.id),)
    config = dict(match.config)
    left = {item.place for item in kept}
    if match.head is not None and left.isdisjoint(o.place for o in head_assumed(match.head)):
        config |= head_settings(match.head, "origin")
    return replace(match, assumed=kept, config=config)


def renamed_by(match: Match, code: Origin | None, of: Canonical, is_spelling: bool) -> Match:
    """The match under names that aren't the library's: other code may have other strides or
    activations, but where it's known not to, or only spells the same names otherwise."""
    if code is not None:
        match = of_code(match, code, of.checkpoint)
        if code.as_library or code.leaves:
            return match
    if is_spelling:
        return match
    where = f" in {code.name} code" if code is not None else ""
    item = Assumed("implementation", _OTHER.format(where), match.entry.id)
    return replace(match, assumed=(*match.assumed, item))


def _is_told(code: Origin, checkpoint: Checkpoint) -> bool:
    """Whether the file's own words say that what the code leaves open is as in the library."""
    name, value = code.told_by
    return bool(name) and fields_said(words_said(checkpoint)).get(name) == value
