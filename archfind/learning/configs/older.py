"""What the library's loading rules take away from the names of older files, or put into them, and
`save_pretrained` doesn't undo: `vision_tower.vision_model.` is today's `vision_tower.`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from archfind.classes.older_keys import Places, renamed_key
from archfind.providers import transformers as library

_MOST = 4  # places of a class


def older_key_places(module: Any) -> Places:
    """Where older files of a module have more or fewer modules in their keys than those that the
    library saves; none where that can't be said so."""
    try:
        state = module.state_dict()
        older = _older(module, state)
        today = {id(t): key for key, t in library.published(module, state).items()}
    except Exception:  # rules that can't be reversed
        return ()
    # What is made of several tensors is named as the others are.
    own = {id(tensor) for tensor in state.values()}
    names = {old: today[at] for at, old in older.items() if at in today and at in own}
    found: list[tuple[str, str, str]] = []
    while len(found) < _MOST:
        left = {old: key for old, key in names.items() if old != key}
        if not left:
            return tuple(found)
        some = {_place(key, old): None for old, key in left.items()}
        found.append(_widest(min(some, key=_length), names))
        before, own, other = found[-1]
        if own and not before and not other:
            return ()  # the file of a network that another library has
        names = {renamed_key(old, (found[-1],)): key for old, key in names.items()}
    return ()


def _older(module: Any, state: Mapping[str, Any]) -> dict[int, str]:
    """The module's tensors, by identity, under the names that the rules take, all reversed."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import revert_weight_conversion

    module._weight_conversions = copy.deepcopy(
        get_model_conversion_mapping(module, add_legacy=False)
    )
    try:
        found = revert_weight_conversion(module, dict(state))
    finally:
        del module._weight_conversions
    return {id(tensor): key for key, tensor in found.items()}


def _place(key: str, old: str) -> tuple[str, str, str]:
    """Where two names part: what both have before it, then what the one has and the other."""
    own, other = key.split("."), old.split(".")
    same = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(own, other, strict=False))]
    before = "".join(f"{part}." for part in same)
    own, other = own[len(same) :], other[len(same) :]
    while own and other and own[-1] == other[-1]:
        own.pop()
        other.pop()
    return before, "".join(f"{part}." for part in own), "".join(f"{part}." for part in other)


def _length(place: tuple[str, str, str]) -> tuple[int, int, str]:
    before, own, other = place
    return len(own) + len(other), len(before), before


def _widest(place: tuple[str, str, str], names: Mapping[str, str]) -> tuple[str, str, str]:
    """The place as near to the root as all names allow."""
    before, own, other = place
    while before and other:
        above = before[:-1].rpartition(".")[0]
        above = f"{above}." if above else ""
        moved = [(old, key) for old, key in names.items() if key.startswith(above + own)]
        if any(f"{above}{other}{key[len(above + own) :]}" != old for old, key in moved):
            break
        before = above
    return before, own, other
