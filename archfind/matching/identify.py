"""Checkpoint -> Guess: every state dict in the file against the database, and what may be said."""

from __future__ import annotations

import os

from archfind.errors import UnknownError
from archfind.escape import escape
from archfind.evidence.other_files import kind_of_checkpoint, missing_shards_note, training_state
from archfind.frozen import replace
from archfind.matching import shortlist
from archfind.matching.assumed import judged
from archfind.matching.compare import match
from archfind.matching.decided import decided
from archfind.matching.explainers import in_state_dict
from archfind.matching.file_claims import guess_with_claims
from archfind.matching.nearest import Fit, is_, near
from archfind.matching.parts import resolve_part
from archfind.matching.registered import compared_signatures, is_whole, with_another_head
from archfind.matching.user_records import with_records
from archfind.state_dicts.canonical import (
    AVERAGED,
    joined_state_dicts,
    networks,
    strip,
    training_readings,
)
from archfind.types import Canonical, Guess
from archfind.work import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.database.entries import Database
    from archfind.types import Checkpoint, Kind

_SURE = ("exact", "ambiguous")
_NEAREST = 3  # signatures compared although ...
_HOPELESS = 0.05  # ... they share fewer of the file's tensors than this
_BESIDE = ("controlnet", "t2i-adapter")  # kinds of files that are networks, of a library's, too
_NAMES, _NAME = 20, 80  # parts that are named where none is the one asked for; characters of each
_NAMED = 0.9  # of the names of a class of transformers, on both sides, are the whole file's
_NEAR = 2  # fits whose families are tried first
_SPENT = "not all that resembles it was tried, as a file's work has a bound; guess --search goes on"


def guess_checkpoint(
    checkpoint: Checkpoint, database: Database, choose: str = "", part: str = ""
) -> Guess:
    """Which network `checkpoint` holds. `choose` names an entry ("timm/resnetaa50" or
    "resnetaa50"), `part` one of several networks in the file. UnknownError where the file has no
    such part, or the database no such entry."""
    kind = kind_of_checkpoint(checkpoint)
    if kind is not None:
        # What stands beside a network may be one that a library offers.
        found = _known(checkpoint, database, choose, part) if kind.name in _BESIDE else None
        return found or _no_network(checkpoint, kind, choose, part)
    return judged(_told(checkpoint, database, choose, part))


def _told(checkpoint: Checkpoint, database: Database, choose: str, part: str) -> Guess:
    """What tensors, the file's words and the user's own database say."""
    found = guess_with_claims(_guess(checkpoint, database, choose, part), database)
    return with_records(found, database)


def _known(checkpoint: Checkpoint, database: Database, choose: str, part: str) -> Guess | None:
    """What a file's keys say by themselves, where they are all of a network."""
    try:
        found = judged(_told(checkpoint, database, choose, part))
    except UnknownError:
        return None
    return found if found.status in _SURE else None


def _guess(checkpoint: Checkpoint, database: Database, choose: str, part: str) -> Guess:
    if checkpoint.format == "onnx" and not choose and not part:
        from archfind.matching.archfind_exports import exported  # late: of few files

        own = exported(checkpoint, database)
        if own is not None:
            return own
    found = _unasked(checkpoint, database, choose, part)
    kind = None if found.canonical.index or found.parts else training_state(checkpoint)
    if kind is not None:
        return _no_network(checkpoint, kind, choose, part)
    note = missing_shards_note(checkpoint) if found.status not in _SURE else ""
    if note:
        found = replace(found, warnings=(*found.warnings, note))
    if not choose:
        return found
    wanted = database.named(choose)
    several = len(found.parts) > 1 and not found.part and found.status != "exact"
    if found.matches and is_(found.matches[0], choose) and not several:
        return found
    idle = ""
    if not wanted and checkpoint.format == "onnx":
        idle = "a graph may have lost its names; load and export rebuild it, and settle the choice"
    elif not wanted and _is_configured(choose, database):
        idle = "its rules give other tensors; load and export build it to see"
    elif not wanted:
        text = f"no network is called {choose!r}; `archfind signatures list` has the names"
        raise UnknownError(text, checkpoint.path, ())
    elif several:
        idle = "the file holds several networks: --part says for which one"
    if not idle:
        return _asked(checkpoint, database, choose, wanted, found)
    idle = f"--as {choose} decides nothing: {idle}"
    if not several and checkpoint.format != "onnx" and found.status in _SURE:
        # What fits isn't what was asked for, and must not be built in its place.
        idle = f"{choose} doesn't fit; without that choice: {found.matches[0].entry.id}"
        found = replace(found, status="unknown", chosen_by="user")
    return replace(found, warnings=(*found.warnings, idle))


def _no_network(checkpoint: Checkpoint, kind: Kind, choose: str, part: str) -> Guess:
    """The answer for what is no network; a choice of one is of no use, and that is said."""
    asked = [f"--as {choose}" if choose else "", f"--part {part}" if part else ""]
    idle = " and ".join(filter(None, asked))
    warnings = (f"{idle} has no use here: the file is {kind.words}",) if idle else ()
    index = {key.replace("/", "."): spec for key, spec in checkpoint.index.items()}
    origin = {key.replace("/", "."): key for key in checkpoint.index}
    whole = Canonical(checkpoint, index, origin)
    return Guess(whole, "unknown", (), chosen_by="", warnings=warnings, kind=kind)


