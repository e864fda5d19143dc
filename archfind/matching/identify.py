"""Checkpoint -> Guess: every state dict in the file against the database, and what may be said."""

from __future__ import annotations

import os

from archfind.errors import UnknownError
from archfind.escape import escape
from archfind.evidence.other_files import kind_of, shard_note, training_state
from archfind.frozen import replace
from archfind.matching import shortlist
from archfind.matching.assumed import judged
from archfind.matching.code_origin import code_of
from archfind.matching.compare import match
from archfind.matching.decided import by_code, decided
from archfind.matching.file_claims import told
from archfind.matching.heads import headed
from archfind.matching.nearest import CLOSE, Fit, is_, is_close, near, other_kernels
from archfind.matching.parts import common_prefix, flat, places, resolve
from archfind.state_dicts.canonical import AVERAGED, joined, networks, readings, strip
from archfind.state_dicts.quantised import is_by_torch
from archfind.types import Canonical, Guess
from archfind.work import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.database.entries import Database
    from archfind.types import Checkpoint, Kind

_SURE = ("exact", "ambiguous")
_NEAREST = 3  # signatures compared although ...
_HOPELESS = 0.05  # ... they share fewer of the file's tensors than this
_NAMES, _NAME = 20, 80  # parts that are named where none is the one asked for; characters of each
_NAMED = 0.9  # of the names of a class of transformers, on both sides, are the whole file's
_NEAR = 2  # fits whose families are tried first
_SPENT = "not all that resembles it was tried, as a file's work has a bound; guess --search goes on"


def guess(checkpoint: Checkpoint, database: Database, choose: str = "", part: str = "") -> Guess:
    """Which network `checkpoint` holds. `choose` names an entry ("timm/resnetaa50" or
    "resnetaa50"), `part` one of several networks in the file. UnknownError where the file has no
    such part, or the database no such entry."""
    kind = kind_of(checkpoint)
    if kind is not None:
        return _no_network(checkpoint, kind, choose, part)
    return judged(told(_guess(checkpoint, database, choose, part), database))


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
    note = shard_note(checkpoint) if found.status not in _SURE else ""
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


def registered(canonical: Canonical, database: Database) -> Guess:
    """The nearest networks of a state dict among those that libraries offer by name, however far:
    no other arguments, heads or names are tried."""
    tries = [(reading, _fits(reading, database)) for reading in readings(canonical)]
    best, fits = max(tries, key=lambda item: item[1][0].share if item[1] else 0.0)
    return near(best, fits, "", database, every=True)


def _asked(
    checkpoint: Checkpoint, database: Database, choose: str, wanted: list[int], found: Guess
) -> Guess:
    """What the entry that the user names makes of the file, where `found` is something else."""
    whole = [] if found.part else list(networks(checkpoint).values())
    best, fits = found.canonical, []
    from archfind.state_dicts.older_names import older_readings

    ways = list(readings(whole[0] if len(whole) == 1 else found.canonical))
    work = Work(len(ways[0].index))
    for reading in (*ways, *older_readings(ways[0], os.path.dirname(database.path), work)):
        tried: list[Fit] = []
        for prefix in dict.fromkeys(["", *shortlist.prefixes(reading.index, database)]):
            index = shortlist.below(reading.index, prefix)
            for signature in map(database.signature, wanted):
                one = match(index, signature)
                tried.append(Fit(prefix, signature, one, len(reading.index), len(index)))
        tried.sort(key=lambda fit: (not _whole(fit), -fit.share))
        if _whole(tried[0]):
            return decided(strip(reading, tried[0].prefix), tried[:1], choose)
        other = _headed(reading, tried, choose)
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
    from archfind.database.model_types import beside  # late: most files never get here

    types = beside(database.path)
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
        together = joined(checkpoint)
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
        wanted = resolve(part, known)
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


