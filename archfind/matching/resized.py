"""A registered network whose layers have other sizes, each its own, as pruning leaves them: its
keys all, its kernels all, and sizes that go together. On the cold path of `archfind guess`, for
files that nothing else explains.

What is changed is only how many channels go from one layer to the next: a size that differs from
the network's must be that of another layer, which differs from the network's as much. Whether the
data really flows is tried when the network is built.
"""

from __future__ import annotations

from archfind.database.notation import Size, ordered
from archfind.evidence.hints import named_in_file
from archfind.evidence.listed import is_listed, root_class
from archfind.frozen import replace
from archfind.matching.compare import match, prior_names_first
from archfind.matching.shortlist import by_key_names
from archfind.state_dicts.canonical import kind
from archfind.types import Assumed, Guess, Setting, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.database.entries import Database, Signature
    from archfind.types import Canonical, Match, TensorSpec
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]
    Shape = tuple[int, ...]
    # of a layer: (in, out) as the network has it, and as the file has it
    Sizes = tuple[tuple[int, int], tuple[int, int]]

_CANDIDATES = 24  # networks of the same keys: a family at all its widths
_OF_LAYERS = frozenset("weight bias running_mean running_var".split())
_DIGITS = 6
_COLOURS = 16  # channels that a picture may have


def resized_network(
    canonical: Canonical, database: Database, choose: str, work: Work
) -> Guess | None:
    """The registered network with the fewest layers of other sizes; None where none has the file's
    tensors so."""
    best: tuple[tuple[int, bool], Match, Signature, Canonical] | None = None
    for number in by_key_names(canonical.index, database)[:_CANDIDATES]:
        if not work.allows(len(canonical.index)):
            break
        signature = database.signature(number)
        reading = _renumbered(canonical, signature)
        index = reading.index
        names = [m.entry.id for m in signature.members if choose in (m.entry.id, m.entry.name)]
        entries = named_in_file(canonical.checkpoint, [m.entry for m in signature.members])
        first = names[0] if choose and names else entries[0].id if entries else ""
        found = match(index, signature, first=first)
        if found.missing or found.unexpected or not found.mismatched:
            continue
        changed = _changed(index, signature, found)
        if changed is None and len(found.mismatched) == 1:
            return None  # damaged: what is pruned, or widened, has a layer that reads it as well
        rank = len(found.mismatched), not prior_names_first(signature)
        if changed is not None and (best is None or rank < best[0]):
            best = rank, _with_sizes(found, changed), signature, reading
    if best is None:
        return None
    canonical, signature = best[3], best[2]
    found = _judged(canonical, best[1])
    twins = any(not twin.same_function for twin in found.twins) and not prior_names_first(signature)
    if choose in (found.entry.id, found.entry.name):
        return Guess(canonical, "exact", (found,), "user")
    if twins:
        return Guess(canonical, "ambiguous", (found,), "")
    return Guess(canonical, "exact", (found,), "prior" if found.twins else "only")


def _renumbered(canonical: Canonical, signature: Signature) -> Canonical:
    """The state dict with the layers of a Sequential numbered as the network has them, where they
    are as many and none is its name: a Dropout before the first moves all."""
    own, theirs = _numbered([*signature.fixed, *signature.free]), _numbered(canonical.index)
    renamed: dict[str, str] = {}
    for parent, numbers in theirs.items():
        known = own.get(parent, [])
        if numbers != known and len(numbers) == len(known):
            pairs = zip(numbers, known, strict=True)
            renamed |= {f"{parent}.{old}.": f"{parent}.{new}." for old, new in pairs if old != new}
    if not renamed:
        return canonical

    def name(key: str) -> str:
        old = next((prefix for prefix in renamed if key.startswith(prefix)), "")
        return renamed[old] + key[len(old) :] if old else key

    steps = [Step("rename", f"{old[:-1]} -> {new[:-1]}") for old, new in renamed.items()]
    return replace(
        canonical,
        index={name(key): spec for key, spec in canonical.index.items()},
        origin={name(key): at for key, at in canonical.origin.items()},
        steps=(*canonical.steps, *steps),
    )


def _numbered(keys: Iterable[str]) -> dict[str, list[int]]:
    """The numbers of layers that have tensors, by the module that they stand in."""
    found: dict[str, set[int]] = {}
    for key in keys:
        parent, _, number = key.rpartition(".")[0].rpartition(".")
        if parent and number.isdecimal() and len(number) < _DIGITS:
            found.setdefault(parent, set()).add(int(number))
    return {parent: sorted(numbers) for parent, numbers in found.items()}


