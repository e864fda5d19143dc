"""The one rule about what was assumed: with such an item an answer isn't exact; and how settings
tell it. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.errors import BuildError
from archfind.frozen import replace
from archfind.matching.head_assumptions import assumed_of_head as head_assumed
from archfind.matching.head_assumptions import head_as_told as head_with_setting
from archfind.matching.heads import head_settings
from archfind.types import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import Assumed, Guess, Match

# Places of what can't be listed one by one: a setting only says yes to what is assumed there.
_SHOWN = 4  # assumptions in one line
REST = ("arguments", "config", "implementation", "said")


def judged(guess: Guess) -> Guess:
    """The guess, ambiguous where it would be exact but for what is assumed; so with its parts."""
    parts = {name: judged(one) for name, one in guess.parts.items()}
    status = guess.status
    if status == "exact" and guess.matches and guess.matches[0].assumed:
        status = "ambiguous"
    return replace(guess, status=status, parts=parts)


def settled_by_settings(
    guess: Guess, settings: Mapping[str, object]
) -> tuple[Guess, dict[str, object]]:
    """The guess with what settings tell, and the settings that tell nothing assumed. Where all of
    it is told, the answer is exact. BuildError where a setting can't be."""
    if not settings or not guess.matches:
        return guess, dict(settings)
    matches = list(guess.matches)
    rest: dict[str, object] = {}
    for place, value in settings.items():
        try:
            told = [match_with_setting(match, place, value) for match in matches]
        except BuildError as error:
            raise BuildError(error.message, guess.canonical.checkpoint.path) from error
        if any(one is not None for one in told):
            matches = [one or match for one, match in zip(told, matches, strict=True)]
        else:
            rest[place] = value
    found = replace(guess, matches=tuple(matches))
    if guess.is_assumed and not matches[0].assumed:
        found = replace(found, status="exact", chosen_by="user")
    return found, rest


def open_settings(match: Match) -> tuple[str, ...]:
    """Every setting that an assumption leaves open, the assumed one first: "fc.1=relu" ..."""
    return tuple(
        f"{item.place}={value}"
        for item in match.assumed
        for value in (item.value, *item.alternatives)
    )


def warning(match: Match) -> str:
    """What `load` says of a network that was built as it is assumed to be."""
    return f"{match.entry.id} is loaded with assumptions: {_list(match)}; settings= can tell them"


def graded(match: Match) -> str:
    """The grade of a written module, with what was assumed to write it."""
    assert match.written is not None
    return match.written.grade + (f", assumed: {_list(match)}" if match.assumed else "")


def question(match: Match) -> str:
    """What is to be told before a network is built, or accepted as it is assumed to be."""
    return (
        f"fits {match.entry.id}, but no tensor shows what is assumed: {_list(match)}; "
        "tell it with --set PLACE=VALUE, or take it with --accept-ambiguous"
    )


def _list(match: Match) -> str:
    items = [
        (f"{item.place}={item.value}" if item.place != "said" else f"{item.what} {item.value}")
        + (f" (or {', '.join(map(str, item.alternatives))})" if item.alternatives else "")
        for item in match.assumed[:_SHOWN]
    ]
    more = len(match.assumed) - _SHOWN
    return ", ".join(items) + (f" and {more} more" if more > 0 else "")


def match_with_setting(match: Match, place: str, value: object) -> Match | None:
    """The match with one setting of the user's; None where it tells nothing that is assumed."""
    items = [item for item in match.assumed if item.place == place]
    left = tuple(item for item in match.assumed if item.place != place)
    if match.head is not None:
        head = head_with_setting(match.head, place, value)
        if head is not None:
            still = {item.place for item in left} & {item.place for item in head_assumed(head)}
            own = head_settings(head, "assumed" if still else "user")
            return replace(match, head=head, assumed=left, config={**match.config, **own})
        if any(place == item.place for item in head_assumed(match.head)):
            known = _words(items[0]) if items else "what was assumed"
            raise BuildError(f"{place} can't be {value!r}; it may be {known}")
    if place in REST:
        if items and value != items[0].value:
            raise BuildError(f"{place} can only be told to be {items[0].value!r}, as is assumed")
        return replace(match, assumed=left) if items else None
    if not items:
        return None
    config = {**match.config, place: Setting(value, "user")}
    if match.variant is not None:
        moved = match.variant.moved
        others, leaves = match.variant.instead.get(place, ((), ()))
        given_back = leaves if value in others else ()
        kept = {
            p: v
            for p, v in moved.items()
            if not f"{p}.".startswith(f"{place}.") and p not in given_back
        }
        # The library's own builder needn't take it: archfind.variant does.
        variant = replace(match.variant, moved={**kept, place: value}, direct=False)
        config = {k: s for k, s in config.items() if not any(_is_of(p, k) for p in given_back)}
        return replace(match, variant=variant, config=config, assumed=left)
    if match.pretrained is not None:
        config |= _per_head(match, place, value)
        told = {name for name in config if config[name].source == "user"}
        left = tuple(item for item in left if item.place not in told)
    return replace(match, config=config, assumed=left)


def _is_of(leaf: str, argument: str) -> bool:
    return f"{leaf}.".startswith(f"{argument}.")


def _per_head(match: Match, place: str, value: object) -> dict[str, Setting]:
    """What a number of heads says of the size of each, and of how many share keys: their products
    are widths that the tensors show."""
    root, dot, name = place.rpartition(".")
    size, shared = (
        match.config.get(f"{root}{dot}{n}") for n in ("head_dim", "num_key_value_heads")
    )
    heads = match.config.get(place)
    if name != "num_attention_heads" or not isinstance(value, int) or value < 1 or not heads:
        return {}
    before = heads.value
    if size is None or size.source != "default" or not isinstance(before, int):
        return {}
    assert isinstance(size.value, int)
    width = before * size.value
    if width % value:
        raise BuildError(f"{place} can't be {value}: the tensors show {width} = heads * head_dim")
    found = {f"{root}{dot}head_dim": Setting(width // value, "user")}
    if shared is not None and shared.source == "default" and isinstance(shared.value, int):
        rows = shared.value * size.value
        if rows % (width // value) == 0:
            count = rows // (width // value)
            found[f"{root}{dot}num_key_value_heads"] = Setting(count, "user")
    return found


def _words(item: Assumed) -> str:
    return ", ".join(str(value) for value in (item.value, *item.alternatives))
