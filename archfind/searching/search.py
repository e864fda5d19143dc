"""Guess -> Guess, where nothing fits: the classes with the likest keys built with other arguments
until the file's tensors come out. Slower than `guess`, as it needs the libraries themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from archfind.database.classes import of as families_of
from archfind.database.entries import Database, Signature, SignatureMember
from archfind.database.model_types import model_types_beside as configured_beside
from archfind.database.notation import Size
from archfind.frozen import replace
from archfind.matching.assumed import judged
from archfind.matching.nearest import CLOSE, is_close
from archfind.matching.parts import common_prefix
from archfind.matching.shortlist import most_named
from archfind.matching.variants import answer
from archfind.probing.misfit import key_template, misfit
from archfind.probing.probe import Shapes
from archfind.progress import progress
from archfind.searching.attempt import StartingNetwork, attempt
from archfind.searching.config_search import search_configured
from archfind.searching.doubt import is_doubtful, settled_by_building
from archfind.searching.heads import again, without_head
from archfind.state_dicts.canonical import is_derived, kind, networks, strip
from archfind.types import Canonical, Guess, Match

_AGAIN = 15.0  # for another class, once one fits
_ALIKE = 0.5  # of the templates of keys on both sides must be the same for a class to be tried
_TWIN = 0.9  # ... once one fits
_NEARLY = 0.95  # share of tensors
_LACKING = 20.0  # seconds where a known network has but a few tensors more than the file
_CUT = 3  # tensors that were lost, rather than never made
_NAMED = 240  # signatures compared by the templates of their keys ...
_RANKED = 80  # ... and by shape
_CLASSES = 4
_STARTS = 2  # networks of a class

_templates: dict[tuple[str, int], set[str]] = {}


def search(guess: Guess, database: Database, choose: str = "", seconds: float = 90.0) -> Guess:
    """A better answer for a guess that isn't sure, or the guess, after so many seconds at most.
    `choose` names an entry, which is then the only start."""
    return judged(_settled(guess, database, choose, seconds))


def _settled(guess: Guess, database: Database, choose: str, seconds: float) -> Guess:
    if is_doubtful(guess):
        guess = settled_by_building(guess, database, choose)
        variant = guess.matches[0].variant
        if _is_sure(guess) and variant is not None and variant.oblong:
            anew = replace(guess, status="close", matches=(), chosen_by="")
            other = _search(anew, database, choose, min(seconds, _LACKING))
            return other if _is_sure(other) and _is_square(other, variant.oblong) else guess
    return _search(guess, database, choose, seconds)


def _is_square(guess: Guess, argument: str) -> bool:
    setting = guess.matches[0].config.get(argument)
    return setting is None or not isinstance(setting.value, list) or len({*setting.value}) == 1


def _is_sure(guess: Guess) -> bool:
    return guess.status not in ("close", "unknown")


def _search(guess: Guess, database: Database, choose: str, seconds: float) -> Guess:
    is_cut = _is_cut(guess)
    close = guess.matches[0] if guess.status == "close" else None
    is_configured = close is not None and close.pretrained is not None
    if (
        _is_sure(guess)
        or guess.searched
        or (is_cut and not is_configured and not _lacks_modules(guess))
    ):
        return guess
    if is_cut and not is_configured:
        seconds = min(seconds, _LACKING)
    if guess.chosen_by == "user" and guess.matches:
        choose = choose or guess.matches[0].entry.id
    end = time.monotonic() + seconds
    best = guess
    # What fits nothing may be named after a piece of it: the search is for the whole.
    every = [] if guess.part else list(networks(guess.canonical.checkpoint).values())
    whole = every[0] if len(every) == 1 else guess.canonical
    types = configured_beside(database.path)
    if types is not None and (is_configured or not is_cut):
        # Rules may ask for more than the class has, where a file lacks little.
        configured = search_configured(
            whole, types, choose, seconds, close if is_configured and not choose else None
        )
        if configured is not None or is_configured:
            return configured or replace(best, searched=True)
    shared = common_prefix(whole.index)
    better = _headed(strip(whole, shared) if shared else whole, database, choose, end, guess)
    if better is not None:
        return better
    for prefix in dict.fromkeys(("", shared)):
        below = strip(whole, prefix) if prefix else whole
        found = _variants(below, database, choose, end, guess.matches)
        better = answer(below, [m for m in found if m.fits], database, choose)
        if better is not None:
            return better
        for match in found[:1]:
            nearest = _share(best.matches[0]) if best.matches else 0.0
            if _share(match) > max(CLOSE, nearest) and is_close(match, below.index):
                best = Guess(below, "close", (match,), "user" if choose else "")
    return replace(best, searched=True)


def _headed(
    whole: Canonical, database: Database, choose: str, end: float, guess: Guess
) -> Guess | None:
    """The answer where the file has a head that its nearest network hasn't."""
    best = guess.matches[0] if guess.matches else None
    if best is None or best.pretrained is not None:
        return None
    for prefix, below in without_head(whole, database, best.entry.id):
        until = time.monotonic() + (end - time.monotonic()) / 2
        found = [m for m in _variants(below, database, choose, until, guess.matches) if m.fits]
        own = [again(whole.index, prefix, match, database) for match in found]
        better = answer(whole, [match for match in own if match], database, choose)
        if better is not None:
            return better
    return None


def _is_cut(guess: Guess) -> bool:
    """Whether the file only lacks tensors of a registered network: it was cut, not made so."""
    best = guess.matches[0] if guess.matches else None
    if best is None or best.variant is not None or _share(best) < _ALIKE:
        return False
    return not (best.unexpected or best.mismatched) and len(best.missing) <= _CUT


