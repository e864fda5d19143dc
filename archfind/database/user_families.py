"""The rules of a user's class for other arguments, as a text that may be a stranger's: whether they
are of the signature that they stand in, and say nothing that no rules say."""

from __future__ import annotations

from archfind.classes.notation import Family
from archfind.errors import SignatureError
from archfind.formats.limits import DIMENSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.database.user_text import UserText

_LEAVES = 2_000


def check_family(found: UserText, text: str, most: int) -> None:
    """SignatureError where a family isn't of the signature's class, has values that no argument
    has, or gives other tensors than the signature's own, of which there are at most `most`."""
    family = Family(text)
    if not found.cls or family.cls != found.cls or [*family.presets] != [found.name]:
        raise SignatureError(f"a family that isn't of {found.name} and its class")
    if family.base != found.name or len(family.leaves) > _LEAVES:
        raise SignatureError(f"a family that isn't made from {found.name}")
    leaves = [*family.leaves.values(), *family.presets[found.name].values()]
    leaves += [value for options in family.options.values() for value in _listed(options)]
    if not all(map(_is_leaf, leaves)) or not family.options.keys() <= family.leaves.keys():
        raise SignatureError(f"a family of {found.name} with values that no argument has")
    made = family.program.expand(family.presets[found.name], most)
    if made != found.tensors():
        raise SignatureError(f"a family that gives other tensors than {found.name} has")


def _listed(options: object) -> list[Any]:
    if type(options) is not list or len(options) > _LEAVES:
        raise SignatureError("options that are no list")
    return options


def _is_leaf(value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value) < DIMENSION  # and no NaN
    return value is None or isinstance(value, bool | str)
