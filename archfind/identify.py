"""Checkpoint -> Guess: every state dict in the file against the database, and what may be said."""

from __future__ import annotations

from archfind import shortlist
from archfind.canonical import AVERAGED, joined, networks, readings, strip
from archfind.errors import UnknownError
from archfind.evidence.hints import named_in_file
from archfind.frozen import replace
from archfind.heads import headed, notes, pooled
from archfind.match import match, plain
from archfind.parts import children, common_prefix, flat, is_cut, places, resolve
from archfind.renamed import renamings
from archfind.types import Canonical, Guess, Match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.database import Database, Signature
    from archfind.shortlist import Index
    from archfind.types import Checkpoint

CLOSE = 0.8  # of the tensors on both sides must fit for an answer to be called close
_CANDIDATES = 3
_SURE = ("exact", "ambiguous")


class _Fit:
    """One signature tried below one prefix; `share` counts fitting tensors against both sides."""

    __slots__ = ("match", "outside", "prefix", "share", "signature")

    def __init__(
        self, prefix: str, signature: Signature, found: Match, total: int, below: int
    ) -> None:
        self.prefix = prefix
        self.signature = signature
        self.match = found
        self.outside = total - below
        known = found.matched + len(found.mismatched) + len(found.unexpected)
        self.share = found.matched / max(found.expected, known + self.outside, 1)


def guess(checkpoint: Checkpoint, database: Database, choose: str = "", part: str = "") -> Guess:
    """Which network `checkpoint` holds. `choose` names an entry ("timm/resnetaa50" or
    "resnetaa50"), `part` one of several networks in the file. UnknownError where the file has no
    such part."""
    found: dict[str, Guess] = {}
    for place, canonical in networks(checkpoint).items():
        for name, one in _guess_state_dict(canonical, database, choose).items():
            found["/".join(filter(None, (place, name.rstrip("."))))] = one
    if not any(one.status in ("exact", "ambiguous") for one in found.values()):
        # {"features": {...}, "classifier": {...}}: one network, its modules saved apart.
        together = joined(checkpoint)
        if len(together.index) > max(
            (len(one.canonical.index) for one in found.values()), default=0
        ):
            whole = _guess_state_dict(together, database, choose)
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
            parts = ", ".join(name for name in known if name) or "one network alone"
            raise UnknownError(f"has no part {part!r}; it has {parts}", checkpoint.path, ())
        return replace(known[wanted], part=wanted)
    return _together(checkpoint, found)


def _together(checkpoint: Checkpoint, found: Mapping[str, Guess]) -> Guess:
    """One answer for a file: its network, or that it holds several."""
    if not found:
        return Guess(Canonical(checkpoint, {}, {}), "unknown", ())
    if len(found) == 1:
        return next(iter(found.values()))
    certain = [name for name in found if found[name].status == "exact"]
    averaged = [n for n in certain if n.replace("/", ".").rpartition(".")[2] in AVERAGED]
    alike = {found[name].matches[0].entry.id for name in certain}
    if averaged and len(certain) == len(found) and len(alike) == 1:
        chosen = found[averaged[0]]
        note = f"also holds raw weights of the network; {averaged[0]} is preferred, --part chooses"
        return replace(chosen, parts=found, part=averaged[0], warnings=(*chosen.warnings, note))
    first = found[(certain or list(found))[0]]
    status = "ambiguous" if any(one.status in _SURE for one in found.values()) else "unknown"
    matches = tuple(found[name].matches[0] for name in certain) or first.matches
    return replace(first, status=status, matches=matches, chosen_by="", parts=found)


def _guess_state_dict(canonical: Canonical, database: Database, choose: str) -> dict[str, Guess]:
    """The networks in one state dict by prefix; "" for the whole of it."""
    best, fits = canonical, []
    tries: list[tuple[Canonical, list[_Fit]]] = []
    for reading in readings(canonical):
        tried = _fits(reading, database)
        tries.append((reading, tried))
        if tried and (not fits or tried[0].share > fits[0].share):
            best, fits = reading, tried
        whole = [fit for fit in tried if _whole(fit)]
        if whole:
            return {"": _decided(strip(reading, whole[0].prefix), whole, choose)}
    others = [_headed(reading, tried, choose) for reading, tried in tries]
    if not any(others):
        others = [_renamed(reading, tried, database, choose) for reading, tried in tries]
    other = next(filter(None, others), None)
    if other is not None:
        return {"": other}
    parts: dict[str, list[_Fit]] = {}
    for fit in fits:
        if fit.match.fits and not any(
            _overlap(fit.prefix, other) for other in parts if other != fit.prefix
        ):
            parts.setdefault(fit.prefix, []).append(fit)
    order = {p: n for n, p in enumerate(dict.fromkeys(_head(k, parts) for k in best.index))}
    guesses = {
        p: _decided(strip(best, p), parts[p], choose) for p in sorted(parts, key=order.__getitem__)
    }
    for prefix in places(best.index, database) if not fits or fits[0].share < CLOSE else ():
        if not any(_overlap(prefix, other) for other in parts):
            guesses.update(flat(prefix, _guess_state_dict(strip(best, prefix), database, choose)))
    if sum(one.status in _SURE for one in guesses.values()) > 1:
        if sum(len(one.canonical.index) for one in guesses.values()) < len(best.index):
            guesses[""] = _near(best, fits, choose)  # there is more than these networks
        return guesses
    # One known network within an unknown whole is a part of it, not the answer.
    known = {p.rstrip("."): g for p, g in guesses.items()}
    for prefix in children(best.index) if known else ():
        if not any(_overlap(prefix, f"{name}.") for name in known):
            known[prefix.rstrip(".")] = Guess(strip(best, prefix), "unknown", ())
    return {"": replace(_near(best, fits, choose), parts=known)}


