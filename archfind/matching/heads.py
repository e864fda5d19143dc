"""A library's network with another head: all but its last layers fits, and those are read.

What the head is comes from the signature alone: the lines that num_classes sizes, and what stands
in one module with them. All else must fit, key by key, and the new layers must take the features
that the library's own head takes. Nothing here knows an architecture by name, and nothing runs
unless no signature fits as it is. This module is on the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.database.entries import Signature
from archfind.database.notation import Line, Size
from archfind.frozen import replace
from archfind.matching.compare import match
from archfind.matching.head_assumptions import assumed_of_head
from archfind.matching.head_layers import describe_head, head_layers
from archfind.state_dicts.canonical import DERIVED
from archfind.state_dicts.key_names import number_in_key
from archfind.types import Head, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archfind.types import HeadLayer, Match, TensorSpec

    Index = Mapping[str, TensorSpec]

_CLASSES = "num_classes"
_HEADLESS = "not num_classes"
_OUTSIDE, _HEAD = 2, 200  # for each of a network's tensors, and beside: more is no head of it


class _Root:
    """A place where a library's head may be replaced: the module at `path`, or its children from
    number `start` on. `features` come in, as a vector or perhaps as a map that is pooled inside.
    `own`: num_classes=0 leaves out just this."""

    __slots__ = ("features", "own", "path", "start", "vector")

    def __init__(
        self, path: str, features: int, start: int = 0, own: bool = False, vector: bool = True
    ) -> None:
        self.path = path
        self.features = features
        self.start = start
        self.own = own
        self.vector = vector

    def holds(self, key: str) -> bool:
        if not key.startswith(self.path) or key[len(self.path) : len(self.path) + 1] != ".":
            return False
        if not self.start:
            return True
        return number_in_key(key[len(self.path) + 1 :].partition(".")[0]) >= self.start


def headed(
    index: Index, prefix: str, signature: Signature, near: Match, first: str = ""
) -> Match | None:
    """The match of `index` with a signature whose head gives way to what the file has instead; None
    where that isn't all that differs.

    The library's own keys stand below `prefix`; whatever stands outside must be the new head.
    `near` is how the signature matches below the prefix as it is.
    """
    if len(index) > _OUTSIDE * len(signature) + _HEAD:
        return None  # a whole model lies beside it, or many
    free = signature.free
    wrong = [k for k in near.missing if k not in free or free[k].condition != _HEADLESS]
    wrong += [m.key for m in near.mismatched]
    for root in _roots(signature):
        if all(root.holds(key) for key in wrong):
            found = _replaced(index, prefix, signature, root, first)
            if found is not None:
                return found
    return None


def pooled(index: Index, signature: Signature, near: Match) -> str:
    """A line for a head that takes twice the features: with average and maximum concatenated, in
    an order that nothing shows. "" for any other."""
    wrong = [*near.missing, *(m.key for m in near.mismatched)]
    for root in _roots(signature):
        own, root.features = root.features, root.features * 2
        if all(map(root.holds, wrong)) and _replaced(index, "", signature, root, ""):
            return (
                f"all but {root.path} fits, which takes {own * 2} features, twice the network's: "
                "perhaps average and maximum, concatenated after another pooling"
            )
    return ""


def head_places(signature: Signature) -> Iterator[tuple[str, bool]]:
    """The Linears that make the classes, and modules that hold no more than the head; whether
    num_classes=0 leaves out just this."""
    return ((root.path, root.own) for root in _roots(signature) if not root.start)


def head_settings(head: Head, source: str) -> dict[str, Setting]:
    """What a head is in words, by the place of each of its outputs."""
    if not head.layers:
        return {head.replaces: Setting("Identity", source)}
    found: dict[str, Setting] = {}
    for branch in dict.fromkeys(layer.branch for layer in head.layers):
        own = tuple(layer for layer in head.layers if layer.branch == branch)
        named = [f"{one.name}." for one in own if one.name and one.kind != "Identity"]
        place = _common(named) or "head"
        if not head.beside and not branch:
            place = f"{head.replaces}[{head.start}:]" if head.start else head.replaces
        found[place] = Setting(describe_head(own), source)
    return found


def _roots(signature: Signature) -> Iterator[_Root]:
    """Where the head may be replaced, the smallest part of the network first."""
    sized = {k: line for k, line in signature.free.items() if _sized(line)}
    every: dict[str, tuple[int | Size, ...]] = {}
    gone = _common([k for k, line in signature.free.items() if line.condition == _CLASSES])
    for key, line in sized.items():
        leaf, _, name = key.rpartition(".")
        if name != "weight" or len(line.shape) != 2 or not _plain(line):
            continue
        features = line.shape[1]
        if not isinstance(features, int) or not _alone(_Root(leaf, features), sized):
            continue
        yield _Root(leaf, features, own=gone == leaf)
        every = every or _floats(signature)
        parent, _, child = leaf.rpartition(".")
        if parent and child.isdecimal():
            if int(child):
                yield _Root(parent, features, int(child))
            # A Sequential: what comes in is what its first Linear takes, if that has at most a
            # Dropout before it. Were there room for two layers, they could be a pool and Flatten.
            first = next(k for k in every if k.startswith(f"{parent}."))
            whole = _Root(parent, _width(every[first], 2))
            place = first[len(parent) + 1 :].partition(".")[0]
            if whole.features and place in ("0", "1") and _alone(whole, sized):
                yield whole
        if gone and leaf.startswith(f"{gone}."):
            # Several layers that num_classes=0 leaves out together.
            first = next(k for k in every if k.startswith(f"{gone}."))
            width = _width(every[first], 2)
            whole = _Root(gone, width or _width(every[first], 1), own=True, vector=width > 0)
            if whole.features and _alone(whole, sized):
                yield whole


def _sized(line: Line) -> bool:
    return any(isinstance(size, Size) and _CLASSES in size.fields for size in line.shape)


def _plain(line: Line) -> bool:
    """Whether num_classes itself is the size: detectors have several values a class."""
    size = line.shape[0]
    return isinstance(size, Size) and size.terms == {(_CLASSES,): 1}


def _alone(root: _Root, sized: Mapping[str, Line]) -> bool:
    """Whether the classes come out of one Linear, below `root`. Others serve training alone where a
    switch of their own leaves them out."""
    weights = [k for k, line in sized.items() if len(line.shape) > 1 and root.holds(k)]
    outside = (line for k, line in sized.items() if not root.holds(k))
    return len(weights) == 1 and all(line.condition not in ("", _CLASSES) for line in outside)


def _floats(signature: Signature) -> dict[str, tuple[int | Size, ...]]:
    """Every float key with its shape: the lines without a field first, which is the order within a
    head, as the classes come last."""
    found: dict[str, tuple[int | Size, ...]] = dict(signature.fixed)
    found.update((k, line.shape) for k, line in signature.free.items() if line.dtype == "float")
    return found


def _width(shape: tuple[int | Size, ...], dimensions: int) -> int:
    """What a Linear of this shape takes, or a norm (of one dimension); 0 for anything else."""
    size = shape[-1] if len(shape) == dimensions else 0
    return size if isinstance(size, int) else 0


def _common(keys: list[str]) -> str:
    """The path of the smallest module that holds all the keys."""
    if not keys:
        return ""
    parts = keys[0].split(".")[:-1]
    for key in keys[1:]:
        other = key.split(".")
        same = 0
        while same < min(len(parts), len(other) - 1) and parts[same] == other[same]:
            same += 1
        parts = parts[:same]
    return ".".join(parts)


def _replaced(
    index: Index, prefix: str, signature: Signature, root: _Root, first: str
) -> Match | None:
    kept: dict[str, TensorSpec] = {}  # what must be the library's, under its names
    new: dict[str, TensorSpec] = {}  # what must be the head, under the file's
    tops = {key.partition(".")[0] for key in (*signature.fixed, *signature.free)}
    inside = 0
    for key, spec in index.items():
        own = key[len(prefix) :] if key.startswith(prefix) else ""
        held = root.holds(own)
        inside += held
        if own and not held and (own.partition(".")[0] in tops or own in DERIVED):
            kept[own] = spec
        else:
            new[key] = spec
    if inside and (inside < len(new) or not root.vector):
        return None
    if not new and (root.start or not _needed(signature, root)):
        return None  # what num_classes=0 gives is an ordinary match
    zero = root.own and not inside
    rest = _without(signature, root, zero)
    found = match(kept, rest, first) if rest.members else None
    if found is None or not found.fits:
        return None
    layers: tuple[HeadLayer, ...] = ()
    if new:
        base = prefix + root.path if inside else ""
        place = prefix[:-1]  # of a backbone in a Sequential the head is what comes next
        start = root.start if inside else number_in_key(place) + 1
        layers = head_layers(new, base, root.features, start, _ordered(index))
        if not layers or _bare(layers, _all_known(new, signature, prefix)):
            return None
    beside = bool(new) and not inside
    head = Head(layers, "" if zero else root.path, root.start, beside, prefix.rstrip("."))
    return _with(found, head, rest, zero, new)


def _without(signature: Signature, root: _Root, zero: bool) -> Signature:
    """The signature less what stands below a root. With `zero` the network is built without a head;
    otherwise with one, so that what num_classes=0 would leave out elsewhere must be there."""
    rest = Signature.__new__(Signature)
    rest.number = signature.number
    rest.members = [m for m in signature.members if m.headless or not zero]
    rest.fixed = {k: shape for k, shape in signature.fixed.items() if not root.holds(k)}
    rest.free = {}
    for key, line in signature.free.items():
        if root.holds(key) or line.condition == (_CLASSES if zero else _HEADLESS):
            continue
        settled = line.condition in (_CLASSES, _HEADLESS)
        condition = "" if settled else line.condition
        rest.free[key] = Line(line.pattern, line.shape, line.dtype, condition)
    return rest


def _ordered(index: Index) -> bool:
    """Whether the file has its keys in the order of the modules; some formats sort them."""
    names = [key for key, spec in index.items() if "float" in spec.dtype]
    return names != sorted(names)


def _needed(signature: Signature, root: _Root) -> bool:
    """Whether the library itself can't leave out what stands below a root."""
    return any(root.holds(key) for key in signature.fixed) or any(
        root.holds(key) and line.condition != _CLASSES for key, line in signature.free.items()
    )


