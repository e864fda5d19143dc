"""Arguments as JSON and back. What crosses from one process to another is checked piece by piece:
the other one has run somebody's code."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEEPEST = 8
_ITEMS = 4096  # of one list
_CHARACTERS = 4096  # of one word
_NUMBER = 2**63


class Unplain(Exception):
    """A value that is no number, word or list of such."""


def encoded(value: Any, depth: int = 0) -> object:
    """A plain value for JSON, in which tuples and dicts are told from lists. Unplain for others."""
    if depth > _DEEPEST:
        raise Unplain
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, bool | int | float | str):  # numbers that remember, enumerations
        kind = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
        return kind(value)
    if type(value) is list:
        return [encoded(item, depth + 1) for item in value]
    if type(value) is tuple:
        return {"tuple": [encoded(item, depth + 1) for item in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": [[key, encoded(item, depth + 1)] for key, item in value.items()]}
    raise Unplain


def decoded(value: Any, depth: int = 0) -> Any:
    """The value that `encoded` was given. Unplain for what it never gives."""
    if depth > _DEEPEST:
        raise Unplain
    if value is None or type(value) is bool:
        return value
    if type(value) in (int, float) and (value != value or abs(value) < _NUMBER):
        return value
    if type(value) is str and len(value) <= _CHARACTERS:
        return value
    if type(value) is list and len(value) <= _ITEMS:
        return [decoded(item, depth + 1) for item in value]
    if type(value) is dict and len(value) == 1:
        items = value.get("tuple", value.get("dict"))
        if type(items) is list and len(items) <= _ITEMS:
            if "tuple" in value:
                return tuple(decoded(item, depth + 1) for item in items)
            if all(type(i) is list and len(i) == 2 and type(i[0]) is str for i in items):
                return {key: decoded(item, depth + 1) for key, item in items}
    raise Unplain
