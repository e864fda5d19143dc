"""Which class of transformers a state dict's key names are those of, where no class's rules give
its shapes: rules are what was learned of a class, and names say more than they know. On the cold
path of `archfind guess`, for files that nothing fits."""

from __future__ import annotations

from archfind.classes.notation import numbered_template
from archfind.classes.older_keys import Views, renamed_key
from archfind.classes.templates import is_stale, state_dict_templates
from archfind.frozen import replace
from archfind.matching.rank import rank
from archfind.matching.solved_class import solve_class
from archfind.state_dicts.canonical import strip
from archfind.types import Guess, Twin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.classes.configured import Configured
    from archfind.database.model_types import ModelTypes
    from archfind.evidence.claims import Claims
    from archfind.matching.solved_class import Solved
    from archfind.types import Canonical
    from archfind.work import Work

SHARE = 0.75  # of the key templates on both sides must be the same for a class to be named, ...
_RARE_SHARE = 0.5  # ... or this, where most of them are in few types
_FEW = 3  # types
_LOOKED = 24  # classes whose templates are compared
_SOLVED = 6  # ... of the likest, whose sizes are solved
_EQUAL = 0.02  # less of the templates than the likest has, and still as likely


class AlikeClass:
    """A class below a prefix with its `share` of the key templates, on both sides."""

    __slots__ = ("block", "prefix", "share", "solved")

    def __init__(self, block: Configured, prefix: str, share: float) -> None:
        self.block = block
        self.prefix = prefix
        self.share = share
        self.solved: Solved | None = None


def named_by_key_names(every: list[AlikeClass]) -> tuple[float, Guess | None]:
    """The class with the likest key names, close, with those that are as like as its twins; and
    the share of key templates that are the same."""
    if not every or every[0].solved is None:
        return 0.0, None
    first = every[0].solved
    names = {(one.block.cls, one.block.type.name): None for one in every}
    names.pop((first.block.cls, first.block.type.name))
    twins = tuple(
        Twin("transformers", cls, False, f"{kind}: its key names are as like")
        for cls, kind in names
    )
    match = replace(first.match, twins=twins)
    assert first.canonical is not None
    return every[0].share, Guess(first.canonical, "close", (match,), "")


def likest(reading: Canonical, types: ModelTypes, claims: Claims, work: Work) -> list[AlikeClass]:
    """The classes with the likest key names, the best first: of those that are as like the one
    whose rules give most of the tensors. Not all are solved."""
    whole = state_dict_templates(reading.index, work)
    counted = [t for t, key in whole.templates.items() if not is_stale(key, reading.index[key])]
    best: list[AlikeClass] = []
    for prefix in types.prefixes(counted):
        literal = whole.literal(prefix)
        if literal is not None:
            best += _candidates(counted, prefix, literal, types)
    most = max((one.share for one in best), default=0.0)
    first = max(best, key=lambda one: one.share, default=None)
    if first is None or (most < SHARE and not _are_rare(counted, first.prefix, types)):
        return []
    best = [one for one in best if one.share >= most - _EQUAL]
    best.sort(key=lambda one: (-one.share, len(one.block.templates)))
    views: dict[str, Views] = {"": Views(reading, whole)}
    for one in best[:_SOLVED]:
        if one.prefix not in views:
            views[one.prefix] = Views(strip(reading, one.prefix))
        below, state = views[one.prefix].under(one.block.older)
        if not work.allows(len(state.some) + len(one.block.templates)):
            break
        one.solved = found = solve_class(state, one.block, claims.fields, work=work)
        if found is None:
            continue
        found.canonical = below
        extra = tuple(k for k in reading.index if not k.startswith(one.prefix))
        found.match = replace(found.match, unexpected=(*found.match.unexpected, *extra))
    best.sort(key=lambda one: (one.solved is None, -_score(one), -one.share, *_rank(one, claims)))
    return best


def _candidates(
    counted: list[str], prefix: str, literal: str, types: ModelTypes
) -> list[AlikeClass]:
    """Classes by their share of the key templates below a prefix, on both sides; the keys have it
    as it is in `literal`."""
    own = [t[len(prefix) :] for t in counted if t.startswith(prefix)]
    outside = len(counted) - len(own)
    bounds: list[tuple[float, int, int, int]] = []
    for number, common, size in types.alike(own):
        absent = max(0, types.needed(number) - common)
        bounds.append((common / (len(own) + outside + absent), -size, number, common))
    bounds.sort(key=lambda item: (-item[0], -item[1]))
    present = set(own)
    found: list[AlikeClass] = []
    for bound, _, number, common in bounds[:_LOOKED]:
        if bound < _RARE_SHARE:
            break
        block = types.block(number)
        tied = {numbered_template(key) for pair in block.tied.items() for key in pair}
        today = {renamed_key(t, block.older) for t in present} if block.older else present
        absent = len(block.needed - today - tied)
        found.append(AlikeClass(block, literal, common / (len(counted) + absent)))
    return found


def _are_rare(counted: list[str], prefix: str, types: ModelTypes) -> bool:
    """Whether most key templates below a prefix, and of those that are known nearly all, are in few
    types."""
    kinds = [types.types_with(t[len(prefix) :]) for t in counted if t.startswith(prefix)]
    return sum(0 < n <= _FEW for n in kinds) > max(len(kinds) / 2, 0.8 * sum(map(bool, kinds)))


def _score(one: AlikeClass) -> float:
    return one.solved.score if one.solved is not None else 0.0


def _rank(one: AlikeClass, claims: Claims) -> tuple[object, ...]:
    return rank(one.solved, claims) if one.solved is not None else ()
