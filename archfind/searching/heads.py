"""What a search is for where a file has another head than the library's: the file as it would be
with the library's own, or with none; and what was found, with the head that it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from archfind.building.instantiate import blank_variant
from archfind.database.entries import Database, SignatureMember
from archfind.frozen import replace
from archfind.matching.compare import match
from archfind.matching.heads import head_places, headed
from archfind.matching.shortlist import prefixes, tensors_below
from archfind.matching.variant_heads import CLASSES, MORE, SOME, of_classes, spec_of, with_head
from archfind.probing.probe import Shapes, shapes_of
from archfind.types import Canonical, Match, TensorSpec

_USUAL = 1000  # classes of a head that stands for another


def without_head(
    canonical: Canonical, database: Database, entry: str
) -> Iterator[tuple[str, Canonical]]:
    """State dicts with the library's head, or none, where a file has one that its network `entry`
    hasn't; each with the prefix below which the library's keys stand."""
    place = next(iter(prefixes(canonical.index, database)), "")
    own = dict(tensors_below(canonical.index, place))
    beside = len(own) < len(canonical.index)
    for number in database.named(entry)[:1]:
        signature = database.signature(number)
        known = signature.fixed.keys() | signature.free.keys()
        for path, is_whole in head_places(signature):
            new = {key for key in own if key.startswith(f"{path}.")}
            if not beside and new <= known:
                continue
            rest = {key: spec for key, spec in own.items() if key not in new}
            if not is_whole:
                rest |= _stand_in(path, own, new, known)
            yield place, replace(canonical, index=rest)


def _stand_in(
    path: str, own: Mapping[str, TensorSpec], new: set[str], known: set[str]
) -> dict[str, TensorSpec]:
    """The library's last Linear, for as many features as the first of the file's takes."""
    wide = next((own[k].shape[1] for k in own if k in new and len(own[k].shape) == 2), 0)
    made = {f"{path}.weight": (_USUAL, wide), f"{path}.bias": (_USUAL,)}
    return {k: spec_of(shape) for k, shape in made.items() if k in known} if wide else {}


def again(
    index: Mapping[str, TensorSpec], prefix: str, found: Match, database: Database
) -> Match | None:
    """What was found of a file in its plain form, with the head that the file has."""
    assert found.variant is not None
    number, _ = found.variant.function
    members = database.signature(number).members
    member = next(m for m in members if m.entry.id == found.entry.id)
    if CLASSES not in member.entry.fields:
        return None
    try:
        some, more = (_shapes(member, found, classes) for classes in (SOME, MORE))
        none = _shapes(member, found, 0) if member.headless else some
    except Exception:  # a library refuses values in its own ways
        return None
    signature = of_classes(number, member, (none, some, more))
    if signature is None:
        return None
    own = tensors_below(index, prefix)
    headed_match = headed(index, prefix, signature, match(own, signature))
    return None if headed_match is None else with_head(found, headed_match)


def _shapes(member: SignatureMember, found: Match, classes: int) -> Shapes:
    assert found.variant is not None
    moves = {**found.variant.moved, CLASSES: classes}
    return shapes_of(blank_variant(member.entry.id, moves, member.entry.cls))