def nearest_registered(canonical: Canonical, database: Database) -> Guess:
    """The nearest networks of a state dict among those that libraries offer by name, however far:
    no other arguments, heads or names are tried."""
    tries = [
        (reading, compared_signatures(reading, database))
        for reading in training_readings(canonical)
    ]
    best, fits = max(tries, key=lambda item: item[1][0].share if item[1] else 0.0)
    return with_records(near(best, fits, "", database, every=True), database)


def _asked(
    checkpoint: Checkpoint, database: Database, choose: str, wanted: list[int], found: Guess
) -> Guess:
    """What the entry that the user names makes of the file, where `found` is something else."""
    whole = [] if found.part else list(networks(checkpoint).values())
    best, fits = found.canonical, []
    from archfind.state_dicts.older_names import older_readings

    ways = list(training_readings(whole[0] if len(whole) == 1 else found.canonical))
    work = Work(len(ways[0].index))
    for reading in (*ways, *older_readings(ways[0], os.path.dirname(database.path), work)):
        tried: list[Fit] = []
        for prefix in dict.fromkeys(["", *shortlist.prefixes(reading.index, database)]):
            index = shortlist.tensors_below(reading.index, prefix)
            for signature in map(database.signature, wanted):
                one = match(index, signature)
                tried.append(Fit(prefix, signature, one, len(reading.index), len(index)))
        tried.sort(key=lambda fit: (not is_whole(fit), -fit.share))
        if is_whole(tried[0]):
            return decided(strip(reading, tried[0].prefix), tried[:1], choose)
        other = with_another_head(reading, tried, choose)
        if other is not None:
            return other
        if not fits or tried[0].share > fits[0].share:
            best, fits = reading, tried
    answer = near(best, fits, choose, database)
    if found.status not in _SURE:
        return answer
    others = f"{choose} doesn't fit; without that choice: {found.matches[0].entry.id}"
    return replace(answer, part=found.part, warnings=(*answer.warnings, others))


def _is_configured(choose: str, database: Database) -> bool:
    from archfind.database.model_types import model_types_beside  # late: most files never get here

    types = model_types_beside(database.path)
    return types is not None and types.is_named(choose)


def _unasked(checkpoint: Checkpoint, database: Database, choose: str, part: str) -> Guess:
    """The best of what fits; `choose` decides only where it is among that."""
    found: dict[str, Guess] = {}
    every = networks(checkpoint)
    work = Work(sum(len(canonical.index) for canonical in every.values()))
    for place, canonical in every.items():
        for name, one in in_state_dict(canonical, database, choose, work).items():
            found["/".join(filter(None, (place, name.rstrip("."))))] = one
    if not any(one.status in ("exact", "ambiguous") for one in found.values()):
        # {"features": {...}, "classifier": {...}}: one network, its modules saved apart. Those of
        # the same keys (weights, and their average) are no modules of one network.
        together = joined_state_dicts(checkpoint)
        apart = len({frozenset(one.index) for one in every.values()}) == len(every)
        most = max((len(one.index) for one in every.values()), default=0)
        if apart and len(together.index) > most:
            whole = in_state_dict(together, database, choose, Work(len(together.index)))
            if len(whole) == 1 and whole[""].status in ("exact", "ambiguous"):
                found = whole
    if part:
        inner = {
            "/".join(filter(None, (n, p))): g
            for n, one in found.items()
            for p, g in one.parts.items()
        }
        known = {**inner, **found}
        wanted = resolve_part(part, known)
        if not wanted:
            names = [escape(name, _NAME) for name in known if name]
            named = escape(part, _NAME)
            more = f" ... ({len(names)})" if len(names) > _NAMES else ""
            parts = ", ".join(names[:_NAMES]) + more or "one network alone"
            raise UnknownError(f"has no part {named!r}; it has {parts}", checkpoint.path, ())
        return replace(known[wanted], part=wanted)
    answer = _together(checkpoint, found)
    if work.is_spent and answer.status not in _SURE:
        answer = replace(answer, warnings=(*answer.warnings, _SPENT))
    return answer


def _together(checkpoint: Checkpoint, found: Mapping[str, Guess]) -> Guess:
    """One answer for a file: its network, or that it holds several."""
    if not found:
        return Guess(Canonical(checkpoint, {}, {}), "unknown", ())
    if len(found) == 1:
        return next(iter(found.values()))
    certain = [name for name in found if found[name].status == "exact"]
    averaged = [n for n in certain if n.replace("/", ".").rpartition(".")[2] in AVERAGED]
    alike = {found[name].matches[0].entry.id for name in certain}
    all_known = len(certain) == len(found) and not _has_more(checkpoint, found)
    if averaged and all_known and len(alike) == 1:
        best = found[averaged[0]]
        note = f"also holds raw weights of the network; {averaged[0]} is preferred, --part chooses"
        return replace(best, parts=found, part=averaged[0], warnings=(*best.warnings, note))
    first = found[(certain or list(found))[0]]
    status = "ambiguous" if any(one.status in _SURE for one in found.values()) else "unknown"
    matches = tuple(found[name].matches[0] for name in certain) or first.matches
    return replace(first, status=status, matches=matches, chosen_by="", parts=found)


def _has_more(checkpoint: Checkpoint, found: Mapping[str, Guess]) -> bool:
    """Whether tensors of the file are in none of its networks, and weren't set aside, either."""
    used: set[str] = set()
    for one in found.values():
        used.update(one.canonical.origin.values(), one.canonical.aside)
        used.update(part for _, *parts in one.canonical.merged.values() for part in parts)
    return not used.issuperset(checkpoint.index)
