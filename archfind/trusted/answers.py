"""Guess -> Guess: the class of a user's trusted code that makes the file's tensors."""

from __future__ import annotations

from archfind.errors import UnknownError
from archfind.frozen import replace
from archfind.matching.assumed import judged
from archfind.matching.compare import compared
from archfind.matching.nearest import is_close
from archfind.progress import step
from archfind.state_dicts.canonical import is_derived, kind, strip
from archfind.trusted.asked import asked
from archfind.types import Assumed, Entry, Guess, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.trusted.asked import Answer, Answers
    from archfind.types import Canonical, CodeClass, Match

PROVIDER = "code"
_CLASSES = 4  # that are probed, the likeliest; and those that static sizes say as much for
_MOST = 8
_SURE = ("exact", "ambiguous")


def trusted_answer(guess: Guess, canonical: Canonical, place: str, choose: str = "") -> Guess:
    """The guess with the classes of `guess.code` probed that account for all of a state dict's
    modules: one that makes every tensor is the answer, of several none is chosen. What kept a class
    from that is a warning. `choose` is one of those that fit ("code/nets.Net"). UnknownError where
    none of that name does."""
    code, below = _likeliest(guess.code, canonical)
    if not code:
        parts = ", ".join(f"{one.name} is its module {one.prefix}" for one in guess.code[:2])
        note = parts or f"no class below {place} accounts for a quarter of its tensors"
        return replace(guess, warnings=(*guess.warnings, f"nothing to probe: {note}"))
    tensors = {key: (spec.shape, kind(spec)) for key, spec in below.index.items()}
    with step("probing code"):
        answers = asked(code, place, tensors)
    notes = (*guess.warnings, *dict.fromkeys(answers.events))
    matches = [_match(one, below) for one in answers.answers]
    fits = [one for one in matches if one.fits]
    if choose.startswith(f"{PROVIDER}/"):
        fits = [one for one in fits if one.entry.id == choose]
        if not fits:
            text = f"{choose} doesn't have its tensors; {_others(matches, answers)}"
            raise UnknownError(text, canonical.checkpoint.path, ())
    if not fits:
        return _near(guess, below, matches, (*notes, *answers.refused))
    if guess.status in _SURE and guess.matches:
        names = f"{guess.matches[0].entry.id}, {guess.status}"
        notes += (f"without the code the answer would be {names}",)
    status, chosen = ("exact", "user") if len(fits) == 1 else ("ambiguous", "")
    found = Guess(below, status, tuple(fits), chosen, guess.part, warnings=notes, code=guess.code)
    return judged(found)


def with_chosen_class(guess: Guess, choose: str) -> Guess:
    """The guess with one of several classes of code that fit."""
    matches = tuple(m for m in guess.matches if m.trusted is not None and m.entry.id == choose)
    if not matches or len(guess.matches) == 1:
        return guess
    return judged(replace(guess, status="exact", matches=matches, chosen_by="user"))


def _likeliest(
    code: tuple[CodeClass, ...], canonical: Canonical
) -> tuple[list[CodeClass], Canonical]:
    """The classes to probe, and the state dict under their names."""
    index = canonical.index
    whole = [one for one in code if all(key.startswith(one.prefix) for key in index)]
    if not whole:
        return [], canonical
    prefix = whole[0].prefix
    some = [one for one in whole if one.prefix == prefix]
    few = [one for n, one in enumerate(some) if n < _CLASSES or one.share >= some[0].share]
    return few[:_MOST], strip(canonical, prefix)


def _match(one: Answer, canonical: Canonical) -> Match:
    """The tensors of a probed class held against the file's."""
    trusted = one.trusted
    config = {
        name: Setting(value, "shape" if name in one.shown else "assumed")
        for name, value in one.arguments.items()
    }
    config |= {
        name: Setting(value, "shape")
        for name, value in one.defaults.items()
        if name in one.shown and name not in config
    }
    assumed = tuple(
        Assumed(name, f"argument {name}", value, others) for name, value, others in one.assumed
    )
    found = compared(canonical.index, one.shapes, lambda key, spec: is_derived(key, kind(spec)))
    entry = Entry(PROVIDER, trusted.dotted, trusted.dotted, trusted.dotted, {}, one.defaults, "")
    return replace(
        found,
        entry=entry,
        config=config,
        assumed=assumed,
        trusted=trusted,
        reasons=(f"{one.tries} networks of the class were built",),
    )


def _near(
    guess: Guess, canonical: Canonical, matches: list[Match], notes: tuple[str, ...]
) -> Guess:
    """The guess where no class makes all tensors: close to the one that makes most, where nothing
    else is closer."""
    best = max(matches, key=lambda one: one.matched, default=None)
    more = replace(guess, warnings=notes)
    if best is None or guess.status in _SURE or not is_close(best, canonical.index):
        missed = [
            f"{one.entry.name} has {one.matched} of {one.expected} tensors at best"
            for one in matches
        ]
        return replace(more, warnings=(*notes, *missed))
    if guess.status == "close" and guess.matches[0].matched >= best.matched:
        return more
    return Guess(
        canonical, "close", (best,), "", guess.part, warnings=notes, code=guess.code, searched=True
    )


def _others(matches: list[Match], answers: Answers) -> str:
    fits = [one.entry.id for one in matches if one.fits]
    if fits:
        return f"of the code these do: {', '.join(fits)}"
    return "; ".join(answers.refused[:2]) or "no class of the code does"