def in_state_dict(
    canonical: Canonical, database: Database, choose: str, work: Work
) -> dict[str, Guess]:
    """The networks in one state dict by prefix; "" for the whole of it. Beyond registered networks
    only as much is tried as the work allows."""
    if canonical.quantisation is None and is_by_torch(canonical.index):
        from archfind.matching import torch_quantised  # late: of few files

        for plain in torch_quantised.unquantised(canonical, database):
            whole = in_state_dict(plain, database, choose, work).get("")
            if whole is not None and whole.status in _SURE:

                def of_entry(name: str, plain: Canonical = plain) -> Guess | None:
                    return in_state_dict(plain, database, name, work).get("")

                return {"": torch_quantised.told(whole, of_entry, choose)}
    best, fits = canonical, []
    tries: list[tuple[Canonical, list[Fit]]] = []
    for reading in readings(canonical):
        tried = _fits(reading, database)
        tries.append((reading, tried))
        if tried and (not fits or tried[0].share > fits[0].share):
            best, fits = reading, tried
        whole = [fit for fit in tried if _whole(fit)]
        if whole:
            answer = decided(strip(reading, whole[0].prefix), whole, choose)
            if whole[0].prefix:
                answer = by_code(answer)
                from archfind.matching.wrapper import with_wrapper  # late: of few files

                answer = with_wrapper(answer, reading, whole[0].prefix, database, choose, work)
            return {"": answer}
    # late: a known network, which most files hold, never gets here
    from archfind.matching.larger_network import (
        beside_others,
        overlap,
        rest_of,
        under_other_names,
        with_rest,
    )
    from archfind.matching.model_types import configured, named_class
    from archfind.matching.renamed_guess import renamed
    from archfind.matching.variants import varied
    from archfind.state_dicts.older_names import older_readings

    nearly: list[tuple[float, Guess]] = []
    for reading, _ in tries:
        other = configured(reading, database, choose, work)
        if other is not None:
            return {"": other}
    older: list[dict[str, Guess]] = []
    ways = list(older_readings(tries[0][0], os.path.dirname(database.path), work))
    # A registered network before another one with other arguments.
    for reading in sorted(ways, key=lambda way: not any(map(_whole, _fits(way, database)))):
        other = in_state_dict(reading, database, choose, work)
        if any(map(_is_misread, other.values())):
            continue
        older.append(other)
        if len(older[-1]) == 1 and all(map(_is_fixed, older[-1].values())):
            return older[-1]
    sure = [other for other in older if any(one.status in _SURE for one in other.values())]
    if sure:
        return sure[0]
    for reading, tried in tries:
        near_ids = [member.entry.id for fit in tried[:_NEAR] for member in fit.signature.members]
        share, other = varied(reading, database, choose, near_ids, work)
        if other is not None and share == 1:
            return {"": other}
        if other is not None:
            nearly.append((share, other))
    code = code_of(canonical)
    rows = [] if code is not None and code.head else tries  # whose heads may be layers in a row
    for reading, tried in rows:
        other = _headed(reading, tried, choose)
        if other is not None:
            return {"": other}
    from archfind.matching.variant_heads import headed_variant

    for reading, tried in rows:
        near_ids = [member.entry.id for fit in tried[:_NEAR] for member in fit.signature.members]
        other = headed_variant(reading, database, choose, near_ids, work)
        if other is not None:
            return {"": other}
    from archfind.matching.resized import resized

    for reading, _ in tries:
        other = resized(reading, database, choose, work)
        if other is not None:
            return {"": other}
    for reading, _ in tries:
        share, other = named_class(reading, database, choose, work)
        if other is not None and other.status in _SURE:
            return {"": other}
        if other is not None:
            nearly.append((share, other))
    nearly = [pair for pair in nearly if _is_close(*pair)]
    # What only lacks tensors is cut from the network, not made with other arguments.
    cut = bool(fits) and not (fits[0].match.unexpected or fits[0].match.mismatched)
    nearest = max(nearly, key=lambda item: item[0], default=None)
    lost = cut and nearest is not None and fits[0].share >= nearest[0]
    if nearest and nearest[0] >= _NAMED and nearest[1].matches[0].pretrained and not lost:
        return {"": nearest[1]}  # what it is made of is said of the class, not of its parts
    for reading, tried in tries:
        is_near = bool(tried) and tried[0].share >= CLOSE
        other = renamed(reading, tried, database, choose) if is_near or not nearly else None
        if other is not None:
            return {"": other}
    parts: dict[str, list[Fit]] = {}
    for fit in fits:
        if fit.match.fits and not any(
            overlap(fit.prefix, other) for other in parts if other != fit.prefix
        ):
            parts.setdefault(fit.prefix, []).append(fit)
    order = {p: n for n, p in enumerate(dict.fromkeys(_head(k, parts) for k in best.index))}
    guesses = {
        p: by_code(decided(strip(best, p), parts[p], choose))
        for p in sorted(parts, key=order.__getitem__)
    }
    # Where the nearest is all below one prefix, and there is more, it may stand there otherwise.
    inner = [fits[0].prefix] if fits and fits[0].outside and fits[0].prefix else []
    if not fits or fits[0].share < CLOSE:
        inner += places(best.index, database)
    for prefix in dict.fromkeys(inner):
        if any(overlap(prefix, other) for other in guesses):
            continue
        part = strip(best, prefix)
        if work.allows_part(len(part.index)):
            guesses.update(flat(prefix, in_state_dict(part, database, choose, work)))
    if not guesses:
        guesses = beside_others(best, fits, choose)
    rest = rest_of(best, guesses)
    guesses.update(under_other_names(rest, guesses, database, choose, work))
    if sum(one.status in _SURE for one in guesses.values()) > 1:
        return with_rest(guesses, best)
    is_sure = any(one.status in _SURE for one in guesses.values())
    if nearest and not is_sure and not cut and nearest[0] > (fits[0].share if fits else 0.0):
        return {"": nearest[1]}
    # One known network within an unknown whole is a part of it, not the answer.
    known = with_rest(guesses, best) if guesses else {}
    known = {place.rstrip("."): one for place, one in known.items()}
    answer = replace(near(best, fits, choose, database), parts=known)
    return max([{"": answer}, *older], key=lambda found: _told(found.get("")))


