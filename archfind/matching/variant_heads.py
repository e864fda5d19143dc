"""A library's network with other arguments and another head at once: a family is solved on all but
the head, and what its rules then say stands as a signature. On the cold path of `archfind guess`,
where neither a registered network nor a variant explains a file."""

from __future__ import annotations

from archfind.classes.equations import ERRORS
from archfind.classes.score import within
from archfind.database.classes import of as families_of
from archfind.database.entries import Signature
from archfind.database.notation import Line, Size
from archfind.frozen import replace
from archfind.matching.compare import match
from archfind.matching.heads import headed
from archfind.matching.parts import common_prefix
from archfind.matching.shortlist import prefixes
from archfind.matching.shortlist import tensors_below as below_prefix
from archfind.matching.solutions import solutions
from archfind.matching.variants import answer, variant_match
from archfind.state_dicts.canonical import strip
from archfind.types import Storage, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from archfind.classes.score import Solution
    from archfind.database.classes import Families, KnownFamily
    from archfind.database.entries import Database, SignatureMember
    from archfind.types import Canonical, Guess, Match, Setting
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]
    Tensors = Mapping[str, tuple[tuple[int, ...], str]]

CLASSES = "num_classes"
SOME, MORE = 1009, 2003  # classes, of which no other size is likely to be a multiple
_NEARLY = 0.7  # share of the tensors below the prefix that a family must explain
_PLACES = 3  # prefixes tried
_MOST = 0.5  # share of the file's tensors that must be below one


def headed_variant(
    canonical: Canonical, database: Database, choose: str, near: Sequence[str], work: Work
) -> Guess | None:
    """The network with its head, where everything else is some family's; None where there is none.
    The families of the entries `near` are tried first."""
    families = families_of(database)
    shared = common_prefix(canonical.index)
    places = [shared, *prefixes(canonical.index, database)[:_PLACES]]
    for place in dict.fromkeys(places) if families else ():
        assert families is not None
        outer = place if shared.startswith(place) else shared
        whole = strip(canonical, outer) if outer else canonical
        found = list(_headed(whole.index, place[len(outer) :], families, near, choose, work))
        # A head in the library's own place says more than one of any name.
        placed = [match for match in found if match.head and not match.head.beside]
        settled = answer(whole, placed or found, database, choose) if found else None
        if settled is not None:
            return settled
    return None


def _headed(
    index: Index, prefix: str, families: Families, near: Sequence[str], choose: str, work: Work
) -> Iterator[Match]:
    """Each network of a family, with the head that it has. The first solutions are of a file that
    has a head in no family's words; with the library's head in its place they are found anew."""
    own = below_prefix(index, prefix)
    if len(own) < _MOST * len(index):
        return  # the larger part of the file is no head
    for rough in solutions(own, families, choose, near, work):
        first = _fitted(index, prefix, own, families.known(rough[0]), rough[1], choose)
        if first is None:
            continue
        plain = _as_if(own, prefix, families.known(rough[0]), rough[1], first)
        for number, solution in solutions(plain, families, choose, near, work):
            known = families.known(number)
            if solution.score < 1:
                continue
            found = _fitted(index, prefix, own, known, solution, choose)
            varied = variant_match(plain, known, solution, choose)
            if found is not None:
                yield with_head(varied, found)
        return


def _fitted(
    index: Index, prefix: str, own: Index, known: KnownFamily, solution: Solution, choose: str
) -> Match | None:
    if solution.score < _NEARLY or CLASSES not in solution.values:
        return None
    entry = variant_match(own, known, solution, choose).entry
    signature = _signature(known, solution, entry.id)
    if signature is None:
        return None
    return headed(index, prefix, signature, match(own, signature))


def _as_if(
    own: Index, prefix: str, known: KnownFamily, solution: Solution, found: Match
) -> dict[str, TensorSpec]:
    """The tensors as they would be with the library's own head, or with none where it leaves its
    head out."""
    assert found.head is not None
    new = {layer.name for layer in found.head.layers}
    plain = {k: spec for k, spec in own.items() if (prefix + k).rpartition(".")[0] not in new}
    if found.head.replaces:
        usual = _tensors(known, solution, found.entry.fields[CLASSES] or SOME)
        plain |= {key: spec_of(*usual[key]) for key in usual if key not in plain}
    return plain


def spec_of(shape: tuple[int, ...], dtype: str = "float") -> TensorSpec:
    """A tensor that stands for one that the file hasn't."""
    return TensorSpec("float32" if dtype == "float" else dtype, shape, Storage("", "", -1, 0))


def _tensors(known: KnownFamily, solution: Solution, classes: object) -> Tensors:
    return known.family.program.expand(within({**solution.values, CLASSES: classes}))


def _signature(known: KnownFamily, solution: Solution, entry: str) -> Signature | None:
    """What the family's rules say of a network with these values, for any number of classes; None
    where its entry can't be asked for another."""
    member = known.members[entry]
    if CLASSES not in member.entry.fields:
        return None
    try:
        some, more = (_tensors(known, solution, classes) for classes in (SOME, MORE))
    except ERRORS:  # a mixture that no network has
        return None
    try:
        none = _tensors(known, solution, 0) if member.headless else some
    except ERRORS:
        none = some
    return of_classes(known.groups[entry], member, (none, some, more))


def of_classes(
    number: int, member: SignatureMember, tensors: tuple[Tensors, Tensors, Tensors]
) -> Signature | None:
    """A signature from what a network has with no classes, SOME and MORE; None where these make no
    difference."""
    none, some, more = tensors
    if some.keys() != more.keys() or some == more:
        return None
    found = Signature.__new__(Signature)
    found.number = number
    found.members = [member]
    found.fixed, found.free = {}, {}
    for key, (shape, dtype) in {**none, **some}.items():
        sizes = tuple(map(_size, shape, more[key][0])) if key in some else shape
        condition = "" if key in none and key in some else CLASSES
        if key not in some:
            condition = f"not {CLASSES}"
        if condition or dtype != "float" or sizes != shape:
            found.free[key] = Line(key, sizes, dtype, condition)
        else:
            found.fixed[key] = shape
    return found


def _size(some: int, more: int) -> int | Size:
    """A size from what it is with some classes, and with more."""
    factor, rest = divmod(more - some, MORE - SOME)
    if rest or not factor:
        return some
    start = some - factor * SOME
    return Size({(CLASSES,): factor, (): start} if start else {(CLASSES,): factor})


def with_head(varied: Match, found: Match) -> Match:
    """A variant with a head of its own: how many classes the library is to make is the head's."""
    assert varied.variant is not None and found.head is not None
    moved = {path: value for path, value in varied.variant.moved.items() if path != CLASSES}
    usual = varied.entry.fields[CLASSES]
    if found.config.get(CLASSES) and found.config[CLASSES].value == 0 and usual:
        moved[CLASSES] = 0
    elif found.head.replaces and not usual:
        moved[CLASSES] = 2  # any head: it marks the place, and is replaced
    config: dict[str, Setting] = {k: s for k, s in varied.config.items() if k != CLASSES}
    return replace(
        found,
        entry=varied.entry,
        config=config | dict(found.config),
        twins=varied.twins,
        reasons=varied.reasons,
        variant=replace(varied.variant, moved=moved),
    )
