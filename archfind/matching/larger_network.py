"""Known networks inside of a larger one: in a submodule under other names, or beside modules that
aren't theirs. On the cold path of `archfind guess`, where no network is all of a state dict."""

from __future__ import annotations

from archfind.escape import escape
from archfind.frozen import replace
from archfind.matching.compare import match
from archfind.matching.decided import by_code, decided
from archfind.matching.nearest import Fit
from archfind.matching.parts import FEWEST, children, common_prefix
from archfind.matching.renamed_guess import guess_of_renamed
from archfind.state_dicts.canonical import strip
from archfind.types import Guess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from archfind.database.entries import Database
    from archfind.types import Canonical
    from archfind.work import Work

_SURE = ("exact", "ambiguous")
_TENSORS, _SHAPES = 20, 6  # of a network that is known by its shapes
_TRIED = 3  # of the nearest networks
_DEPTH = 3  # levels of modules


def beside_others(canonical: Canonical, fits: list[Fit], choose: str) -> dict[str, Guess]:
    """The network all of whose tensors are there, beside modules that it doesn't have: by the
    prefix below which it stands, or, where that is none, by the network's own name."""
    for fit in fits[:_TRIED]:
        found = fit.match
        if found.missing or found.mismatched or found.matched < _TENSORS:
            continue
        below = strip(canonical, fit.prefix)
        known = fit.signature.fixed.keys() | fit.signature.free.keys()
        own = [key for key in below.index if key in known and key not in found.unexpected]
        modules = {key.partition(".")[0] for key in own}
        if any(key.partition(".")[0] in modules for key in found.unexpected):
            continue
        part = _only(below, own)
        again = Fit("", fit.signature, match(part.index, fit.signature), len(own), len(own))
        if again.match.fits:
            name = fit.prefix.rstrip(".") or again.match.entry.name
            return {name: by_code(decided(part, [again], choose))}
    return {}


def _only(canonical: Canonical, keys: Collection[str]) -> Canonical:
    """The state dict with some of its keys."""
    kept = set(keys)
    return replace(
        canonical,
        index={key: spec for key, spec in canonical.index.items() if key in kept},
        origin={key: at for key, at in canonical.origin.items() if key in kept},
        merged={key: how for key, how in canonical.merged.items() if key in kept},
    )


def under_other_names(
    whole: Canonical,
    known: Collection[str],
    database: Database,
    choose: str,
    work: Work,
    depth: int = _DEPTH,
) -> dict[str, Guess]:
    """Submodules, of modules that aren't `known`, that are a library's network under other names,
    by prefix."""
    found: dict[str, Guess] = {}
    for prefix, keys in children(whole.index).items():
        if len(keys) < _TENSORS or any(overlap(prefix, place) for place in known):
            continue
        part = strip(whole, prefix, keys)
        shapes = {spec.shape for spec in part.index.values()}
        if len(shapes) < _SHAPES or not work.allows_part(len(keys)):
            continue
        other = guess_of_renamed(part, [], database, choose)
        if other is not None and (other.status in _SURE or not other.matches[0].unexpected):
            found[prefix] = other
        elif depth > 1 and not _is_row(part):
            inner = under_other_names(part, (), database, choose, work, depth - 1)
            found.update({prefix + name: one for name, one in inner.items()})
    return found


def _is_row(canonical: Canonical) -> bool:
    """Whether the modules are numbered: blocks, which are no networks."""
    return all(key.partition(".")[0].isdecimal() for key in canonical.index)


def rest_of(whole: Canonical, guesses: Mapping[str, Guess]) -> Canonical:
    """What of a state dict is in none of its known networks."""
    used = _used(guesses)
    return _only(whole, [key for key, at in whole.origin.items() if at not in used])


def _used(guesses: Mapping[str, Guess]) -> set[str]:
    """The file's keys that known networks have."""
    used: set[str] = set()
    for one in guesses.values():
        used.update(one.canonical.origin.values(), one.canonical.aside)
        used.update(part for _, *names in one.canonical.merged.values() for part in names)
    return used


def with_rest(guesses: Mapping[str, Guess], whole: Canonical) -> dict[str, Guess]:
    """Known networks of one state dict, with its other submodules as parts that are unknown. What
    stands alone (a queue of keys beside MoCo's encoders) is no network: it's said beside them."""
    parts = dict(guesses)
    places = [f"{place.rstrip('.')}." for place in guesses]
    used = _used(guesses)
    start = len(common_prefix(whole.index))
    rest: dict[str, list[str]] = {}
    for key in whole.index:
        if whole.origin[key] not in used:
            inside = max((len(place) for place in places if key.startswith(place)), default=start)
            rest.setdefault(key[: key.find(".", inside) + 1], []).append(key)
    loose: list[str] = []
    for prefix, keys in rest.items():
        if prefix and len(keys) >= FEWEST:
            parts[prefix] = Guess(strip(whole, prefix), "unknown", ())
        else:
            loose += keys
    if not loose:
        return parts
    shown = ", ".join(map(escape, loose[:4])) + (" ..." if len(loose) > 4 else "")
    note = f"belongs to none of its networks: {shown} ({len(loose)} tensors)"
    return {
        place: replace(one, warnings=(*one.warnings, note)) if one.status in _SURE else one
        for place, one in parts.items()
    }


def overlap(one: str, other: str) -> bool:
    """Whether one prefix stands within the other."""
    return one.startswith(other) or other.startswith(one)
