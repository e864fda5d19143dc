"""Names that the library's loader still takes and doesn't write: older files have a module more in
their keys, or one fewer. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.templates import StateDict
from archfind.frozen import replace
from archfind.types import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Canonical

# Where that is, what today's keys have there, and what older ones have: ("vision_tower.", "",
# "vision_model."). They are undone one after the other.
Places = tuple[tuple[str, str, str], ...]


def renamed_key(key: str, places: Places) -> str:
    """A key of an older file as today's library writes it."""
    for before, own, other in places:
        if key.startswith(before + other):
            key = f"{before}{own}{key[len(before) + len(other) :]}"
    return key


def older_key(key: str, places: Places) -> str:
    """A key, or its template, as an older file has it."""
    for before, own, other in reversed(places):
        if key.startswith(before + own):
            key = f"{before}{other}{key[len(before) + len(own) :]}"
    return key


def todays_names(canonical: Canonical, places: Places) -> Canonical | None:
    """The state dict of an older file under today's names; None where two become the same."""
    names = {key: renamed_key(key, places) for key in canonical.index}
    if len(set(names.values())) < len(names):
        return None
    words = ", ".join(f"{before}{other}* -> {before}{own}*" for before, own, other in places)
    return replace(
        canonical,
        index={names[key]: spec for key, spec in canonical.index.items()},
        origin={names[key]: at for key, at in canonical.origin.items()},
        steps=(*canonical.steps, Step("rename", words)),
    )


class Views:
    """A state dict under its own names, and as today's library would write it if it were an older
    file of a class; each read once."""

    __slots__ = ("_views",)

    def __init__(self, canonical: Canonical, held: StateDict | None = None) -> None:
        own = canonical, held or StateDict(canonical.index)
        self._views: dict[Places, tuple[Canonical, StateDict]] = {(): own}

    def under(self, places: Places) -> tuple[Canonical, StateDict]:
        """The state dict less the modules that older files have at `places`; as it is where two of
        its keys become the same."""
        if places not in self._views:
            today = todays_names(self._views[()][0], places)
            known = (today, StateDict(today.index)) if today is not None else self._views[()]
            self._views[places] = known
        return self._views[places]
