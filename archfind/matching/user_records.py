"""What a user's own database says of the networks that were matched: the file that names each, what
nobody knows of one without code, and what would be imported for one with it. On the cold path of
`archfind guess`."""

from __future__ import annotations

from archfind.frozen import replace
from archfind.types import Assumed, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.entries import Database
    from archfind.types import Guess, Match

_NOTES = 3  # files that are named as no signatures
_OTHER = "no code is recorded: what no tensor shows (strides, activations) is that of"


def with_records(guess: Guess, database: Database) -> Guess:
    """The guess with what the user's signatures say of its matches, and of those of its parts."""
    if not database.texts_by_name and not database.wrong:
        return guess
    notes = [f"{error.path}: {error.message}" for error in database.wrong[:_NOTES]]
    if len(database.wrong) > _NOTES:
        notes.append(f"{len(database.wrong) - _NOTES} more files are no signatures")
    return replace(_recorded(guess, database), warnings=(*guess.warnings, *notes))


def _recorded(guess: Guess, database: Database) -> Guess:
    return replace(
        guess,
        matches=tuple(_with_record(match, database) for match in guess.matches),
        parts={name: _recorded(part, database) for name, part in guess.parts.items()},
    )


def _with_record(match: Match, database: Database) -> Match:
    text = database.texts_by_name.get(match.entry.id)
    if text is None or match.record is not None:
        return match
    record = Record(text.path, text.source)
    if text.cls:
        return replace(match, record=record)
    item = Assumed("implementation", _OTHER, match.entry.id)
    kept = tuple(one for one in match.assumed if one.place != item.place)
    return replace(match, record=record, assumed=(*kept, item))
