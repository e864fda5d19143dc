"""Guess -> Guess, where nothing fits: the classes with the likest keys built with other arguments
until the file's tensors come out. Slower than `guess`, as it needs the libraries themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from archfind.canonical import kind, networks, strip
from archfind.database import Database, Member, Signature
from archfind.errors import ArchfindError
from archfind.families.database import Families, beside
from archfind.frozen import replace
from archfind.harvest import create_on_meta
from archfind.match import mismatch
from archfind.nearest import CLOSE
from archfind.parts import common_prefix
from archfind.probing.config import Config, Leaf, captured, leaves, moved
from archfind.probing.descent import Descent
from archfind.probing.misfit import is_derived, misfit, template
from archfind.probing.probe import Moves, Shapes, shapes_of
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.example import fitted
from archfind.shortlist import most_named
from archfind.signature import Size
from archfind.types import Canonical, Guess, Match, Setting, Variant
from archfind.variants import answer, gathered

SECONDS = 90.0  # for all classes together
_AGAIN = 15.0  # for another class, once one fits
_ALIKE = 0.5  # of the templates of keys on both sides must be the same for a class to be tried
_TWIN = 0.9  # ... once one fits
_NEARLY = 0.95  # share of tensors
_CUT = 3  # tensors that were lost, rather than never made
_NAMED = 240  # signatures compared by the templates of their keys ...
_RANKED = 80  # ... and by shape
_CLASSES = 4
_STARTS = 2  # networks of a class

_templates: dict[tuple[str, int], set[str]] = {}


def search(guess: Guess, database: Database, choose: str = "", seconds: float = SECONDS) -> Guess:
    """A better answer for a guess that isn't sure, or the guess. `choose` names an entry, which is
    then the only start."""
    sure = guess.status not in ("close", "unknown")
    if sure or guess.searched or _is_cut(guess):
        return guess
    if guess.chosen_by == "user" and guess.matches:
        choose = choose or guess.matches[0].entry.id
    end = time.monotonic() + seconds
    best = guess
    # What fits nothing may be named after a piece of it: the search is for the whole.
    every = [] if guess.part else list(networks(guess.canonical.checkpoint).values())
    whole = every[0] if len(every) == 1 else guess.canonical
    shared = common_prefix(whole.index)
    for prefix in dict.fromkeys(("", shared)):
        below = strip(whole, prefix) if prefix else whole
        found = _variants(below, database, choose, end, guess.matches)
        better = answer(below, [m for m in found if m.fits], database, choose)
        if better is not None:
            return better
        for match in found[:1]:
            if _share(match) > max(CLOSE, _share(best.matches[0]) if best.matches else 0.0):
                best = Guess(below, "close", (match,), "user" if choose else "")
    return replace(best, searched=True)


def _is_cut(guess: Guess) -> bool:
    """Whether the file only lacks tensors of a registered network: it was cut, not made so."""
    best = guess.matches[0] if guess.matches else None
    if best is None or best.variant is not None or _share(best) < _ALIKE:
        return False
    return not (best.unexpected or best.mismatched) and len(best.missing) <= _CUT


def _share(found: Match) -> float:
    return found.matched / max(found.expected, found.matched + len(found.unexpected), 1)


def _variants(
    below: Canonical, database: Database, choose: str, end: float, near: Sequence[Match]
) -> list[Match]:
    """What the likest classes come to, those that fit first. `near` are the guess's own, and what
    they have moved already is kept."""
    target: Shapes = {key: (spec.shape, kind(spec)) for key, spec in below.index.items()}
    families = beside(database.path)
    found: list[Match] = []
    classes = list(_starts(target, database, choose, near))
    first: dict[str, Any] = {m.entry.id: dict(m.variant.moved) for m in near if m.variant}
    for alike, starts in progress(classes, len(classes), "search"):
        fits = any(match.fits for match in found)
        # Beside one that fits, or nearly does, only a class with the same keys is worth a look.
        if alike < _TWIN and any(_share(match) > _NEARLY for match in found):
            break
        until = min(end, time.monotonic() + _AGAIN) if fits else end
        for signature, member in starts:
            if time.monotonic() > until:
                break
            moves = first.get(member.entry.id, {})
            match = _variant(below, target, signature, member, families, moves, until)
            if match is not None:
                found.append(match)
                if match.fits:
                    break
    found.sort(key=lambda match: (not match.fits, -_share(match)))
    return found


def _starts(
    target: Shapes, database: Database, choose: str, near: Sequence[Match]
) -> Iterator[tuple[float, list[tuple[Signature, Member]]]]:
    """Registered networks to start from, by class: the guess's nearest, then those whose keys,
    numbers aside, are most alike, and of them the ones whose shapes are; each class with how alike
    its keys are."""
    wanted = {template(key) for key, (_, dtype) in target.items() if not is_derived(key, dtype)}
    numbers = database.named(choose) if choose else most_named(target, database, _NAMED)
    alike: dict[int, float] = {}
    for number in numbers:
        own = _templates_of(database, number)
        alike[number] = 2 * len(own & wanted) / max(1, len(own) + len(wanted))
    ranked = sorted(alike, key=lambda number: -alike[number])[:_RANKED]
    ranked = [number for number in ranked if alike[number] >= _ALIKE or choose]
    best = [m.entry for m in near[:1] if not choose and _share(m) > _ALIKE]
    ranked += [n for entry in best for n in database.named(entry.id) if n not in ranked]
    apart = {n: misfit(_shapes(database.signature(n)), target) for n in ranked}
    classes: dict[str, list[tuple[Signature, Member]]] = {}
    shares: dict[str, float] = {}
    ids = {entry.id for entry in best}
    for number in sorted(ranked, key=apart.__getitem__):
        signature = database.signature(number)
        for member in signature.members:
            if choose and choose not in (member.entry.id, member.entry.name):
                continue
            starts = classes.setdefault(member.entry.cls, [])
            shares[member.entry.cls] = max(shares.get(member.entry.cls, 0), alike[number])
            if len(starts) < _STARTS and all(signature is not one for one, _ in starts):
                starts.append((signature, member))
    for number in {n for entry in best for n in database.named(entry.id)}:
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
        found = {template(key) for key in signature.fixed}
        found |= {
            template(k) for k, line in signature.free.items() if not is_derived(k, line.dtype)
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


def _variant(
    below: Canonical,
    target: Shapes,
    signature: Signature,
    member: Member,
    families: Families | None,
    moves: Moves,
    end: float,
) -> Match | None:
    """What one network comes to when its arguments are moved towards the file."""
    entry = member.entry
    try:
        source = provider(entry.provider)
        _, cls, config = captured(lambda: create_on_meta(source, entry.name))
    except (ArchfindError, ImportError):  # the library isn't installed
        return None
    if any(isinstance(value, nn.Module | torch.Tensor) for value in config.values()):
        return None  # of a network on meta: the class can't be called again with it
    known = _known(families, f"{cls.__module__}.{cls.__qualname__}")
    descent = Descent(cls, config, target, known, max(0.0, end - time.monotonic()))
    if not descent.run() and moves:
        again = Descent(cls, config, target, known, max(0.0, end - time.monotonic()))
        again.start_from(moves)
        again.run()
        descent = min(descent, again, key=lambda one: one.cost)
    values = leaves(moved(config, descent.moves))
    variant = Variant(
        f"{cls.__module__}.{cls.__qualname__}",
        descent.moves,
        _direct(source, entry.name, config, descent),
        (signature.number, member.function),
        member.plain,
    )
    found = _compared(below, descent.shapes)
    if found.fits and _lacks_a_part(source, entry.name, cls, moved(config, descent.moves)):
        return None
    reason = f"{descent.tries} networks of its class were built"
    return replace(
        found,
        entry=entry,
        config=_settings(values, descent),
        reasons=(reason,),
        variant=variant,
    )


def _lacks_a_part(source: Any, name: str, cls: type[nn.Module], config: Config) -> bool:
    """Whether a network asks for a module that it doesn't have when it's run: some constructors
    take fewer stages than their forward goes through."""
    try:
        with torch.device("meta"), torch.no_grad():
            module = cls(**config).eval()
            plain = {key: value for key, value in config.items() if not isinstance(value, type)}
            args = fitted(source.example(name, module), plain).args
            module(*(arg.to("meta") if isinstance(arg, torch.Tensor) else arg for arg in args))
    except AttributeError as error:
        return isinstance(error.obj, nn.Module)
    except Exception:  # what doesn't run on meta may run elsewhere
        return False
    return False


def _known(families: Families | None, cls: str) -> dict[str, list[Leaf]]:
    """The values that the class's registered networks, and those it was learned from, have."""
    found: dict[str, dict[str, Leaf]] = {}
    for number in range(len(families)) if families else ():
        assert families is not None
        family = families.known(number).family
        if family.cls != cls:
            continue
        for values in [family.leaves, *family.presets.values()]:
            for path, value in values.items():
                found.setdefault(path, {})[repr(value)] = value
        for path, options in family.options.items():
            for value in options:
                found.setdefault(path, {})[repr(value)] = value
    return {path: list(values.values()) for path, values in found.items()}


