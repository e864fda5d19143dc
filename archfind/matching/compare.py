"""A state dict against a signature, and against all of them. Pure functions of the two."""

from __future__ import annotations

from archfind.database.notation import Size
from archfind.state_dicts.canonical import DERIVED, is_derived, kind
from archfind.types import Match, Mismatch, Setting, Twin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from archfind.database.entries import Signature, SignatureMember
    from archfind.database.notation import Line
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]


def match(index: Index, signature: Signature, first: str = "") -> Match:
    """How well `signature` explains `index`: fields are elected by the tensors that show them, then
    every tensor is held against what the elected fields give. `first` names the twin to answer
    with."""
    fields = _elect(index, signature)
    fixed = signature.fixed
    # A small file is held against many large networks, nearly all of whose tensors it lacks.
    missing = [key for key in fixed if key not in index]
    mismatched: list[Mismatch] = []
    tolerated: list[str] = []
    matched = 0
    expected = len(fixed)
    for key in [key for key in fixed if key in index] if len(missing) < expected else ():
        spec, shape = index[key], fixed[key]
        if spec.shape == shape and kind(spec) == "float":
            matched += 1
        else:
            mismatched.append(mismatch(key, spec, shape, "float"))
    absent: list[str] = []
    for key, line in signature.free.items():
        spec = index.get(key)
        if not condition_holds(line.condition, fields):
            absent.append(key)
            continue
        expected += 1
        shape = tuple(n.value(fields) if isinstance(n, Size) else n for n in line.shape)
        if spec is None and _derived(key, line):
            tolerated.append(key)
            expected -= 1
        elif spec is None:
            missing.append(key)
        elif spec.shape == shape and kind(spec) == line.dtype:
            matched += 1
        else:
            mismatched.append(mismatch(key, spec, shape, line.dtype))
    unexpected: list[str] = []
    known = matched + len(mismatched)
    if known < len(index):
        expects = {*signature.fixed, *signature.free}.difference(absent)
        for key in [key for key in index if key not in expects]:
            (tolerated if key[key.rfind(".") + 1 :] in DERIVED else unexpected).append(key)
    members = _able(signature.members, fields)
    chosen = next((m for m in members if m.entry.id == first), members[0])
    config = {k: Setting(v, "shape") for k, v in fields.items()}
    return Match(
        entry=chosen.entry,
        config=config,
        expected=expected,
        matched=matched,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        mismatched=tuple(mismatched),
        tolerated=tuple(tolerated),
        twins=tuple(
            Twin(m.entry.provider, m.entry.name, m.function == chosen.function, m.differs)
            for m in members
            if m is not chosen
        ),
    )


def compared(
    index: Index,
    expected: Mapping[str, tuple[tuple[int, ...], str]],
    is_stray: Callable[[str, TensorSpec], bool],
    tied: Collection[str] = (),
) -> Match:
    """A state dict against the keys, shapes and dtypes of one network; `is_stray` says which of the
    file's other tensors it does without, `tied` which of the network's it may lack. Entry and
    config are the caller's."""
    matched = 0
    missing: list[str] = []
    mismatched: list[Mismatch] = []
    tolerated = list(tied)
    for key, (shape, dtype) in expected.items():
        spec = index.get(key)
        if key in tied:
            continue
        if spec is None:
            (tolerated if is_derived(key, dtype) else missing).append(key)
        elif spec.shape == shape and (dtype != "float" or kind(spec) == dtype):
            matched += 1
        else:
            mismatched.append(mismatch(key, spec, shape, dtype))
    unexpected: list[str] = []
    for key, spec in index.items():
        if key not in expected:
            (tolerated if is_stray(key, spec) else unexpected).append(key)
    return Match(
        entry=None,  # pyright: ignore[reportArgumentType]
        config={},
        expected=matched + len(mismatched) + len(missing),
        matched=matched,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        mismatched=tuple(mismatched),
        tolerated=tuple(tolerated),
    )


def prior_names_first(signature: Signature) -> bool:
    """Whether the prior names the first member as the one that people mean."""
    return signature.members[0].plain


def _able(members: list[SignatureMember], fields: Mapping[str, object]) -> list[SignatureMember]:
    """The members whose library can build these fields: not all can leave the head out."""
    if fields.get("num_classes") == 0:
        return [m for m in members if m.headless] or members
    return members


def _elect(index: Index, signature: Signature) -> dict[str, object]:
    """The fields' values that most tensors show; a field that no tensor shows keeps its default."""
    votes: dict[str, dict[int, int]] = {}
    present: dict[str, int] = {}
    for key, line in signature.free.items():
        spec = index.get(key)
        if line.condition:
            present[line.condition] = present.get(line.condition, 0) + (spec is not None)
        if spec is None or len(spec.shape) != len(line.shape):
            continue
        for size, found in zip(line.shape, spec.shape, strict=True):
            solved = size.solve(found) if isinstance(size, Size) else None
            if solved:
                counts = votes.setdefault(solved[0], {})
                counts[solved[1]] = counts.get(solved[1], 0) + 1
    fields: dict[str, object] = dict(signature.members[0].entry.fields)
    for field, counts in votes.items():
        # The default breaks a tie, so that one damaged tensor of two is the one that is named.
        fields[field] = max(counts, key=lambda n: (counts[n], n == fields.get(field), -n))
    for condition, count in present.items():
        field = condition.removeprefix("not ")
        if field == "num_classes":
            fields[field] = fields[field] if count else 0
        elif condition == field:
            fields[field] = count > 0
        elif field not in present:
            fields[field] = count == 0
    return fields


def condition_holds(condition: str, fields: Mapping[str, object]) -> bool:
    """Whether a line's condition is met."""
    if not condition:
        return True
    if condition.startswith("not "):
        return not fields[condition[4:]]
    return bool(fields[condition])


def _derived(key: str, line: Line) -> bool:
    """Counters, index tables and the like, which the library makes by itself."""
    return line.dtype != "float" or key.rpartition(".")[2] in DERIVED


def mismatch(key: str, spec: TensorSpec, shape: tuple[int, ...], dtype: str) -> Mismatch:
    found, wanted = str(list(spec.shape)), str(list(shape))
    if kind(spec) != dtype:
        found, wanted = f"{found} {spec.dtype}", f"{wanted} {dtype}"
    return Mismatch(key, found, wanted)
