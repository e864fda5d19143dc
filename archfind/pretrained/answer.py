"""A state dict against all model types of transformers: what fits, who else does, and what may be
said. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.canonical import strip
from archfind.families.text import template
from archfind.frozen import replace
from archfind.pretrained.assumptions import assumed, foreign_code, told_by_dialect
from archfind.pretrained.claims import claims_of
from archfind.pretrained.database import beside
from archfind.pretrained.dialects import dialect
from archfind.pretrained.rank import rank
from archfind.pretrained.solve import solved
from archfind.pretrained.state_dict import StateDict, is_stale
from archfind.pretrained.stated import stated
from archfind.types import Assumed, Guess, Step, Twin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.database import Database
    from archfind.pretrained.claims import Claims
    from archfind.pretrained.database import Configured, ModelTypes
    from archfind.pretrained.solve import Solved
    from archfind.types import Canonical, Match, TensorSpec
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]

_DOUBTFUL = 0.5
_HOPEFUL = 0.8  # share of tensors
_SHARE = 0.6  # of a file's key templates must be a class's for it to be tried
_TRIED = 40  # classes solved for one reading
_MORE = 1.75  # times the key templates of the first class that fits: others have too many then
_FAILED = 12  # classes in a row that don't fit, once one does: those to come have more of their own
_FEW = 4  # tensors set aside that are tried as the network's own
_NEARLY = 6  # ... where nothing has all of the file's keys


def configured(
    canonical: Canonical, database: Database, choose: str, work: Work
) -> tuple[float, Guess | None]:
    """The transformers class of a state dict: 1 and the answer where every tensor fits, else the
    share that does and the nearest."""
    types = beside(database.path)
    if types is None or not canonical.index:
        return 0.0, None
    nearest: tuple[float, Guess | None] = 0.0, None
    claims = claims_of(canonical.checkpoint)
    for reading in readings(canonical):
        found, missed = tried(reading, types, claims, work)
        whole = [one for one in found if one.match.fits]
        if whole:
            # Found below a prefix, while a class whose own the whole names are is nearly it.
            doubted = whole[0].canonical is not reading and any(
                one.canonical is reading and one.score >= _DOUBTFUL for one in found
            )
            answer = answered(whole, missed, claims, choose, types.types)
            if doubted and answer.chosen_by == "only":
                answer = replace(answer, status="ambiguous", chosen_by="")
            return 1.0, answer
        for one in found[:1]:
            if one.score > nearest[0]:
                nearest = one.score, Guess(one.canonical or reading, "close", (one.match,), "")
    return nearest


def readings(canonical: Canonical) -> list[Canonical]:
    """The state dict as it is, with the names that TensorFlow gave a norm's weights, and as its
    author's own code has it."""
    found = [canonical]
    if any(key.endswith((".gamma", ".beta")) for key in canonical.index):
        names = {k: _norm(k) for k in canonical.index}
        if len(set(names.values())) == len(names):
            renamed = replace(
                canonical,
                index={names[k]: spec for k, spec in canonical.index.items()},
                origin={names[k]: at for k, at in canonical.origin.items()},
                steps=(*canonical.steps, Step("rename", "gamma, beta -> weight, bias")),
            )
            found.insert(0, renamed)
    # A detector's loss has a tensor of its own, which is the class's as well.
    back = {p.rpartition("/")[2]: p for p in canonical.aside if p in canonical.checkpoint.index}
    if back and len(back) <= _FEW:
        specs = {key: canonical.checkpoint.index[at] for key, at in back.items()}
        whole = replace(
            canonical,
            index={**canonical.index, **specs},
            origin={**canonical.origin, **back},
            aside=tuple(p for p in canonical.aside if p not in back.values()),
            steps=tuple(step for step in canonical.steps if step.kind != "set aside"),
        )
        found.append(whole)
    other = dialect(canonical)
    return [other, *found] if other is not None else found


def _norm(key: str) -> str:
    if key.endswith(".gamma"):
        return f"{key[:-5]}weight"
    return f"{key[:-4]}bias" if key.endswith(".beta") else key


