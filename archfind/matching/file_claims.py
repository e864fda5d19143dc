"""What a file's own words tell about an answer: they settle what no tensor shows, and where they
contradict the tensors, the tensors win and the answer isn't exact. On the cold path of
`archfind guess`."""

from __future__ import annotations

from archfind.errors import BuildError, CheckpointError
from archfind.escape import escape
from archfind.evidence.said import (
    ASSUMED,
    bare_model_name,
    config_beside,
    fields_said,
    names_said,
    words_said,
)
from archfind.frozen import replace
from archfind.matching.assumed import REST, match_with_setting
from archfind.types import Assumed, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.entries import Database
    from archfind.evidence.said import Words
    from archfind.types import Guess, Match

_SURE = ("exact", "ambiguous")
_ITEMS = 50  # assumptions that one export lists
_SHORT = 3  # letters, which stand in many names
_CLASSES = ("num_classes", "n_classes", "nb_classes", "num_labels")


def guess_with_claims(guess: Guess, database: Database) -> Guess:
    """The guess with what the file says of it, so with its parts."""
    own = words_said(guess.canonical.checkpoint)
    if own:
        guess = _told(guess, own, database)
    note = config_beside(guess.canonical.checkpoint)[1]
    if note and note not in guess.warnings:
        guess = replace(guess, warnings=(*guess.warnings, note))
    return guess


def _told(guess: Guess, own: Words, database: Database) -> Guess:
    parts = {name: _settled(one, own) for name, one in guess.parts.items()}
    guess = replace(_settled(guess, own), parts=parts)
    if guess.chosen_by == "user" or not guess.matches:
        return guess
    guess = _exported_so(guess, own)
    notes = [*_other_name(guess, own, database), *_other_classes(guess, own)]
    if not notes or guess.status not in _SURE:
        return guess
    first, *rest = guess.matches
    item = Assumed("said", f"{'; '.join(notes)}; the tensors are of", first.entry.id)
    first = replace(first, assumed=(item, *first.assumed))
    return replace(guess, matches=(first, *rest))


def _settled(guess: Guess, own: Words) -> Guess:
    """The guess with assumptions that the file settles, by fields of the same name."""
    if guess.status not in _SURE or not guess.matches or not guess.matches[0].assumed:
        return guess
    from archfind.formats.side_files import like  # late, as below: few files have words

    said = fields_said(own)
    match, notes = guess.matches[0], list[str]()
    for item in match.assumed:
        name = item.place.rpartition(".")[2]
        if item.place in REST or name.isdigit() or name not in said or match.pretrained is not None:
            continue
        value = like(said[name], item.value)
        found = _with(match, item, value) if _can_be(match, item, value) else None
        if found is None:
            notes.append(f"the file's {name}={escape(repr(said[name]), 60)} can't be: left aside")
            continue
        match = found
    return replace(guess, matches=(match, *guess.matches[1:]), warnings=(*guess.warnings, *notes))


def _can_be(match: Match, item: Assumed, value: object) -> bool:
    """Whether a place may have the value that the file says: a count of heads divides the width."""
    if value is None or "head" not in item.place or type(value) is not int:
        return value is not None
    from archfind.matching.variant_assumptions import WIDTHS

    widths = [match.config[name].value for name in WIDTHS if name in match.config]
    return value > 0 and all(type(width) is int and width % value == 0 for width in widths)


def _with(match: Match, item: Assumed, value: object) -> Match | None:
    """The match with what the file says of a place; None where that can't be."""
    if value != item.value:
        try:
            found = match_with_setting(match, item.place, value)
        except BuildError:
            return None
    else:
        left = tuple(one for one in match.assumed if one.place != item.place)
        found = replace(match, assumed=left)
    if found is None or item.place not in found.config:
        return found
    return replace(found, config={**found.config, item.place: Setting(value, "file")})


def _exported_so(guess: Guess, own: Words) -> Guess:
    """The guess about an export of archfind's own with what was assumed when it was written."""
    text = next((value for at, value in own.items() if at.endswith(ASSUMED)), "[]")
    if text == "[]" or not isinstance(text, str) or guess.status not in _SURE:
        return guess
    from archfind.formats.side_files import claimed_word, parse_text

    first, *rest = guess.matches
    held = {item.place for item in first.assumed}
    told = fields_said(own)
    try:
        listed = parse_text(text, ASSUMED)
    except CheckpointError:
        return guess
    items = [
        Assumed(place, what, one.get("value"))
        for one in (listed if isinstance(listed, list) else [])[:_ITEMS]
        if isinstance(one, dict)
        and (place := claimed_word(one.get("place")))
        and (what := claimed_word(one.get("what")))
        and place not in held
        and place not in told
    ]
    return replace(guess, matches=(replace(first, assumed=(*first.assumed, *items)), *rest))


def _other_name(guess: Guess, own: Words, database: Database) -> list[str]:
    """A line where the file names a network that libraries have, and the tensors are another's."""
    names = names_said(own)
    if not names or guess.matches[0].pretrained is not None:  # whose claims are judged with it
        return []
    every = [*guess.matches, *(match for one in guess.parts.values() for match in one.matches)]
    fitting = {name for match in every for name in _names(match)}
    said = {bare_model_name(name): (place, name) for place, name in names}
    if any(_is_of(name, fitting) for name in said):
        return []
    for name, (place, whole) in said.items():
        entries = database.beginning(name)
        # Of a class with other arguments, the entry that is named is only one near to it.
        varied = {match.entry.cls for match in every if match.variant is not None}
        if entries and not any(entry.cls in varied for entry in entries):
            return [f"the file says {escape(whole, 60)} at {escape(place, 60)}"]
    return []


def _names(match: Match) -> list[str]:
    return [match.entry.name, *(twin.architecture for twin in match.twins)]


def _is_of(name: str, fitting: set[str]) -> bool:
    """Whether a name is that of a network that fits, or of what it's made of (a detector's
    backbone), or the other way round."""
    whole = name.replace("_", "")
    others = [other.replace("_", "").lower() for other in fitting]
    return len(whole) < _SHORT or any(whole in other or other in whole for other in others)


def _other_classes(guess: Guess, own: Words) -> list[str]:
    """A line where the file's number of classes isn't the tensors'."""
    shown = guess.matches[0].config.get("num_classes")
    if shown is None or shown.source != "shape" or not shown.value:
        return []
    said = fields_said(own)
    claims = [(name, said[name]) for name in _CLASSES if type(said.get(name)) is int]
    if not claims or any(value == shown.value for _, value in claims):
        return []
    name, value = claims[0]
    place = next(place for place in own if place.rpartition("/")[2] == name)
    return [f"the file says {value} at {escape(place, 60)}, and the tensors {shown.value}"]
