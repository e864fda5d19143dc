"""A library's network under other names: found by its shapes, its keys led back by alignment.py.

Names say nothing here, so more is asked for: every tensor of the network, all in the file; enough
of them to be no coincidence; and one way alone to pair them. This module is on the cold path of
`archfind guess`, and runs only where nothing fits by name.
"""

from __future__ import annotations

from itertools import product

from archfind.database.notation import Size, ordered
from archfind.frozen import replace
from archfind.matching import shortlist
from archfind.matching.compare import condition_holds, match
from archfind.state_dicts.alignment import align
from archfind.state_dicts.canonical import kind
from archfind.state_dicts.key_names import natural, own_order, skeleton
from archfind.types import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from archfind.database.entries import Database, Signature
    from archfind.state_dicts.key_trees import Token
    from archfind.types import Canonical, Match, TensorSpec

    Index = Mapping[str, TensorSpec]

_TENSORS, _SHAPES = 20, 6  # what a network must have at least to be known by its shapes alone
_SORTED = "safetensors", "torch-sharded"  # formats that sort keys, or spread them over files
_WAYS = 256  # values of a signature's fields that are tried
_LONGER = 3.0  # times its tensors that a network may have of which the file has the beginning
_TRIED = 8  # signatures with the same shapes that are aligned


class Renaming:
    """One signature that has the file's tensors under other names. `whole`: one way alone pairs
    them all. `enough`: they are no coincidence. `notes` say what isn't certain, a line each."""

    __slots__ = ("canonical", "enough", "likeness", "match", "notes", "signature", "whole")

    def __init__(
        self,
        canonical: Canonical,
        signature: Signature,
        found: Match,
        likeness: int,
        whole: bool,
        enough: bool,
        notes: tuple[str, ...],
    ) -> None:
        self.canonical = canonical
        self.signature = signature
        self.match = found
        self.likeness = likeness
        self.whole = whole
        self.enough = enough
        self.notes = notes


def renamings(canonical: Canonical, database: Database) -> list[Renaming]:
    """Signatures with the same shapes, those whose names or order are most like the file's, the
    wholly paired first."""
    index, keeps_order = _ordered(canonical)
    if len(index) < 2:
        return []
    found: list[Renaming] = []
    for number in shortlist.by_shape(index, database):
        signature = database.signature(number)
        for expected in _expected(index, signature):
            one = _renamed(canonical, index, signature, expected, keeps_order)
            if one is not None:
                found.append(one)
        if len(found) >= _TRIED:
            break
    likeness = max((one.likeness for one in found), default=0)
    best = [one for one in found if one.likeness == likeness]
    others = ", ".join(one.match.entry.id for one in found if one.likeness < likeness)
    for one in best if others else ():
        one.notes += (
            f"{others} has the same shapes, and other names or another order, which decides",
        )
    return sorted(best, key=lambda one: (not one.whole, -one.match.matched))


def partly_renamed(canonical: Canonical, signature: Signature) -> Renaming | None:
    """The signature with some of its tensors under other names: what is missing and what is
    unexpected have the same shapes. None where names that are the library's have other shapes."""
    index, keeps_order = _ordered(canonical)
    for expected in _expected(index, signature):
        kept = {k for k, spec in index.items() if expected.get(k) == (kind(spec), spec.shape)}
        if not kept or any(key in expected for key in index if key not in kept):
            continue
        if not any(_is_body(key, signature) for key in expected if key not in kept):
            continue  # another head, which may bring its own pooling
        # Blocks that are all numbered one higher have most of their names in common: the names
        # are what is to be told, first of all.
        every = _renamed(canonical, index, signature, expected, keeps_order)
        if every is not None and every.whole:
            return every
        return _renamed(canonical, index, signature, expected, keeps_order, kept)
    return None


def _is_body(key: str, signature: Signature) -> bool:
    """Whether a tensor has nothing to do with the number of classes."""
    line = signature.free.get(key)
    if line is None:
        return True
    return line.condition != "num_classes" and not any(isinstance(n, Size) for n in line.shape)


def beginning(canonical: Canonical, database: Database) -> Renaming | None:
    """The network whose first tensors the file has, all of them, one after another: what is left
    where a getter of layers, or a Sequential of some of them, leaves out the end."""
    index, keeps_order = _ordered(canonical)
    floats = [(key, spec.shape) for key, spec in index.items() if kind(spec) == "float"]
    shapes = [shape for _, shape in floats]
    if not keeps_order or len(floats) < _TENSORS or len(set(shapes)) < _SHAPES:
        return None
    for number in shortlist.by_shape(index, database, least=1.0, largest=_LONGER):
        signature = database.signature(number)
        theirs = [key for key in ordered(signature.written) if key in signature.fixed]
        if [signature.fixed[key] for key in theirs[: len(floats)]] == shapes:
            pairs = dict(zip([key for key, _ in floats], theirs, strict=False))
            return _paired(canonical, signature, pairs)
    return None


def _paired(canonical: Canonical, signature: Signature, pairs: Mapping[str, str]) -> Renaming:
    """The state dict with pairs of names."""
    names = {key: pairs.get(key, key) for key in canonical.index}
    named = _with_names(canonical, names)
    result = match(named.index, signature)
    step = Step("rename", f"renamed, {len(pairs)} of {result.expected}")
    named = replace(named, steps=(*named.steps, step))
    return Renaming(named, signature, result, 0, False, True, ())