def tried(
    reading: Canonical, types: ModelTypes, claims: Claims, work: Work
) -> tuple[list[Solved], list[Configured]]:
    """Classes solved, those that fit first, then by how much of the file they give; and those with
    all of the file's keys that don't fit."""
    whole = StateDict(reading.index)
    counted = [t for t, key in whole.templates.items() if not is_stale(key, reading.index[key])]
    found: list[Solved] = []
    missed: list[Configured] = []
    for prefix in types.prefixes(counted):
        if prefix and any(one.match.fits for one in found):
            break  # the whole of it is known already
        own = [t[len(prefix) :] for t in counted if t.startswith(prefix)]
        alike = types.alike(own)
        if not alike or alike[0][1] < _SHARE * len(own):
            continue
        below = strip(reading, prefix) if prefix else reading
        held = StateDict(below.index) if prefix else whole
        outside = len(reading.index) - len(below.index)
        prints: dict[int, float] = {}
        tries = failed = least = 0
        for number, common, size in alike:
            if common < _SHARE * len(own) or tries >= _TRIED:
                break
            if common < len(own) and (tries >= _NEARLY or any(o.match.fits for o in found)):
                break
            mark = types.print(number)
            if prints.get(mark, 1) < _HOPEFUL:
                continue  # the same lines didn't fit, and other defaults won't help
            like = next((other for other in found if other.match.fits), None)
            if like is not None and (types.needed(number) > common or size > _MORE * least):
                continue
            block = types.block(number)
            if like is not None and not _has(block, held.templates):
                continue
            if not work.allows(len(held.some) + len(block.templates)):
                break
            one = solved(held, block, claims.fields, like)
            tries += 1
            if (one is None or not one.match.fits) and common == len(own):
                missed += [block] * _has(block, held.templates)
            if one is None:
                prints[mark] = 0.0
                failed += like is not None
                if failed > _FAILED:
                    break
                continue
            failed = 0
            prints[mark] = one.score
            least = least or size * one.match.fits
            one.canonical = reading if outside else below
            if outside:
                one.score *= len(below.index) / len(reading.index)
                extra = tuple(k for k in reading.index if not k.startswith(prefix))
                one.match = replace(one.match, unexpected=(*one.match.unexpected, *extra))
            found.append(one)
    found.sort(key=lambda one: (not one.match.fits, -one.score, *rank(one, claims)))
    return found, missed


def answered(
    whole: list[Solved], missed: list[Configured], claims: Claims, choose: str, known: int
) -> Guess:
    """Exact where one class stands out among all that have these tensors, else ambiguous. A class
    among those that don't fit may do so if its rules are doubtful; beside a public model's sizes
    one of the same type."""
    picked = [
        one
        for one in whole
        if choose in (one.match.entry.name, one.match.entry.id, one.block.type.name) and choose
    ]
    written = [] if picked else _written(whole)
    first = _solved(picked or written or whole, claims)
    chosen_by = ""
    rivals = [one for one in whole if _name(one) != _name(first)]
    doubtful = [
        (one.cls, one.type.name)
        for one in missed
        if one.is_doubtful
        and one.cls != first.block.cls
        and (one.type is first.block.type or not first.is_public)
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
        for name, kind in dict.fromkeys([_name(one) for one in rivals] or doubtful)
    )
    match = replace(with_assumed(first, claims), twins=twins)
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


def with_assumed(one: Solved, claims: Claims) -> Match:
    """The match with what is assumed about it."""
    config = {**one.match.config, **stated(one, claims), **told_by_dialect(one)}
    return replace(one.match, config=config, assumed=assumed(one, claims))


def _has(block: Configured, present: Mapping[str, str]) -> bool:
    """Whether a file has all key templates that every network of a class has."""
    return block.needed <= present.keys() | {template(key) for key in block.tied}


def _solved(some: list[Solved], claims: Claims) -> Solved:
    """The first of classes that fit; if it's only known to give what another gives, solved now."""
    first = some[0]
    if first.is_like:
        assert first.canonical is not None
        whole = solved(StateDict(first.canonical.index), first.block, claims.fields)
        if whole is not None and whole.match.fits:
            whole.canonical = first.canonical
            return whole
    return first


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
