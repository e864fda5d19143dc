"""The state dict inside a checkpoint, under its network's names: Checkpoint -> Canonical."""

from __future__ import annotations

from collections.abc import Mapping

from archfind.frozen import frozen
from archfind.types.files import NOTHING, Checkpoint, TensorSpec


@frozen
class Step:
    """One thing done between the file's keys and the network's: ("unwrap", "state_dict")."""

    kind: str  # unwrap | strip | set aside | tolerate | rename
    detail: str


@frozen
class Quantisation:
    """What torch's own quantisation did to a network: `kind` is static, dynamic or training (fake
    quantisation), `style` eager or fx. `layers` are those that it changed, by their paths below
    `prefix`; `by_channel`: weights have a scale for each output. `keys` has the file's keys by
    the names in the state dict; `folded` are pairs of a layer and the norm that went into it;
    `halves`: weights are floats of half precision, not integers."""

    kind: str
    style: str
    layers: tuple[str, ...]
    by_channel: bool
    prefix: str
    keys: Mapping[str, str]
    folded: tuple[tuple[str, str], ...] = ()
    halves: bool = False


@frozen
class Canonical:
    """The state dict inside a checkpoint, under the names its network would use.

    `index` maps canonical keys to specs; `origin` maps each back to its key in the file; `aside`
    holds the file's keys that belong to no network (optimizer state, raw weights beside averaged).
    `merged` has, for a weight stored as a parametrisation, how to compute it and from which keys.
    `whole` is the state dict under its own names where `index` has only what is below a prefix, and
    the answer is about all of it; else it's empty. `quantisation` is there where the tensors are
    those that the network had before torch quantised it.
    """

    checkpoint: Checkpoint
    index: Mapping[str, TensorSpec]
    origin: Mapping[str, str]
    steps: tuple[Step, ...] = ()
    aside: tuple[str, ...] = ()
    merged: Mapping[str, tuple[str, ...]] = NOTHING
    whole: Mapping[str, TensorSpec] = NOTHING
    quantisation: Quantisation | None = None
