"""The ways to read a state dict that a class of transformers may have written: under today's names,
without what TensorFlow and torch once called some tensors, and as its author's own code has it. On
the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.frozen import replace
from archfind.matching.dialects import dialect
from archfind.types import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from archfind.types import Canonical

_FEW = 4  # tensors set aside that are tried as the network's own


def dialect_readings(canonical: Canonical) -> list[Canonical]:
    """The state dict as it is, without the names that TensorFlow gave a norm's weights and torch
    once gave those of weight norm, and as its author's own code has it."""
    found = [canonical]
    norms = any(key.endswith((".gamma", ".beta")) for key in canonical.index)
    if any(key.endswith(".weight_g") for key in canonical.index):
        words = "weight_g, weight_v -> parametrizations.weight.original0, original1"
        found.insert(0, _renamed(canonical, _weight_norm, words))
    if norms:
        # A scale of a layer, or an activation's, has such a name as well.
        found.insert(0, _renamed(found[0], _norm, "gamma, beta -> weight, bias"))
    found = list({id(one): one for one in found}.values())
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


def is_foreign(reading: Canonical) -> bool:
    """Whether a reading takes the names for those of another's code."""
    return bool(reading.steps) and reading.steps[-1].detail.endswith("keys -> the library's")


def _renamed(
    canonical: Canonical, rename: Callable[[str, Mapping[str, object]], str], words: str
) -> Canonical:
    """The state dict under other names, or as it is where two tensors would have one name."""
    names = {key: rename(key, canonical.index) for key in canonical.index}
    if len(set(names.values())) < len(names):
        return canonical
    return replace(
        canonical,
        index={names[key]: spec for key, spec in canonical.index.items()},
        origin={names[key]: at for key, at in canonical.origin.items()},
        steps=(*canonical.steps, Step("rename", words)),
    )


def _weight_norm(key: str, index: Mapping[str, object]) -> str:
    root, _, last = key.rpartition(".")
    if last in ("weight_g", "weight_v") and f"{root}.weight_g" in index:
        return f"{root}.parametrizations.weight.original{int(last == 'weight_v')}"
    return key


def _norm(key: str, index: Mapping[str, object]) -> str:
    root, _, last = key.rpartition(".")
    word = {"gamma": "weight", "beta": "bias"}.get(last)
    return f"{root}.{word}" if root and word else key
