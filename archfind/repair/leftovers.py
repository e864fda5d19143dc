"""Keys that stand only in the file paired with those that stand only in the network."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

from archfind.repair.work import RepairWork, Want
from archfind.state_dicts.alignment import align
from archfind.state_dicts.canonical import kind
from archfind.types import TensorSpec

# What one framework, or one age of one, calls a tensor that another calls otherwise.
_SYNONYMS = (
    ("weight", "gamma", "kernel", "scale", "embedding", "w", "g"),
    ("bias", "beta", "b", "offset"),
    ("running_mean", "moving_mean", "mean", "_mean"),
    ("running_var", "moving_variance", "moving_var", "var", "variance", "_variance"),
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
    ("weight_orig", "parametrizations.weight.original"),
)
_CHANCE = 256  # numbers in a tensor whose shape two networks may share by chance
_CLASS = {word: group[0] for group in _SYNONYMS for word in group}


def pair_leftovers(work: RepairWork, by_shape: bool = False) -> None:
    """Rename what is plainly the same: by synonyms, by a lost or added prefix, by other marks
    between words; with `by_shape`, by where the shapes leave one way alone."""
    _pair(work, _synonym, "another dialect")
    _pair(work, _spelling, "another spelling")
    _suffixes(work)
    if by_shape:
        _aligned(work)


def _pair(work: RepairWork, normal: object, note: str) -> None:
    """Keys whose normal forms are equal, one on either side."""
    ours: dict[str, list[str]] = {}
    theirs: dict[str, list[str]] = {}
    for key in work.extra():
        ours.setdefault(normal(key), []).append(key)  # pyright: ignore
    for key in work.missing():
        theirs.setdefault(normal(key), []).append(key)  # pyright: ignore
    names: dict[str, str] = {}
    for form, keys in ours.items():
        others = theirs.get(form, [])
        if len(keys) == len(others) == 1 and _may_be(work.have[keys[0]], work.want[others[0]]):
            names[keys[0]] = others[0]
    work.rename(names, note)


def _synonym(key: str) -> str:
    for word in _CLASS:
        if "." in word and key.endswith(f".{word}"):
            return key.removesuffix(word) + _CLASS[word]
    parent, _, leaf = key.rpartition(".")
    return f"{parent}.{_CLASS.get(leaf, leaf)}"


def _spelling(key: str) -> str:
    """Letters and numbers alone."""
    parent = _synonym(key)
    return "".join(char for char in parent.casefold() if char.isalnum())


def _suffixes(work: RepairWork) -> None:
    """A prefix that some keys have and the others haven't, added or lost."""
    missing = work.missing()
    extra = work.extra()
    shorter: dict[str, list[str]] = {}
    for key in extra:
        for at, char in enumerate(key):
            if char in "./":
                shorter.setdefault(key[at + 1 :], []).append(key)
    names: dict[str, str] = {}
    for key in missing:
        found = shorter.get(key, [])
        if len(found) == 1 and _may_be(work.have[found[0]], work.want[key]):
            names[found[0]] = key
    longer: dict[str, list[str]] = {}
    for key in missing:
        for at, char in enumerate(key):
            if char == ".":
                longer.setdefault(key[at + 1 :], []).append(key)
    for key in extra:
        found = [name for name in longer.get(key, []) if name not in names.values()]
        alone = len(found) == 1 and key not in names and "." in key
        if alone and _may_be(work.have[key], work.want[found[0]]):
            names[key] = found[0]
    work.rename(names, "a prefix of some keys")


def _may_be(spec: TensorSpec, want: Want) -> bool:
    """Whether one is the other, perhaps with its axes in another order or single ones gone."""
    ours = sorted(n for n in spec.shape if n != 1)
    theirs = sorted(n for n in want.shape if n != 1)
    return ours == theirs or _size(spec.shape) == _size(want.shape)


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _aligned(work: RepairWork) -> None:
    """What shapes, names and order leave one way to pair, where numbers are equal on both sides."""
    missing, extra = work.missing(), work.extra()
    ours = {key: (kind(work.have[key]), work.have[key].shape) for key in extra}
    theirs = {key: (_kind(work.want[key].dtype), work.want[key].shape) for key in missing}
    held, needed = Counter(ours.values()), Counter(theirs.values())
    ours = {key: token for key, token in ours.items() if held[token] == needed[token]}
    theirs = {key: token for key, token in theirs.items() if held[token] == needed[token]}
    if not ours:
        return
    found = align(ours, theirs, True).pairs
    # A lone pair of vectors is more likely chance than a renaming; one of kernels isn't.
    names = {
        old: new
        for old, new in found.items()
        if len(found) > 3
        or _related(old, new)
        or (len(ours[old][1]) > 1 and _size(ours[old][1]) > _CHANCE)
    }
    work.rename(names, "other names, the same shapes in the same places")


def _related(old: str, new: str) -> bool:
    return bool(set(_words(old)[:-1]) & set(_words(new)[:-1])) or (
        _words(old)[-1] == _words(new)[-1] and len(_words(old)) == len(_words(new))
    )


def _words(key: str) -> list[str]:
    return key.replace("_", ".").split(".")


def _kind(dtype: str) -> str:
    return "float" if dtype.startswith(("float", "bfloat")) else dtype


def orders(rank: int) -> list[tuple[int, ...]]:
    """Every order of axes, the usual ones first."""
    return [*_USUAL.get(rank, ()), *permutations(range(rank))]


# torch's axes in what other frameworks keep: [in, out], [width, in, out], [h, w, in, out],
# depthwise [h, w, channels, 1], [out, h, w, in], transposed [in, out, h, w]
_USUAL: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((1, 0),),
    3: ((2, 1, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2)),
    4: ((3, 2, 0, 1), (2, 3, 0, 1), (0, 3, 1, 2), (1, 0, 2, 3)),
    5: ((4, 3, 0, 1, 2), (3, 4, 0, 1, 2), (0, 4, 1, 2, 3)),
}