def _headed(canonical: Canonical, fits: list[_Fit], choose: str) -> Guess | None:
    """The library's network with another head, where one is."""
    shared = common_prefix(canonical.index)
    found: list[_Fit] = []
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
            found.append(_Fit(prefix, fit.signature, other, total, total))
    # A head in the library's own place says more than one of any name.
    placed = [fit for fit in found if fit.match.head and not fit.match.head.beside]
    if not found:
        return None
    answer = _decided(strip(canonical, outer), placed or found, choose)
    assumed = notes(answer.matches[0])
    if answer.chosen_by == "prior" and len(answer.matches) > 1:
        # The prior chooses among twins; these are networks that differ in the head they had.
        answer = replace(answer, status="ambiguous", chosen_by="")
    return replace(answer, warnings=(*answer.warnings, *assumed))


def _renamed(
    canonical: Canonical, fits: list[_Fit], database: Database, choose: str
) -> Guess | None:
    """The library's network under other names. Where nearly all names fit, those that don't are a
    change to the network: another pooling before the same last layer, say."""
    found = [] if fits and fits[0].share >= CLOSE else renamings(canonical, database)
    if choose:
        found = [one for one in found if _is_member(one.signature, choose)] or found
    if not found or (fits and found[0].match.matched <= fits[0].match.matched):
        return None
    first = found[0]
    fit = _Fit("", first.signature, first.match, 0, 0)
    if not first.whole:
        near = (_chosen(fit, first.canonical, choose),)
        return Guess(first.canonical, "close", near, warnings=first.notes)
    answer = _decided(first.canonical, [fit], choose)
    if answer.chosen_by != "user" and (len(found) > 1 or not first.enough):
        every = (*answer.matches, *(one.match for one in found[1:]))
        answer = replace(answer, status="ambiguous", matches=every, chosen_by="")
    return replace(answer, warnings=first.notes)


def _head(key: str, prefixes: Iterable[str]) -> str:
    """The prefix of these that a key has, or ""."""
    return next((prefix for prefix in prefixes if key.startswith(prefix)), "")


def _fits(canonical: Canonical, database: Database) -> list[_Fit]:
    """Signatures tried, the best first."""
    fits: list[_Fit] = []
    total = len(canonical.index)
    for prefix in shortlist.prefixes(canonical.index, database):
        index = shortlist.below(canonical.index, prefix)
        for rank, (number, common) in enumerate(shortlist.signatures(index, database)):
            # After a fit, only those that could fit as well are worth the comparison.
            if rank and fits and fits[-1].match.fits and common < database.sizes[number]:
                continue
            signature = database.signature(number)
            fits.append(_Fit(prefix, signature, match(index, signature), total, len(index)))
        if any(_whole(fit) for fit in fits):
            break
    fits.sort(key=lambda fit: (-fit.match.fits, -fit.share))
    return fits


def _whole(fit: _Fit) -> bool:
    return fit.match.fits and not fit.outside


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _decided(canonical: Canonical, fits: list[_Fit], choose: str) -> Guess:
    """Exact where one function stands out among everything that fits, ambiguous otherwise."""
    matches = [_chosen(fit, canonical, choose) for fit in fits if fit.match.fits]
    picked = [m for m in matches if _is(m, choose)] if choose else []
    if picked:
        return Guess(canonical, "exact", (picked[0],), "user")
    if len(matches) == 1 and all(twin.same_function for twin in matches[0].twins):
        return Guess(canonical, "exact", tuple(matches), "only")
    named = [m for m in matches if named_in_file(canonical.checkpoint, [m.entry])]
    if named:
        return Guess(canonical, "exact", tuple(named[:1]), "file")
    if plain(fits[0].signature):
        return Guess(canonical, "exact", tuple(matches), "prior")
    return Guess(canonical, "ambiguous", tuple(matches), "")


def _chosen(fit: _Fit, canonical: Canonical, choose: str) -> Match:
    """The match under the name of the twin that the user or the file asks for."""
    entries = [member.entry for member in fit.signature.members]
    wanted = [e for e in entries if choose and choose in (e.id, e.name)]
    wanted = wanted or named_in_file(canonical.checkpoint, entries)
    if wanted and wanted[0].id != fit.match.entry.id:
        if fit.match.head:
            again = headed(canonical.index, fit.prefix, fit.signature, fit.match, wanted[0].id)
            return again or fit.match
        return match(canonical.index, fit.signature, first=wanted[0].id)
    return fit.match


def _is(found: Match, choose: str) -> bool:
    return choose in (found.entry.id, found.entry.name)


def _near(canonical: Canonical, fits: list[_Fit], choose: str) -> Guess:
    """Close to the best fit, or unknown with the nearest few."""
    if choose:
        fits = [f for f in fits if _is_member(f.signature, choose)] or fits
    nearest: list[tuple[_Fit, Match]] = []
    seen: set[str] = set()
    for fit in fits:
        if fit.match.entry.id in seen:
            continue
        seen.add(fit.match.entry.id)
        below = strip(canonical, fit.prefix)
        outside = tuple(k for k in canonical.index if not k.startswith(fit.prefix))
        found = _chosen(fit, below, choose)
        common = _shapes_in_common(below.index, fit.signature)
        reasons = (f"{common} of its {len(fit.signature)} shapes are in the file, under any name",)
        nearest.append(
            (fit, replace(found, unexpected=(*found.unexpected, *outside), reasons=reasons))
        )
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


def _is_member(signature: Signature, choose: str) -> bool:
    return any(choose in (m.entry.id, m.entry.name) for m in signature.members)
