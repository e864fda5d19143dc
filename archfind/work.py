"""How much a guess may cost, counted and not timed: the same bytes get the same answer on any
machine. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.steps import stop_if_unwanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STEPS = 20_000
_EACH = 30  # more, for each key
_BETTERED = 40_000  # steps for other values of what nearly fits
_PARTS = 1.5  # times its keys that a file is looked at in parts, and parts of parts


class Work:
    """What is left of the work on a file with so many `keys`. A step is one of its keys, or a line
    of a family's rules, that is looked at once for one candidate; it takes some 20 microseconds at
    most. `is_spent` once anything was left undone for want of steps; `kept` has what was found for
    some of the file's tensors, however it was found."""

    __slots__ = ("_bettered", "_keys", "_steps", "is_spent", "kept")

    def __init__(self, keys: int) -> None:
        self._keys = int(_PARTS * keys)
        self._steps = _STEPS + _EACH * keys
        self._bettered = _BETTERED
        self.kept: dict[object, Any] = {}
        self.is_spent = False

    def allows(self, steps: int) -> bool:
        """Whether so many steps are left; they are taken."""
        stop_if_unwanted()
        self._steps -= steps
        self.is_spent = self.is_spent or self._steps < 0
        return self._steps >= 0

    def allows_bettering(self, steps: int) -> bool:
        """As `allows`, of the steps that there are for a family that nearly fits."""
        stop_if_unwanted()
        self._bettered -= steps
        self.is_spent = self.is_spent or self._bettered < 0
        return self._bettered >= 0

    def allows_part(self, keys: int) -> bool:
        """Whether a part of the file with so many keys may be looked at by itself."""
        self._keys -= keys
        self.is_spent = self.is_spent or self._keys < 0
        return self._keys >= 0