def _compared(below: Canonical, shapes: Shapes) -> Match:
    """A network's tensors held against the file's; entry and config are the caller's."""
    index = below.index
    missing: list[str] = []
    tolerated: list[str] = []
    matched, mismatched = 0, []
    for key, (shape, dtype) in shapes.items():
        spec = index.get(key)
        if spec is None:
            (tolerated if is_derived(key, dtype) else missing).append(key)
        elif spec.shape == shape and kind(spec) == dtype:
            matched += 1
        else:
            mismatched.append(mismatch(key, spec, shape, dtype))
    unexpected: list[str] = []
    for key, spec in index.items():
        if key not in shapes:
            (tolerated if is_derived(key, kind(spec)) else unexpected).append(key)
    return Match(
        entry=None,  # pyright: ignore[reportArgumentType]
        config={},
        expected=matched + len(mismatched) + len(missing),
        matched=matched,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        mismatched=tuple(mismatched),
        tolerated=tuple(tolerated),
    )


def _settings(values: Mapping[str, Leaf], descent: Descent) -> dict[str, Setting]:
    """Settings by argument: `default` where the argument was never seen to move a tensor."""
    seen = descent.visible()
    roots = dict.fromkeys(path.partition(".")[0] for path in values)
    shown = {path.partition(".")[0] for path in seen}
    found: dict[str, Setting] = {}
    for root in roots:
        own = {p: v for p, v in values.items() if p == root or p.startswith(f"{root}.")}
        numbers = any(type(v) in (int, float) for v in own.values())
        if root not in shown and not numbers:
            continue
        for name, value in gathered(root, own).items():
            paths = [p for p in own if p == name or p.startswith(f"{name}.")]
            source = "shape" if any(p in seen for p in paths) else "default"
            found[name] = Setting(value, source)
    return found


def _direct(source: Any, name: str, config: Config, descent: Descent) -> bool:
    """Whether the library's own builder takes what was moved, and makes the same of it."""
    roots = dict.fromkeys(path.partition(".")[0] for path in descent.moves)
    whole = moved(config, descent.moves)
    try:
        given = json.loads(json.dumps({root: whole[root] for root in roots}))
        return shapes_of(create_on_meta(source, name, **given)) == descent.shapes
    except Exception:  # the builder refuses, or a value has no plain form
        return False
