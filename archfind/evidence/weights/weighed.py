"""Guess -> Guess: what shapes leave open, decided by the values of the weights where they are
clear.

Values are read only where they decide: which twin was trained, or into how many heads attention is
cut. Numpy is imported for heads alone.
"""

from __future__ import annotations

from archfind.errors import BuildError
from archfind.frozen import replace
from archfind.matching.assumed import match_with_setting
from archfind.types import Guess, Match, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "nhead", "attention_heads")
_BY_SHAPES = ("", "only", "prior")  # of answers that nothing but shapes chose
_FITS = ("exact", "ambiguous")
_SYMMETRIC, _SAME = "symmetric", "same"
_TF, _TORCH, _UNSTRIDED = "Conv2dSame", "Conv2d padding", "stride=(1, 1)"


def weighed(guess: Guess, named: Callable[[str], Guess]) -> Guess:
    """The guess with what values decide. `named` guesses anew with the entry that it is given."""
    if guess.status not in _FITS or not guess.matches:
        return guess
    if guess.chosen_by in _BY_SHAPES:
        guess = _padded(guess, named)
    return _with_heads(guess)


def _padded(guess: Guess, named: Callable[[str], Guess]) -> Guess:
    """The twin whose padding the weights were trained with."""
    first = guess.matches[0]
    of_twins = {
        f"{twin.provider}/{twin.architecture}": twin.differs
        for twin in first.twins
        if not twin.same_function
    }
    base = _padding_of_first(list(of_twins.values()))
    if not base or len(guess.matches) > 1:
        return guess
    from archfind.evidence.weights.padding import padding

    verdict = padding(guess.canonical.index)
    if verdict is None:
        return guess
    paddings = {first.entry.id: base}
    for entry, differs in of_twins.items():
        # Kernels without a stride stay in the middle, whatever the padding.
        if _is_strided(differs):
            paddings[entry] = _other(base) if _TF in differs else base
    fitting = [entry for entry, value in paddings.items() if value == verdict.value]
    if len(fitting) != 1:
        return replace(guess, weighed=(*guess.weighed, verdict))
    chosen = named(fitting[0])
    if chosen.status not in _FITS or not chosen.matches:
        return guess
    return replace(chosen, chosen_by="value", weighed=(*guess.weighed, verdict))


def _padding_of_first(differences: list[str]) -> str:
    """The padding of the entry that twins are compared with; "" where none pads otherwise."""
    for differs in differences:
        twin, _, first = differs.partition(", not ")
        if _TF in twin and first.startswith(_TORCH):
            return _SYMMETRIC
        if _TORCH in twin and first.startswith(_TF):
            return _SAME
    return ""


def _is_strided(differs: str) -> bool:
    return f"conv_dw: {_UNSTRIDED}" not in differs


def _other(value: str) -> str:
    return _SAME if value == _SYMMETRIC else _SYMMETRIC


def _with_heads(guess: Guess) -> Guess:
    """The guess with the number of heads that the weights show, where one number is assumed."""
    places = [item.place for item in guess.matches[0].assumed if _is_heads(item.place)]
    if len(places) != 1:
        return guess
    from archfind.evidence.weights.projections import projections
    from archfind.evidence.weights.small_values import is_blank

    index = guess.canonical.index
    first = next(projections(index), None)
    if first is None or is_blank(index[first[1][0]]):
        return guess
    from archfind.evidence.weights.attentions import attentions
    from archfind.evidence.weights.heads import head_size

    at, layers = attentions(index)
    said = head_size(layers, at) if layers else None
    if said is None:
        return guess
    size = said.value
    assert isinstance(size, int)
    rows, shared = layers[0].query.shape[0], layers[0].key.shape[0]
    verdict = replace(said, value=rows // size)
    told = [_told(match, places[0], rows // size, shared // size, size) for match in guess.matches]
    if any(match is None for match in told):
        return guess
    matches = tuple(match for match in told if match is not None)
    status, by = guess.status, guess.chosen_by
    if guess.is_assumed and not matches[0].assumed:
        status, by = "exact", "value"
    return replace(
        guess, matches=matches, status=status, chosen_by=by, weighed=(*guess.weighed, verdict)
    )


def _is_heads(place: str) -> bool:
    return place.rpartition(".")[2] in _HEADS


def _told(match: Match, place: str, heads: int, shared: int, size: int) -> Match | None:
    """The match with its heads told; None where it can't have so many."""
    try:
        told = match_with_setting(match, place, heads)
        root = place[: len(place) - len(place.rpartition(".")[2])]
        for other, value in ((f"{root}num_key_value_heads", shared), (f"{root}head_dim", size)):
            if told is not None and any(item.place == other for item in told.assumed):
                told = match_with_setting(told, other, value)
    except BuildError:
        return None
    return None if told is None else replace(told, config=_by_value(match, told))


def _by_value(before: Match, told: Match) -> dict[str, Setting]:
    """The settings, those that the weights told with their source."""
    return {
        name: setting
        if setting.source != "user" or before.config.get(name) == setting
        else Setting(setting.value, "value")
        for name, setting in told.config.items()
    }
