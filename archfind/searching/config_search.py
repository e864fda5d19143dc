"""A class of transformers that its rules don't explain: built with other config fields until the
file's tensors come out. The rules are what was learned of a class, and some have no words for all
that its code does."""

from __future__ import annotations

import time
from collections.abc import Iterator

from archfind.classes.notation import numbered_template
from archfind.database.model_types import ModelTypes
from archfind.evidence.claims import Claims, claims_of
from archfind.frozen import replace
from archfind.matching.classes_by_key_names import likest
from archfind.matching.model_types import class_answer, class_with_assumed
from archfind.matching.rank import rank
from archfind.matching.readings import dialect_readings
from archfind.matching.solved_class import Solved
from archfind.matching.tried_classes import tried
from archfind.probing.config import Config
from archfind.progress import progress
from archfind.searching.config_attempt import ConfiguredAttempt
from archfind.types import Canonical, Guess, Match
from archfind.work import Work

SECONDS = 60.0  # for one class whose fields the library refuses
_CLASSES = 5
_AGAIN = 5.0  # seconds for another class, once one fits
_BESIDE = 0.95  # of its share of tensors must be another's to be looked at then
_SHARE = 0.5  # of the time goes to a first look at all classes


def search_configured(
    canonical: Canonical, types: ModelTypes, choose: str, seconds: float, close: Match | None = None
) -> Guess | None:
    """The answer where a class comes to have every tensor of the file; None where none does. Beside
    the class that the file's key names are `close` to only those that are as like are tried, and
    such that have what the class never has; where none of them does, those that nearly are."""
    end = time.monotonic() + seconds
    near = list(_near(canonical, types, choose))
    groups = [near]
    alike = _as_like(near, close) if close is not None else []
    if alike:
        others = [one for one in near if one not in alike]
        groups = [alike, [one for one in others if one.score >= _BESIDE * alike[0].score]]
    for some in groups:
        left = end - time.monotonic()
        answer = _searched(some, claims_of(canonical.checkpoint), types, choose, left)
        if answer is not None:
            return answer
    return None


def _searched(
    near: list[Solved], claims: Claims, types: ModelTypes, choose: str, seconds: float
) -> Guess | None:
    """The answer where one of these classes, or several, come to have every tensor."""
    end = time.monotonic() + seconds
    scores = [one.score for one in near]
    few = near[:_CLASSES]
    found: list[Solved] = []
    fields: dict[str, Config] = {}
    attempts: dict[int, ConfiguredAttempt] = {}

    def run(number: int, until: float, deep: bool) -> None:
        """A class a step further; what it comes to is found."""
        attempt = attempts[number]
        attempt.run(min(end, time.monotonic() + _AGAIN, until) if found else until, deep)
        if attempt.fits:
            found.append(attempt.solved(end))
            fields.setdefault(few[number].block.type.name, attempt.config)
            del attempts[number]

    looked = 0
    for number in progress(
        range(len(few)), len(few), f"search transformers, at most {seconds:.0f} s"
    ):
        now = time.monotonic()
        if now > end:
            break
        looked += 1
        if found and scores[number] < _BESIDE * min(scores[near.index(one)] for one in found):
            continue
        try:
            attempts[number] = ConfiguredAttempt(
                few[number], fields.get(few[number].block.type.name)
            )
        except Exception:  # a class that isn't installed, or whose defaults the library refuses
            continue
        left = len(few) - number
        run(number, now + max(0.0, end - seconds * (1 - _SHARE) - now) / left, False)
    for number in sorted(attempts, key=lambda number: attempts[number].cost):
        if time.monotonic() < end and not found:
            run(number, end, True)
    if not found:
        return None
    least = min(scores[near.index(one)] for one in found)
    found.sort(key=lambda one: rank(one, claims))
    answer = class_answer(found, [], claims, choose, types.texts)
    if answer.chosen_by == "only" and any(score >= least for score in scores[looked:]):
        # Classes that were as near weren't looked at.
        answer = replace(answer, status="ambiguous", chosen_by="")
    return answer


def _as_like(near: list[Solved], close: Match) -> list[Solved]:
    """The class that key names are close to and its twins, then those that have what they never
    have."""
    names = {close.entry.name, *(twin.architecture for twin in close.twins)}
    alike = [one for one in near if one.block.cls in names]
    known = {part for one in alike for part in one.block.templates}
    strange = {*map(numbered_template, close.unexpected)} - known
    others = [one for one in near if strange & one.block.templates]
    return [*alike, *(one for one in others if one not in alike)]


def mended(guess: Guess, types: ModelTypes, seconds: float) -> Guess | None:
    """The guess with fields for which the library builds the file's tensors: what no tensor shows
    may still be refused, and rules may be wrong. None where there are none."""
    best = guess.matches[0]
    for near in _near(guess.canonical, types, best.entry.id):
        if best.pretrained is None or near.block.type.name != best.pretrained.model_type:
            continue
        try:
            attempt = ConfiguredAttempt(near, None)
        except Exception:  # a class that isn't installed, or whose defaults the library refuses
            return None
        end = time.monotonic() + seconds
        attempt.run(end, True)
        if attempt.fits:
            claims = claims_of(guess.canonical.checkpoint)
            match = replace(class_with_assumed(attempt.solved(end), claims), twins=best.twins)
            if _is_overruled(best, match):
                return None
            return replace(guess, matches=(match, *guess.matches[1:]))
    return None


def _is_overruled(best: Match, other: Match) -> bool:
    """Whether a field that the file claims, and no tensor shows, has another value now: what the
    library refuses of a claim is to be said, not replaced."""
    return any(
        name not in other.config
        or (other.config[name].source != "shape" and other.config[name].value != setting.value)
        for name, setting in best.config.items()
        if setting.source == "file"
    )


def _near(canonical: Canonical, types: ModelTypes, choose: str) -> Iterator[Solved]:
    """The classes whose rules explain most, one of each; of those that `choose` names, if it's
    given."""
    claims = claims_of(canonical.checkpoint)
    work = Work(len(canonical.index))
    every: list[Solved] = []
    for reading in dialect_readings(canonical):
        every += tried(reading, types, claims, work)[0]
        every += [one.solved for one in likest(reading, types, claims, work) if one.solved]
    seen: set[str] = set()
    for one in sorted(every, key=lambda one: -one.score):
        name = f"{one.block.type.name}/{one.block.cls} {one.block.dialect}"
        if any(key not in one.index for key in one.match.unexpected):
            continue  # what stands outside of it is no part of it
        if choose and choose not in (one.block.cls, one.match.entry.id, one.block.type.name):
            continue
        if name not in seen:
            seen.add(name)
            yield one
