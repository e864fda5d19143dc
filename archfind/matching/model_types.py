"""A state dict against all model types of transformers: what fits, who else does, and what may be
said. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.notation import numbered_template
from archfind.classes.templates import StateDict
from archfind.database.model_types import model_types_beside
from archfind.evidence.claims import claims_of
from archfind.frozen import replace
from archfind.matching.classes_by_key_names import likest, named_by_key_names
from archfind.matching.config_assumptions import assumed_of_class, foreign_code, told_by_dialect
from archfind.matching.readings import dialect_readings, is_foreign
from archfind.matching.solved_class import solve_class
from archfind.matching.stated_fields import stated
from archfind.matching.tried_classes import tried
from archfind.state_dicts.canonical import strip
from archfind.types import Assumed, Guess, Twin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.classes.configured import Configured
    from archfind.database.entries import Database
    from archfind.database.model_types import ModelTypes
    from archfind.evidence.claims import Claims
    from archfind.matching.solved_class import Solved
    from archfind.types import Canonical, Match, TensorSpec
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]

_DOUBTFUL = 0.5


def configured(canonical: Canonical, database: Database, choose: str, work: Work) -> Guess | None:
    """The transformers class of a state dict, where every tensor fits."""
    types = model_types_beside(database.path)
    if types is None or not canonical.index:
        return None
    claims = claims_of(canonical.checkpoint)
    for reading in dialect_readings(canonical):
        found, missed = tried(reading, types, claims, work)
        whole = [one for one in found if one.match.fits]
        if whole and is_foreign(reading):
            # The names may be the library's own as they are.
            whole += [one for one in tried(canonical, types, claims, work)[0] if one.match.fits]
        if whole and choose and not any(_is_chosen(one, choose) for one in whole):
            # A base network that is kept below a prefix, where no head is beside it.
            prefix = whole[0].block.prefix
            below = strip(reading, f"{prefix}." if prefix else "")
            if len(below.index) == len(reading.index):
                others = tried(below, types, claims, work)[0]
                whole += [one for one in others if one.match.fits and _is_chosen(one, choose)]
        if whole:
            # Found below a prefix, while a class whose own the whole names are is nearly it.
            doubted = whole[0].canonical is not reading and any(
                one.canonical is reading and one.score >= _DOUBTFUL for one in found
            )
            answer = class_answer(whole, missed, claims, choose, types.texts)
            answer = _with_bases(answer, whole[0], reading, types, claims, work)
            if doubted and answer.chosen_by == "only":
                answer = replace(answer, status="ambiguous", chosen_by="")
            return answer
    return None


def _with_bases(
    answer: Guess,
    first: Solved,
    reading: Canonical,
    types: ModelTypes,
    claims: Claims,
    work: Work,
) -> Guess:
    """The answer with other types' base networks among the twins, where a file without a head has
    all of its tensors below the prefix of one: a text model inside of another may be kept so."""
    prefix = f"{first.block.prefix}."
    below = strip(reading, prefix) if _is_below(first, prefix) else reading
    if below is reading or len(below.index) < len(reading.index):
        return answer
    match = answer.matches[0]
    known = {(match.entry.name, first.block.type.name)}
    known |= {(twin.architecture, twin.differs.partition(":")[0]) for twin in match.twins}
    more = tuple(
        Twin("transformers", cls, False, f"{kind}: the base network alone")
        for cls, kind in dict.fromkeys(
            _name(one) for one in tried(below, types, claims, work)[0] if one.match.fits
        )
        if (cls, kind) not in known
    )
    if not more:
        return answer
    own = f"{first.block.type.name}:"
    if answer.chosen_by == "only" and any(not twin.differs.startswith(own) for twin in more):
        answer = replace(answer, status="ambiguous", chosen_by="")
    return replace(answer, matches=(replace(match, twins=match.twins + more), *answer.matches[1:]))


def _is_below(first: Solved, prefix: str) -> bool:
    """Whether all of a file's own tensors stand below a class's prefix."""
    keys = [key for key in first.index if key not in first.tied]
    return prefix != "." and all(key.startswith(prefix) for key in keys)


def named_class(
    canonical: Canonical, database: Database, choose: str, work: Work
) -> tuple[float, Guess | None]:
    """The transformers class whose key names are likest, where none fits among those that were
    tried: with the share of key templates that both have. It may turn out to fit."""
    types = model_types_beside(database.path)
    nearest: tuple[float, Guess | None] = 0.0, None
    if types is None or not canonical.index:
        return nearest
    claims = claims_of(canonical.checkpoint)
    for reading in dialect_readings(canonical):
        every = likest(reading, types, claims, work)
        whole = [one.solved for one in every if one.solved is not None and one.solved.match.fits]
        if whole:
            fitting = {id(one) for one in whole}
            missed = [one.block for one in every if id(one.solved) not in fitting]
            missed = [block for block in missed if block.is_doubtful]
            return 1.0, class_answer(whole, missed, claims, choose, types.texts)
        share, close = named_by_key_names(every)
        if close is not None and share > nearest[0]:
            nearest = share, close
    return nearest


def class_answer(
    whole: list[Solved], missed: list[Configured], claims: Claims, choose: str, known: int
) -> Guess:
    """Exact where one class stands out among all that have these tensors, else ambiguous. A class
    with all of the file's keys may have them as well where its rules give others, or weren't
    tried; beside a public model's sizes only if they are doubtful, and it's of the same type."""
    picked = [one for one in whole if choose and _is_chosen(one, choose)]
    written = [] if picked else _written(whole)
    first = _solved(picked or written or whole, claims)
    chosen_by = ""
    rivals = [one for one in whole if _name(one) != _name(first)]
    doubtful = [
        (one.cls, one.type.name)
        for one in missed
        if one.cls != first.block.cls
        and (not first.is_public or (one.is_doubtful and one.type is first.block.type))
    ]
    if picked:
        chosen_by = "user"
    elif not rivals and not doubtful:
        chosen_by = "only"
    elif written:
        chosen_by = "origin"
    elif claims.names(first.block.type.name, first.block.cls):
        chosen_by = "file"
    elif first.is_public and _is_decided(first, rivals):
        stated = not doubtful or first.stated == first.block.cls
        chosen_by = "preset" if stated else ""
    twins = tuple(
        Twin("transformers", name, False, f"{kind}: another class")
        for name, kind in dict.fromkeys((*map(_name, rivals), *doubtful))
    )
    twins += _bases(first, rivals)
    match = replace(class_with_assumed(first, claims), twins=twins)
    against = claims.contradictions(first.values, first.block.type.name)
    if against and not picked:
        item = Assumed("said", f"{against[0]}; the tensors are of", match.entry.id)
        match = replace(match, assumed=(item, *match.assumed))
    warnings = [
        *claims.notes,
        *_notes(first),
        *claims.refused(first.block.family.leaves),
        *against,
    ]
    if chosen_by == "only" and not first.is_public:
        warnings.append(f"of the {known} model types that are known; a rarer one may fit, too")
    status = "exact" if chosen_by else "ambiguous"
    assert first.canonical is not None
    return Guess(first.canonical, status, (match,), chosen_by, warnings=tuple(warnings))


def _written(whole: list[Solved]) -> list[Solved]:
    """Those that are the class of the code whose names the file has, where that's one class."""
    code = foreign_code(whole[0])
    if code is None or not code.prefers:
        return []
    own = [one for one in whole if code.prefers in one.block.cls]
    return own if len({_name(one) for one in own}) == 1 else []


