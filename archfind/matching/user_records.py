"""What a user's own database says of the networks that were matched: the file that names each, what
nobody knows of one without code, and what would be imported for one with it. On the cold path of
`archfind guess`."""

from __future__ import annotations

from archfind.frozen import replace
from archfind.types import Assumed, Record, TrustedClass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.entries import Database
    from archfind.database.user_text import UserText
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
        module, _, name = text.cls.rpartition(".")
        trusted = TrustedClass(
            text.path, (), module, name, "", arguments=text.arguments, is_allowed=False
        )
        record = replace(record, stamp=text.stamp)
        assumed = _of_class(match, text)
        return replace(match, record=record, trusted=trusted, assumed=assumed)
    item = Assumed("implementation", _OTHER, match.entry.id)
    kept = tuple(one for one in match.assumed if one.place != item.place)
    return replace(match, record=record, assumed=(*kept, item))


def _of_class(match: Match, text: UserText) -> tuple[Assumed, ...]:
    """What is assumed of a class with other arguments: where its signature lists those that no
    tensor shows, these, in place of all that might be."""
    whole = [item for item in match.assumed if item.place == "arguments"]
    if not whole or text.unseen is None:
        return match.assumed
    kept = [item for item in match.assumed if item.place != "arguments"]
    named = {item.place for item in kept} | set(match.config)
    return (
        *kept,
        *(
            Assumed(name, f"argument {name}", text.arguments.get(name, "the code's"), tuple(others))
            for name, others in text.unseen.items()
            if name not in named
        ),
    )
