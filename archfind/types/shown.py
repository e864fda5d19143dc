"""How results show themselves. What they show is made by rooms above this one, which the package
itself, the face, hands down: `documents` has a function for each kind of result."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

documents: dict[str, Callable[[Any], dict[str, Any]]] = {}  # by the name of the class
lines: dict[str, Callable[[Any], list[str]]] = {}


class Shown:
    """A result that people look at in notebooks, and that programs take apart."""

    def to_dict(self) -> dict[str, Any]:
        """What the command line prints with --json, as plain values."""
        return documents[type(self).__name__](self)

    def _repr_html_(self) -> str:
        """The answer as the command line prints it, for a notebook."""
        from html import escape  # late: on the cold path nobody asks for it

        first, *rest = map(escape, lines[type(self).__name__](self))
        below = "\n".join(rest)
        return f"<details open><summary><b>{first}</b></summary><pre>{below}</pre></details>"
