"""Keys with the numbers at the ends of their components apart, so that `layer1` and `layer2` are
places of one repeat, as `layer.1` and `layer.2` are. On the cold path of `archfind guess`."""

from __future__ import annotations

from functools import lru_cache

KEPT = 1 << 16  # keys of files, which every family asks for


@lru_cache(KEPT)
def numbered(key: str) -> str:
    """A key with the numbers at the ends of its components apart: `layer~.1.0.conv~.2.weight`."""
    if not any(char.isdecimal() for char in key):
        return key
    found: list[str] = []
    for part in key.split("."):
        text = part.rstrip("0123456789")
        number = part[len(text) :]
        found += [f"{text}~", number] if text and number and _plain(number) else [part]
    return ".".join(found)


def _plain(number: str) -> bool:
    return number == "0" or number[0] != "0"


def joined_key(key: str) -> str:
    """The key that `numbered` took apart."""
    return key.replace("~.", "")
