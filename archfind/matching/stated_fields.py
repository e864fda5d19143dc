"""What a config.json states beside the sizes: positions, kinds of layers, windows, scales.

No tensor shows them, the library computes with them, and so they are taken from a config of the
class's own type. On the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.formats.side_files import is_plain_claim
from archfind.types import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from archfind.evidence.claims import Claims
    from archfind.matching.solved_class import Solved

# Words of fields that compute; which of a type's other fields do is only known to its library.
_COMPUTES = ("rope", "rotary", "theta", "layer_types", "attention_types", "softcap", "multiplier")


def stated(one: Solved, claims: Claims) -> dict[str, Setting]:
    """The settings that a config.json of this type has beside those that rules know, and nulls
    where rules have a number: `sliding_window: null`."""
    if claims.model_type != one.block.type.name:
        return {}
    config, family = one.match.config, one.block.family
    found: dict[str, Setting] = {}
    for path, value in _free(config, claims):
        is_null = value is None and path in family.leaves and path not in family.options
        is_list = type(value) is list and path in config and _is_alike(value, config[path].value)
        computes = path not in config and any(word in path for word in _COMPUTES)
        if is_null or is_list or (computes and path not in family.leaves):
            found[path] = Setting(value, "file")
    return found


def more(
    config: Mapping[str, Setting], claims: Claims, declares: Callable[[str, object], bool]
) -> dict[str, Setting]:
    """All other settings of a config.json that the library's config has a field for."""
    return {
        path: Setting(value, "file")
        for path, value in _free(config, claims)
        if path not in config and declares(path, value)
    }


def _free(config: Mapping[str, Setting], claims: Claims) -> Iterator[tuple[str, Any]]:
    """Claims that can be taken as they are, and that nothing better decides."""
    for path, value in (*claims.fields.items(), *claims.others.items()):
        known = config.get(path)
        if (known is None or known.source not in ("shape", "file", "user")) and is_plain_claim(
            value
        ):
            yield path, value


def _is_alike(value: list[object], usual: object) -> bool:
    """Whether a list is as long, and of the same types, as the one that it replaces."""
    if not isinstance(usual, list | tuple):
        return False
    return list(map(type, value)) == list(map(type, usual))