def _headed(canonical: Canonical, fits: list[Fit], choose: str) -> Guess | None:
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


def _told(found: Guess | None) -> tuple[int, int]:
    """How much of a state dict is known: parts, and tensors of the network that it is close to."""
    if found is None:
        return 0, 0
    parts = sum(one.status in _SURE for one in found.parts.values())
    return parts, found.matches[0].matched if found.status == "close" else 0


def _is_misread(found: Guess) -> bool:
    """Whether only a picture that's no square explains older names: it's not these names, then."""
    return any(one.variant is not None and bool(one.variant.oblong) for one in found.matches)


def _is_fixed(found: Guess) -> bool:
    """Whether a library's network fits, and nothing was assumed for it."""
    return found.status in _SURE and not any(one.assumed for one in found.matches)


def _head(key: str, prefixes: Iterable[str]) -> str:
    """The prefix of these that a key has, or ""."""
    return next((prefix for prefix in prefixes if key.startswith(prefix)), "")


def _fits(canonical: Canonical, database: Database) -> list[Fit]:
    """Signatures tried, the best first."""
    fits: list[Fit] = []
    total = len(canonical.index)
    for prefix in shortlist.prefixes(canonical.index, database):
        index = shortlist.below(canonical.index, prefix)
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
        if any(_whole(fit) for fit in fits):
            break
    fits.sort(key=lambda fit: (-fit.match.fits, -fit.share))
    return fits


def _whole(fit: Fit) -> bool:
    return fit.match.fits and not fit.outside


def _is_close(share: float, found: Guess) -> bool:
    """A class of transformers is told by its keys, of which it has few in common with another."""
    best = found.matches[0]
    if best.pretrained is not None:
        return not other_kernels(best)
    return share >= CLOSE and is_close(best, found.canonical.index)
