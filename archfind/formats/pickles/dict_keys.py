"""Dict keys from a pickle, which may be anything at all."""

from __future__ import annotations

from archfind.formats.pickles.nodes import Key

_PLAIN_KEY = frozenset((str, bytes, bool, float, type(None)))


def put_items(target: dict[object, object], items: list[object]) -> None:
    """Adds `[key, value, key, value ...]` to a dict whose keys may be anything."""
    keys = items[0::2]
    if len(keys) * 2 != len(items):
        raise KeyError("a key without a value")
    if {str}.issuperset(map(type, keys)):
        target.update(zip(keys, items[1::2], strict=True))
        return
    for i in range(0, len(items), 2):
        target[as_key(items[i])] = items[i + 1]


def as_key(key: object) -> object:
    """`key`, or a stand-in: hashing a deep tuple recurses in C, and large ints can all collide."""
    kind = type(key)
    if kind in _PLAIN_KEY or (kind is int and -(1 << 60) < key < (1 << 60)):  # pyright: ignore
        return key
    if kind is tuple and len(key) < 8 and all(map(_short, key)):  # pyright: ignore
        return str(key)
    return Key(key)


def _short(value: object) -> bool:
    return type(value) in (int, bool) or (type(value) is str and len(value) < 100)
