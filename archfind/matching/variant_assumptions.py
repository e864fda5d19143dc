"""What the outputs of a library's class with other arguments depend on, and no tensor shows: on the
cold path of `archfind guess`.

A registered network's own arguments are fixed by its entry, also where people gave it other
classes, colours or pictures. Where anything else is moved, the network is no longer one that the
library offers, and what no tensor shows is only taken from the nearest entry.
"""

from __future__ import annotations

from archfind.classes.ordinary_arguments import is_ordinary
from archfind.frozen import replace
from archfind.types import Assumed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.types import Match

# What does nothing in eval mode, or is only where weights come from.
_SILENT = ("drop", "init", "checkpoint", "memory_efficient", "num_classes", "inference_mode")
_HEAD_SIZES = (64, 32, 48, 96, 128, 16, 24, 8)
WIDTHS = ("embed_dim", "dim", "hidden_dim", "width")
_FEW = 6  # alternatives that are named


def variant_with_assumed(match: Match, choose: str) -> Match:
    """The match with what is assumed about it. `choose` is the entry that the user names, whose
    arguments then hold where nothing shows others."""
    assert match.variant is not None
    if all(map(is_ordinary, match.variant.moved)):
        return replace(match, assumed=(*match.assumed, *_instead(match)))
    items = [*match.assumed, *_arguments(match)]
    if choose in (match.entry.id, match.entry.name):
        # Its arguments hold, but that heads go with a width, and that is another.
        items = [item for item in items if _goes_with_width(item.place, match)]
    else:
        what = "what no tensor shows (strides, activations, eps) is that of"
        items.append(Assumed("arguments", what, match.entry.id))
    return replace(match, assumed=tuple({item.place: item for item in items}.values()))


def _instead(match: Match) -> list[Assumed]:
    """What may have been moved in place of an ordinary argument."""
    assert match.variant is not None
    return [
        Assumed(path, f"{path}, with this {_roots(leaves)}", _value(match, path), others)
        for path, (others, leaves) in match.variant.instead.items()
    ]


def _roots(leaves: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(leaf.partition(".")[0] for leaf in leaves))


def _value(match: Match, path: str) -> object:
    return match.config[path].value if path in match.config else None


def _goes_with_width(place: str, match: Match) -> bool:
    assert match.variant is not None
    moved = {path.partition(".")[0] for path in match.variant.moved}
    is_argument = place in match.config and match.config[place].source == "default"
    return not is_argument or ("head" in place and not moved.isdisjoint(WIDTHS))


def _arguments(match: Match) -> list[Assumed]:
    """The class's own arguments that tensors show of other networks, and not of this one."""
    return [
        Assumed(path, path, setting.value, _others(match, path, setting.value))
        for path, setting in match.config.items()
        if setting.source == "default"
        and not is_ordinary(path)
        and "." not in path
        and not any(word in path for word in _SILENT)
    ]


def _others(match: Match, path: str, value: object) -> tuple[object, ...]:
    if isinstance(value, bool):
        return (not value,)
    if not isinstance(value, int) or "head" not in path:
        return ()
    widths = [match.config[name].value for name in WIDTHS if name in match.config]
    width = next((one for one in widths if isinstance(one, int)), 0)
    counts = dict.fromkeys(width // size for size in _HEAD_SIZES if width and width % size == 0)
    return tuple(count for count in counts if count != value)[:_FEW]