def _lacks_modules(guess: Guess) -> bool:
    """Whether what a file lacks is whole modules, as another argument may have left them out."""
    modules = {key.rpartition(".")[0] for key in guess.matches[0].missing}
    return "" not in modules and not any(
        key.startswith(f"{module}.") for module in modules for key in guess.canonical.index
    )


def _share(found: Match) -> float:
    return found.matched / max(found.expected, found.matched + len(found.unexpected), 1)


def _variants(
    below: Canonical, database: Database, choose: str, end: float, near: Sequence[Match]
) -> list[Match]:
    """What the likest classes come to, those that fit first. `near` are the guess's own, and what
    they have moved already is kept."""
    target: Shapes = {key: (spec.shape, kind(spec)) for key, spec in below.index.items()}
    families = families_of(database)
    classes = list(_starts(target, database, choose, near))
    first: dict[str, Any] = {m.entry.id: dict(m.variant.moved) for m in near if m.variant}
    tried: list[StartingNetwork] = []
    for alike, starts in progress(
        classes, len(classes), f"search, at most {max(end - time.monotonic(), 0):.0f} s"
    ):
        fits = any(one.fits for one in tried)
        # Beside one that fits, or nearly does, only a class with the same keys is worth a look.
        if alike < _TWIN and any(_share(one.compared(below)) > _NEARLY for one in tried):
            break
        until = min(end, time.monotonic() + _AGAIN) if fits else end
        for signature, member in starts:
            if time.monotonic() > until:
                break
            one = attempt(target, below.index, signature, member, families, alike)
            if one is not None:
                one.run(until, first.get(member.entry.id, {}))
                tried.append(one)
                if one.fits:
                    break
    for one in sorted(tried, key=lambda one: one.descent.cost):
        fitting = {other.member.entry.cls for other in tried if other.fits}
        if one.member.entry.cls not in fitting and (not fitting or one.alike >= _TWIN):
            one.run(min(end, time.monotonic() + _AGAIN) if fitting else end, {}, deep=True)
    found = [one.match(below, end) for one in tried if one.fits or one.descent.cost]
    found.sort(key=lambda match: (not match.fits, -_share(match)))
    return found


def _starts(
    target: Shapes, database: Database, choose: str, near: Sequence[Match]
) -> Iterator[tuple[float, list[tuple[Signature, SignatureMember]]]]:
    """Registered networks to start from, by class: the guess's nearest, then those whose keys,
    numbers aside, are most alike, and of them the ones whose shapes are; each class with how alike
    its keys are."""
    wanted = {key_template(key) for key, (_, dtype) in target.items() if not is_derived(key, dtype)}
    numbers = database.named(choose) if choose else most_named(target, database, _NAMED)
    alike: dict[int, float] = {}
    best = [m.entry for m in near[:1] if not choose and _share(m) > _ALIKE]
    best = [entry for entry in best if not entry.is_users]
    nearest = [number for entry in best for number in database.named(entry.id)]
    for number in dict.fromkeys([*numbers, *nearest]):
        own = _templates_of(database, number)
        alike[number] = 2 * len(own & wanted) / max(1, len(own) + len(wanted))
    ranked = sorted(alike, key=lambda number: -alike[number])[:_RANKED]
    ranked = [number for number in ranked if alike[number] >= _ALIKE or choose]
    ranked += [number for number in nearest if number not in ranked]
    apart = {n: misfit(_shapes(database.signature(n)), target) for n in ranked}
    classes: dict[str, list[tuple[Signature, SignatureMember]]] = {}
    shares: dict[str, float] = {}
    ids = {entry.id for entry in best}
    for number in sorted(ranked, key=apart.__getitem__):
        signature = database.signature(number)
        for member in signature.members:
            if member.entry.is_users:
                continue  # its code is only imported where its user says so
            if choose and choose not in (member.entry.id, member.entry.name):
                continue
            starts = classes.setdefault(member.entry.cls, [])
            shares[member.entry.cls] = max(shares.get(member.entry.cls, 0), alike[number])
            if len(starts) < _STARTS and all(signature is not one for one, _ in starts):
                starts.append((signature, member))
    for number in set(nearest):
        signature = database.signature(number)
        member = next(m for m in signature.members if m.entry.id in ids)
        own = [one for one in classes[member.entry.cls] if one[1].entry.id not in ids]
        classes[member.entry.cls] = [(signature, member), *own][:_STARTS]
    chosen = {entry.cls for entry in best}
    order = sorted(
        classes, key=lambda cls: (cls not in chosen, apart[classes[cls][0][0].number], cls)
    )
    for cls in order[:_CLASSES]:
        yield shares[cls], classes[cls]


def _templates_of(database: Database, number: int) -> set[str]:
    place = database.path, number
    if place not in _templates:
        signature = database.signature(number)
        found = {key_template(key) for key in signature.fixed}
        found |= {
            key_template(k) for k, line in signature.free.items() if not is_derived(k, line.dtype)
        }
        _templates[place] = found
    return _templates[place]


def _shapes(signature: Signature) -> Shapes:
    """A signature's tensors with its fields at their defaults."""
    fields = signature.members[0].entry.fields
    found: Shapes = {key: (shape, "float") for key, shape in signature.fixed.items()}
    for key, line in signature.free.items():
        if line.condition and not (
            not fields.get(line.condition[4:])
            if line.condition.startswith("not ")
            else fields.get(line.condition)
        ):
            continue
        sizes = (n.value(fields) if isinstance(n, Size) else n for n in line.shape)
        found[key] = tuple(sizes), line.dtype
    return found