def _bases(first: Solved, rivals: list[Solved]) -> tuple[Twin, ...]:
    """The base network of a class whose head the file doesn't have, and those of its rivals: the
    library takes its tensors below the prefix, too."""
    block = first.block
    prefix = f"{block.prefix}."
    if not _is_below(first, prefix):
        return ()
    keys = [key for key in first.index if key not in first.tied]
    below = {numbered_template(key[len(prefix) :]) for key in keys}
    own = block.type.bases(block.prefix, block.dialect)
    blocks = [block.type.block(place) for cls, place in own.items() if cls != block.cls]
    if not any(one.needed <= below <= one.templates for one in blocks):
        return ()
    types = dict.fromkeys(one.block.type for one in (first, *rivals))
    return tuple(
        Twin("transformers", cls, False, f"{kind.name}: the base network alone")
        for kind in types
        for cls in kind.bases(block.prefix, block.dialect)
        if cls != block.cls
    )


def class_with_assumed(one: Solved, claims: Claims) -> Match:
    """The match with what is assumed about it."""
    config = {**one.match.config, **stated(one, claims), **told_by_dialect(one)}
    return replace(one.match, config=config, assumed=assumed_of_class(one, claims))


def _solved(some: list[Solved], claims: Claims) -> Solved:
    """The first of classes that fit; if it's only known to give what another gives, solved now."""
    first = some[0]
    if first.is_like:
        assert first.canonical is not None
        whole = solve_class(StateDict(first.canonical.index), first.block, claims.fields)
        if whole is not None and whole.match.fits:
            whole.canonical = first.canonical
            return whole
    return first


def _is_chosen(one: Solved, choose: str) -> bool:
    return choose in (one.match.entry.name, one.match.entry.id, one.block.type.name)


def _name(one: Solved) -> tuple[str, str]:
    return one.block.cls, one.block.type.name


def _is_decided(first: Solved, rivals: list[Solved]) -> bool:
    """Whether a public model is of the first's type alone, and of its class."""
    for other in rivals:
        if other.block.type is first.block.type:
            if other.block.cls != first.block.cls and first.stated != first.block.cls:
                return False
        elif other.is_public:
            return False
    return True


def _notes(found: Solved) -> list[str]:
    """What was put up with, in words."""
    match = found.match
    assert match.pretrained is not None
    notes: list[str] = []
    stale = [k for k in match.tolerated if k not in match.pretrained.tied]
    if stale:
        few = ", ".join(stale[:2]) + (" ..." if len(stale) > 2 else "")
        notes.append(f"{len(stale)} tensors that the library makes by itself are left: {few}")
    if match.pretrained.tied:
        key, source = next(iter(match.pretrained.tied.items()))
        notes.append(f"{key} isn't in the file: it is tied to {source}")
    return notes