def _with_names(canonical: Canonical, names: Mapping[str, str]) -> Canonical:
    return replace(
        canonical,
        index={names[key]: spec for key, spec in canonical.index.items()},
        origin={names[key]: at for key, at in canonical.origin.items()},
        merged={names[key]: how for key, how in canonical.merged.items()},
    )


def _ordered(canonical: Canonical) -> tuple[Index, bool]:
    """The file's tensors, and whether they stand in the order of modules. Names that are numbered
    through are put into that order."""
    index = canonical.index
    first = skeleton(next(iter(index), ""))
    if index and all(skeleton(key) == first for key in index):
        return {key: index[key] for key in sorted(index, key=natural)}, True
    if canonical.checkpoint.format.startswith(_SORTED):
        return index, False
    kinds = {spec.dtype for spec in index.values()}
    names = [[key for key, spec in index.items() if spec.dtype == dtype] for dtype in kinds]
    return index, any(map(own_order, names))


def _expected(index: Index, signature: Signature) -> Iterator[dict[str, Token]]:
    """What the signature holds, in the order of its modules, for each value of its fields that
    makes its float tensors those of the file."""
    left = _counts((kind(spec), spec.shape) for spec in index.values() if kind(spec) == "float")
    for shape in signature.fixed.values():
        token = ("float", shape)
        if not left.get(token):
            return
        left[token] -= 1
    rest = {token: count for token, count in left.items() if count}
    floats = {key: line for key, line in signature.free.items() if line.dtype == "float"}
    if sum(rest.values()) > len(floats):
        return
    for fields in _fields(rest, signature):
        shapes = {
            key: tuple(n.value(fields) if isinstance(n, Size) else n for n in line.shape)
            for key, line in signature.free.items()
            if condition_holds(line.condition, fields)
        }
        if _counts(("float", shapes[key]) for key in shapes if key in floats) == rest:
            yield {
                key: ("float", signature.fixed[key])
                if key in signature.fixed
                else (signature.free[key].dtype, shapes[key])
                for key in ordered(signature.written)
                if key in signature.fixed or key in shapes
            }


def _fields(rest: Mapping[Token, int], signature: Signature) -> Iterator[dict[str, object]]:
    """Values of the fields that the tensors with other than fixed shapes could show."""
    defaults = signature.members[0].entry.fields
    values: dict[str, set[object]] = {name: {value} for name, value in defaults.items()}
    for line in signature.free.values():
        field = line.condition.removeprefix("not ")
        if field:
            values[field] |= {0} if field == "num_classes" else {True, False}
        for _, shape in rest:
            if len(shape) == len(line.shape):
                for size, found in zip(line.shape, shape, strict=True):
                    solved = size.solve(found) if isinstance(size, Size) else None
                    if solved:
                        values[solved[0]].add(solved[1])
    ways = 1
    for known in values.values():
        ways *= len(known)
    if ways <= _WAYS:
        for chosen in product(*(sorted(known, key=str) for known in values.values())):
            yield dict(zip(values, chosen, strict=True))


def _counts(tokens: Iterator[Token]) -> dict[Token, int]:
    counts: dict[Token, int] = {}
    for token in tokens:
        counts[token] = counts.get(token, 0) + 1
    return counts


def _renamed(
    canonical: Canonical,
    index: Index,
    signature: Signature,
    expected: dict[str, Token],
    keeps_order: bool,
    kept: Collection[str] = (),
) -> Renaming | None:
    """The state dict in the signature's names; `kept` are those that it has already."""
    ours = {key: (kind(spec), spec.shape) for key, spec in index.items() if key not in kept}
    expected = {key: token for key, token in expected.items() if key not in kept}
    # Of the integer tensors, which libraries make by themselves, a file has all of a shape or not.
    held, wanted = _counts(iter(ours.values())), _counts(iter(expected.values()))
    ours = {key: token for key, token in ours.items() if held[token] == wanted.get(token)}
    theirs = {key: token for key, token in expected.items() if wanted[token] == held.get(token)}
    found = align(ours, theirs, keeps_order)
    names = {key: found.pairs.get(key, key) for key in canonical.index}
    if len(set(names.values())) < len(names):
        return None
    renamed = _with_names(canonical, names)
    result = match(renamed.index, signature)
    count = sum(name != key for key, name in names.items())
    step = Step("rename", f"renamed, {count} of {result.expected}")
    renamed = replace(renamed, steps=(*renamed.steps, step))
    notes: list[str] = []
    open_keys = [key for key in ours if key not in found.pairs]
    if open_keys:
        shown = ", ".join(open_keys[:3]) + (" ..." if len(open_keys) > 3 else "")
        notes.append(
            f"the keys are renamed, and neither shapes nor names nor order tell which tensors "
            f"these {len(open_keys)} are: {shown}"
        )
    if found.by_order:
        notes.append(
            f"the keys are renamed; {found.by_order} tensors of equal shapes are told apart by "
            "their order in the file alone"
        )
    shapes = [spec.shape for spec in index.values() if kind(spec) == "float"]
    enough = len(shapes) >= _TENSORS and len(set(shapes)) >= _SHAPES
    if not enough:
        notes.append("the keys are renamed, and so few tensors may have these shapes by chance")
    whole = not open_keys and result.fits
    return Renaming(renamed, signature, result, found.likeness, whole, enough, tuple(notes))
