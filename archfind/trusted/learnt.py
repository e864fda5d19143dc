"""Which classes of a user's own database may be imported: those that were learnt on this machine,
and those that the user trusts now.

A signature is a text, and may be anybody's: that it names a class is no word of the user's. What
`archfind signatures learn` imported at the user's command is noted in a file of the user's data
that is no part of any database and that nothing else writes; each note is a hash of all that the
signature says, so that the same class with a stranger's arguments or rules is not among them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from archfind.database.user_folder import data_folder
from archfind.errors import CodeError
from archfind.frozen import replace
from archfind.types import Guess, Match, TrustedClass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

    from archfind.database.user_text import UserText

_BYTES = 4 << 20
_MOST = 5_000  # notes; the oldest are forgotten


def noted(text: UserText, trusted: TrustedClass) -> None:
    """Note that a class was imported to learn this signature, and from where."""
    from archfind.writing import beside

    notes = _notes()
    notes.pop(text.stamp, None)
    notes[text.stamp] = {"file": trusted.file, "paths": list(trusted.paths)}
    last = dict(list(notes.items())[-_MOST:])
    path = Path(_place())
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.write_small_file(path, json.dumps(last, indent=1) + "\n")


def permitted(guess: Guess, trust: bool) -> Guess:
    """The guess, whose classes of the user's database may be imported where the user says `trust`,
    or learnt them on this machine."""
    if not any(_is_asked(match) for match in guess.matches):
        return guess
    notes = _notes()
    return replace(guess, matches=tuple(_permitted(match, trust, notes) for match in guess.matches))


def _is_asked(match: Match) -> bool:
    return match.trusted is not None and not match.trusted.is_allowed


def _permitted(match: Match, trust: bool, notes: dict[str, Any]) -> Match:
    one = match.trusted
    if one is None or one.is_allowed:
        return match
    note = notes.get(match.record.stamp) if match.record is not None else None
    if note is not None and os.path.exists(note["file"]):
        paths = tuple(path for path in note["paths"] if path not in sys.path)
        return replace(match, trusted=replace(one, paths=paths, file=note["file"], is_allowed=True))
    if not trust:
        return match
    return replace(match, trusted=replace(one, is_allowed=True))


def located(module: str, last: tuple[str, ...] = ()) -> str:
    """The file of a module that can be imported, found without importing it or its packages; the
    folders `last` are looked in after all others. CodeError where there is none."""
    top, *below = module.split(".")
    spec = _spec(top, None) or (_spec(top, last) if last else None)
    file = spec.origin or "" if spec is not None else ""
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    for part in below:
        bases = [os.path.join(place, part) for place in places]
        files = [f for base in bases for f in (os.path.join(base, "__init__.py"), f"{base}.py")]
        file = next(filter(os.path.isfile, files), "")
        places = [base for base in bases if os.path.isdir(base)]
    if not os.path.isfile(file):
        text = f"no Python file of a module {module}; install its package, or set PYTHONPATH"
        raise CodeError(text)
    return os.path.abspath(file)


def _spec(name: str, places: tuple[str, ...] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):  # finders of other packages have their own ways
            found = finder.find_spec(name, places)
            if found is not None:
                return found
    return None


def _place() -> str:
    return os.path.join(data_folder(), "learnt.json")


def _notes() -> dict[str, Any]:
    """The notes by stamp; none where the file isn't one of ours."""
    try:
        with open(_place(), "rb") as file:
            found = json.loads(file.read(_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    notes: dict[str, Any] = found if isinstance(found, dict) else {}
    return {stamp: note for stamp, note in notes.items() if _is_note(note)}


def _is_note(note: Any) -> bool:
    if not isinstance(note, dict) or not isinstance(note.get("file"), str):
        return False
    paths = note.get("paths")
    return isinstance(paths, list) and all(isinstance(path, str) for path in paths)