def _all_known(new: Index, signature: Signature, prefix: str) -> bool:
    names = (key[len(prefix) :] for key in new)
    return all(name in signature.fixed or name in signature.free for name in names)


def _bare(layers: tuple[HeadLayer, ...], known: bool) -> bool:
    """Whether a bias is missing, rather than left out: where the library has all these keys, and a
    bias with them; or where an output is a Linear and nothing else, which is as likely a table of
    embeddings, or the class centres of a loss."""
    for branch in {layer.branch for layer in layers}:
        own = [one for one in layers if one.branch == branch and one.kind != "Identity"]
        if any(layer.kind == "Linear" and not layer.bias for layer in own) and (
            known or len(own) == 1
        ):
            return True
    return False


def _with(found: Match, head: Head, rest: Signature, zero: bool, new: Index) -> Match:
    """The match with its head: settings say what the head is, counts include its tensors."""
    config = dict(found.config)
    if zero:
        config[_CLASSES] = Setting(0, "shape")
    elif not any(map(_sized, rest.free.values())):
        config.pop(_CLASSES, None)  # the library's own head is built only to be replaced
    items = assumed_of_head(head)
    config |= head_settings(head, "assumed" if items else "shape")
    norms = [layer.name for layer in head.layers if layer.kind == "BatchNorm1d"]
    counters = (f"{name}.num_batches_tracked" for name in norms)
    return replace(
        found,
        config=config,
        head=head,
        assumed=(*found.assumed, *items),
        matched=found.matched + len(new),
        expected=found.expected + len(new),
        tolerated=(*found.tolerated, *(key for key in counters if key not in new)),
    )
