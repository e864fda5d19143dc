"""A state dict against all model types of transformers: what fits, who else does, and what may be
said. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.canonical import strip
from archfind.families.text import template, template_of
from archfind.frozen import replace
from archfind.pretrained.assumptions import assumed, foreign_code, told_by_dialect
from archfind.pretrained.claims import claims_of
from archfind.pretrained.database import beside
from archfind.pretrained.dialects import dialect
from archfind.pretrained.named import likest, named
from archfind.pretrained.older import Views
from archfind.pretrained.rank import rank
from archfind.pretrained.solve import solved
from archfind.pretrained.state_dict import StateDict, is_stale
from archfind.pretrained.stated import stated
from archfind.types import Guess, Step, Twin

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
_LARGE = 64  # a size that every network of a class has is seldom so large
_FEW = 4  # tensors set aside that are tried as the network's own
_NEARLY = 6  # ... where nothing has all of the file's keys


def configured(canonical: Canonical, database: Database, choose: str, work: Work) -> Guess | None:
    """The transformers class of a state dict, where every tensor fits."""
    types = beside(database.path)
    if types is None or not canonical.index:
        return None
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
            return answer
    return None


def named_class(
    canonical: Canonical, database: Database, choose: str, work: Work
) -> tuple[float, Guess | None]:
    """The transformers class whose key names are likest, where none fits among those that were
    tried: with the share of key templates that both have. It may turn out to fit."""
    types = beside(database.path)
    nearest: tuple[float, Guess | None] = 0.0, None
    if types is None or not canonical.index:
        return nearest
    claims = claims_of(canonical.checkpoint)
    for reading in readings(canonical):
        every = likest(reading, types, claims, work)
        whole = [one.solved for one in every if one.solved is not None and one.solved.match.fits]
        if whole:
            fitting = {id(one) for one in whole}
            missed = [one.block for one in every if id(one.solved) not in fitting]
            missed = [block for block in missed if block.is_doubtful]
            return 1.0, answered(whole, missed, claims, choose, types.types)
        share, close = named(every)
        if close is not None and share > nearest[0]:
            nearest = share, close
    return nearest


def readings(canonical: Canonical) -> list[Canonical]:
    """The state dict as it is, without the names that TensorFlow gave a norm's weights and torch
    once gave those of weight norm, and as its author's own code has it."""
    found = [canonical]
    if any(key.endswith((".gamma", ".beta", ".weight_g")) for key in canonical.index):
        names = {k: _renamed(k, canonical.index) for k in canonical.index}
        words = "gamma, beta -> weight, bias"
        if any(key.endswith(".weight_g") for key in canonical.index):
            words = "weight_g, weight_v -> parametrizations.weight.original0, original1"
        if len(set(names.values())) == len(names):
            renamed = replace(
                canonical,
                index={names[k]: spec for k, spec in canonical.index.items()},
                origin={names[k]: at for k, at in canonical.origin.items()},
                steps=(*canonical.steps, Step("rename", words)),
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
        found.insert(0, whole)
    other = dialect(canonical)
    return [other, *found] if other is not None else found


def _renamed(key: str, index: Mapping[str, object]) -> str:
    root, _, last = key.rpartition(".")
    if last in ("weight_g", "weight_v") and f"{root}.weight_g" in index:
        return f"{root}.parametrizations.weight.original{int(last == 'weight_v')}"
    norm = {"gamma": "weight", "beta": "bias"}.get(last)
    return f"{root}.{norm}" if root and norm else key


def tried(
    reading: Canonical, types: ModelTypes, claims: Claims, work: Work
) -> tuple[list[Solved], list[Configured]]:
    """Classes solved, those that fit first, then by how much of the file they give; and those with
    all of the file's keys that may fit although their rules don't, or weren't tried."""
    whole = StateDict(reading.index)
    counted = [t for t, key in whole.templates.items() if not is_stale(key, reading.index[key])]
    found: list[Solved] = []
    missed: list[Configured] = []
    for prefix in types.prefixes(counted):
        if prefix and any(one.match.fits for one in found):
            break  # the whole of it is known already
        own = [t[len(prefix) :] for t in counted if t.startswith(prefix)]
        alike = types.alike(own)
        literal = whole.literal(prefix)
        if literal is None or not alike or alike[0][1] < _SHARE * len(own):
            continue
        views = Views(strip(reading, literal)) if literal else Views(reading, whole)
        outside = len(reading.index) - len(views.under(())[0].index)
        prints: dict[int, float] = {}
        tries = failed = least = 0
        for number, common, size in alike:
            if common < _SHARE * len(own) or tries >= _TRIED:
                break
            if common < len(own) and (tries >= _NEARLY or any(o.match.fits for o in found)):
                break
            mark = types.print(number)
            like = next((other for other in found if other.match.fits), None)
            if like is not None and (types.needed(number) > common or size > _MORE * least):
                continue
            if prints.get(mark, 1) < _HOPEFUL and common < len(own):
                continue  # the same lines didn't fit, and other defaults won't help
            block = types.block(number)
            if outside and block.older:
                continue
            below, held = views.under(block.older)
            if like is not None and not _has(block, held.templates):
                continue
            if prints.get(mark, 1) < _HOPEFUL:
                missed += [block] * (_has(block, held.templates) and _may_fit(block, held))
                continue
            if not work.allows(len(held.some) + len(block.templates)):
                missed += [block] * _has(block, held.templates)
                break
            one = solved(held, block, claims.fields, like)
            tries += 1
            if (one is None or not one.match.fits) and common == len(own):
                missed += [block] * (_has(block, held.templates) and _may_fit(block, held))
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
                extra = tuple(k for k in reading.index if not k.startswith(literal))
                one.match = replace(one.match, unexpected=(*one.match.unexpected, *extra))
            found.append(one)
    found.sort(key=lambda one: (not one.match.fits, -one.score, *rank(one, claims)))
    return found, missed


def answered(
    whole: list[Solved], missed: list[Configured], claims: Claims, choose: str, known: int
) -> Guess:
    """Exact where one class stands out among all that have these tensors, else ambiguous. A class
    with all of the file's keys may have them as well where its rules give others, or weren't
    tried; beside a public model's sizes only if they are doubtful, and it's of the same type."""
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
    match = replace(with_assumed(first, claims), twins=twins)
    warnings = [
        *claims.notes,
        *_notes(first),
        *claims.refused(first.block.family.leaves),
        *claims.contradictions(first.values, first.block.type.name),
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
    keys = [key for key in first.index if key not in first.tied]
    if not block.prefix or any(not key.startswith(prefix) for key in keys):
        return ()
    below = {template(key[len(prefix) :]) for key in keys}
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


def with_assumed(one: Solved, claims: Claims) -> Match:
    """The match with what is assumed about it."""
    config = {**one.match.config, **stated(one, claims), **told_by_dialect(one)}
    return replace(one.match, config=config, assumed=assumed(one, claims))


def _may_fit(block: Configured, held: StateDict) -> bool:
    """Whether a class that doesn't fit may do so, its rules being doubtful, or knowing a size only
    as one number where the file has another."""
    if block.is_doubtful:
        return True
    for line in block.family.program.lines:
        key = held.templates.get(template_of(line))
        if key is None or key not in held.index or len(held.index[key].shape) != len(line.sizes):
            continue
        for size, number in zip(line.sizes, held.index[key].shape, strict=True):
            if not size.names and size.text.isdigit() and _LARGE <= int(size.text) != number:
                return True
    return False


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
