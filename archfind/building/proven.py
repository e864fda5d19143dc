"""Source -> Source: what no tensor shows, searched for until the written module gives what the
network is known to give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from time import monotonic

import torch
from torch import Tensor, nn

from archfind.building.from_source import imported_source
from archfind.building.instantiate import read_state
from archfind.errors import ArchfindError, BuildError
from archfind.frozen import replace
from archfind.sourcing.network import written
from archfind.sourcing.unseen import ACTIVATIONS
from archfind.types import Canonical, Source, Unseen

_SECONDS = 90.0
_TRIES = 1_500
_AGREES = 1e-4  # of the largest output
_WHOLE = tuple(name for name in ACTIVATIONS if name != "none")
_OTHERS: dict[str, tuple[object, ...]] = {
    "stride": (1, 2),
    "padding": (0, 1, 2, 3),
    "eps": (1e-5, 1e-6, 1e-3, 1e-12),
    "activation": _WHOLE,
    "final": ("none", "sigmoid", "tanh", "softmax", "log_softmax", "relu"),
}
_ROUNDS = 6  # of moves, each of which brings the outputs nearer

Tensors = tuple[Tensor, ...]


class Trial:
    """A network's written modules, each of which is run with other settings."""

    def __init__(self, canonical: Canonical) -> None:
        self.canonical = canonical
        self.state = read_state(canonical)
        self.tries = 0
        self.end = monotonic() + _SECONDS

    def outputs(
        self, settings: Mapping[str, object], inputs: Iterable[Tensors]
    ) -> list[list[Tensor]] | None:
        """What the module with these settings gives for each of the inputs; None where it doesn't
        run on them."""
        self.tries += 1
        try:
            source = written(self.canonical, settings)
            module: nn.Module = imported_source(source.text, is_kept=False).Model()
            cut = len(source.prefix)
            state = {key[cut:]: tensor for key, tensor in self.state.items()}
            module.load_state_dict(state, strict=True)
            with torch.no_grad():
                return [_flat(module.eval()(*one)) for one in inputs]
        except (ArchfindError, RuntimeError, TypeError, ValueError, IndexError, AssertionError):
            return None

    @property
    def is_over(self) -> bool:
        """Whether the time or the tries are used up."""
        return self.tries >= _TRIES or monotonic() > self.end


class PairTrial(Trial):
    """A network's written modules beside the outputs that it is known to give."""

    def __init__(self, canonical: Canonical, inputs: Tensors, wanted: Tensors) -> None:
        super().__init__(canonical)
        self.inputs = inputs
        self.wanted = wanted

    def difference(self, settings: Mapping[str, object]) -> float:
        """How far the module with these settings is from the outputs, of the largest of them;
        infinite where it doesn't run, or gives other shapes."""
        outputs = self.outputs(settings, [self.inputs])
        if outputs is None:
            return float("inf")
        given = outputs[0]
        if [tuple(one.shape) for one in given] != [tuple(one.shape) for one in self.wanted]:
            return float("inf")
        return max(
            float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-12))
            for a, b in zip(given, self.wanted, strict=True)
        )


def proven(
    canonical: Canonical,
    settings: Mapping[str, object],
    inputs: Tensors,
    outputs: Tensors,
    proof: str,
) -> Source:
    """The module whose outputs for `inputs` are `outputs`, to within 1e-4 of the largest: certain
    where nothing else that was tried gives them, too. `proof` names the pair. BuildError where
    nothing that was tried gives them."""
    base = written(canonical, settings)
    path = canonical.checkpoint.path
    if base.grade == "partial":
        raise BuildError("its forward is open: there is nothing to search", path)
    trial = PairTrial(canonical, inputs, outputs)
    found, nearest = _searched(trial, base, dict(settings))
    if found is None:
        near = f"; the nearest differs by {nearest:.1%} of the largest output"
        far = "; none of them gives that shape"
        text = f"none of {trial.tries} modules that were tried gives what {proof} say"
        raise BuildError(text + (near if nearest < 1e6 else far), path)
    open_places = _undecided(trial, canonical, found, settings)

    def judged(item: Unseen) -> Unseen:
        if item.source == "file":
            return item
        if item.place in open_places:
            return replace(item, reason=f"{item.reason}; {proof} agree with others, too")
        return replace(item, source="pair", reason=f"{proof} agree")

    source = written(canonical, found, judged=judged, is_proven=not open_places)
    return replace(source, chosen_by="pair")


def _searched(
    trial: PairTrial, base: Source, settings: dict[str, object]
) -> tuple[dict[str, object] | None, float]:
    """The settings with which the outputs agree, None where there are none, and the least
    difference. Single moves first, then pairs of those that hold for the whole network, then moves
    that bring the outputs nearer."""
    tried: dict[tuple[tuple[str, object], ...], float] = {}

    def difference(more: Mapping[str, object]) -> float:
        key = tuple(sorted(more.items(), key=str))
        if key not in tried:
            tried[key] = float("inf") if trial.is_over else trial.difference(settings | dict(more))
        return tried[key]

    best: dict[str, object] = {}
    if difference(best) <= _AGREES:
        return settings, tried[()]
    single = list(moves(base.unseen, settings))
    wide = [move for move in single if all("." not in place for place in move)]
    pairs = [a | b for a, b in combinations(wide, 2) if not set(a) & set(b)]
    for move in (*single, *pairs):
        if difference(move) <= _AGREES:
            return settings | move, difference(move)
        best = move if difference(move) < difference(best) else best
    for _ in range(_ROUNDS):
        # What another setting brings about may be asked for only now.
        now = written(trial.canonical, settings | best)
        nearer = min(
            (best | move for move in moves(now.unseen, settings | best)),
            key=difference,
            default=best,
        )
        if difference(nearer) >= difference(best):
            break
        best = nearer
        if difference(best) <= _AGREES:
            return settings | best, difference(best)
    return None, min(tried.values())


def moves(unseen: Sequence[Unseen], told: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Each other value that something unseen may have, but what a user `told`; the epsilons of all
    norms together."""
    epsilons = [item for item in unseen if item.place.endswith(".eps") and item.source != "file"]
    for value in _OTHERS["eps"] if epsilons else ():
        yield {item.place: value for item in epsilons if item.place not in told}
    for item in unseen:
        if item.source == "file" or item.place in told or item in epsilons:
            continue
        name = item.place.rpartition(".")[2]
        wide = _OTHERS.get(item.place) or (
            item.alternatives or _OTHERS.get(name, ("activation", "dropout"))
        )
        if name in ("dilation", "sample"):
            continue
        yield from ({item.place: value} for value in wide if value != item.value)


def _undecided(
    trial: PairTrial, canonical: Canonical, found: dict[str, object], told: Mapping[str, object]
) -> tuple[str, ...]:
    """The places for which another value would give the same outputs, as near, or for which time
    was up before one was tried; none of those that a user `told`."""
    limit = max(3 * trial.difference(found), 1e-6)
    held: dict[str, None] = {}
    source = written(canonical, found)
    for move in moves(source.unseen, told):
        other = {place: value for place, value in move.items() if value != found.get(place)}
        places = list(other)
        if not other or places[0] in held:
            continue
        if trial.is_over or trial.difference(found | other) <= limit:
            held |= dict.fromkeys(places)
    return tuple(held)


def _flat(given: object) -> list[Tensor]:
    if isinstance(given, Tensor):
        return [given]
    items = given.values() if isinstance(given, dict) else given
    return [one for item in items for one in _flat(item)]  # pyright: ignore
