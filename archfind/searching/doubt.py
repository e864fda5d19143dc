"""Guess -> Guess, where rules gave the answer that may not hold for it: the network they name is
built, and its tensors are held against the file's."""

from __future__ import annotations

from archfind.building.instantiate import matched_on_meta
from archfind.database.entries import Database
from archfind.errors import ArchfindError
from archfind.frozen import replace
from archfind.matching.compare import compared
from archfind.matching.variants import answer
from archfind.probing.probe import shapes_of
from archfind.state_dicts.canonical import is_derived, kind
from archfind.types import Guess


def is_doubtful(guess: Guess) -> bool:
    """Whether the answer is one network with other arguments, by rules that were never seen to hold
    for such ones."""
    variant = guess.matches[0].variant if len(guess.matches) == 1 else None
    return guess.status == "ambiguous" and variant is not None and variant.doubtful


def settled_by_building(guess: Guess, database: Database, choose: str = "") -> Guess:
    """A doubtful answer without the doubt: as it is where the library builds the file's tensors,
    `close` where it builds others, or nothing."""
    match = guess.matches[0]
    assert match.variant is not None
    canonical = guess.canonical
    try:
        shapes = shapes_of(matched_on_meta(match))
    except ArchfindError:
        return replace(guess, status="close", chosen_by="")
    except ImportError:  # the library isn't installed: the doubt stays
        return guess
    found = compared(canonical.index, shapes, lambda key, spec: is_derived(key, kind(spec)))
    if not found.fits:
        return replace(guess, status="close", chosen_by="")
    sure = replace(match, variant=replace(match.variant, doubtful=False), reasons=())
    return answer(canonical, [sure], database, choose) or guess