def _changed(index: Index, signature: Signature, found: Match) -> dict[str, Shape] | None:
    """The shapes of the layers' weights that differ, by path, where sizes go together."""
    wrong = {mismatch.key for mismatch in found.mismatched}
    fields = {name: setting.value for name, setting in found.config.items()}
    own: dict[str, Shape] = dict(signature.fixed)
    for key, line in signature.free.items():
        if key in index:
            own[key] = tuple(n.value(fields) if isinstance(n, Size) else n for n in line.shape)
    for key in wrong:
        spec, shape = index[key], own[key]
        alike = len(spec.shape) == len(shape) and kind(spec) == "float"
        if key.rpartition(".")[2] not in _OF_LAYERS or not alike or spec.shape[2:] != shape[2:]:
            return None
    layers = {
        key.rpartition(".")[0]: _sizes(own[key], index[key].shape)
        for key in ordered([*signature.fixed, *signature.free])
        if key.endswith("weight") and key in index and len(own[key]) in (1, 2, 4, 5)
    }
    if not all(_is_one_layer(key, own, index, layers) for key in wrong):
        return None
    first = next((path for path, (_, theirs) in layers.items() if theirs[0]), "")
    if not all(_goes_with(path, layers, path == first) for path in layers):
        return None
    return {path: index[f"{path}.weight"].shape for path in layers if f"{path}.weight" in wrong}


def _sizes(own: Shape, theirs: Shape) -> Sizes:
    """What a layer takes and gives, in the network and in the file: a norm what it takes, a
    depthwise convolution as many as it takes."""

    def of(shape: Shape) -> tuple[int, int]:
        outs, ins = (*shape[:2], *shape[:1])[:2]
        deep = len(shape) > 2 and ins == 1 and own[1] == 1
        return outs if deep else ins, outs

    return of(own), of(theirs)


def _is_one_layer(
    key: str, own: Mapping[str, Shape], index: Index, layers: Mapping[str, Sizes]
) -> bool:
    """Whether a tensor has as many numbers as its layer has outputs."""
    path, _, name = key.rpartition(".")
    if name == "weight" and len(own[key]) > 1:
        return True
    return path in layers and index[key].shape == (layers[path][1][1],)


def _goes_with(path: str, layers: Mapping[str, Sizes], is_first: bool) -> bool:
    """Whether what a layer takes, where the file has another size, is what another gives: changed
    from the same to the same, or as many pixels of it; and what it gives, what another takes."""
    (own_in, own_out), (in_, out) = layers[path]
    others = [sizes for name, sizes in layers.items() if name != path]
    takes = is_first and in_ <= _COLOURS
    takes = takes or own_in == in_ or any(_is_times(own_in, in_, a[1], b[1]) for a, b in others)
    gives = own_out == out or any(_is_times(a[0], b[0], own_out, out) for a, b in others)
    return takes and gives


def _is_times(own: int, theirs: int, own_given: int, given: int) -> bool:
    """Whether sizes are the same multiple of what another layer gives in the network and here."""
    pixels = own // own_given if own_given else 0
    return pixels > 0 and own == pixels * own_given and theirs == pixels * given


def _with_sizes(found: Match, changed: Mapping[str, Shape]) -> Match:
    """The match with the file's sizes; other colours alone are an argument of timm's."""
    (shape, *more) = changed.values()
    config = dict(found.config)
    resized = dict(changed)
    library = found.entry.provider == "timm"
    if library and not more and len(found.mismatched) == 1 and shape[1] <= _COLOURS:
        config["in_chans"] = Setting(shape[1], "shape")
        resized = {}
    return replace(
        found,
        config=config,
        matched=found.matched + len(found.mismatched),
        mismatched=(),
        resized=resized,
    )


def _judged(canonical: Canonical, found: Match) -> Match:
    """The match with what no tensor shows: nothing, where the file is the library's own class and
    lists every layer, or has other colours alone."""
    if not found.resized or (is_listed(canonical) and root_class(canonical) == found.entry.cls):
        return found
    told = root_class(canonical)
    what = "what no tensor shows (strides, groups, activations, eps) is that of"
    item = Assumed("arguments", what, found.entry.id)
    if told and told != found.entry.cls:
        what = f"what the file's class {told} computes is as"
        item = Assumed("implementation", what, found.entry.cls)
    return replace(found, assumed=(*found.assumed, item))
