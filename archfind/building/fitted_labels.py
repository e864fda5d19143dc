"""Source -> Source: what no tensor shows, searched for until the classes that the written module
gives for pictures agree with their labels as well as they can.

Labels are weaker evidence than outputs: what is chosen by them is never certain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import exp, lgamma, log, sqrt

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from archfind.building.labelled_pictures import LabelledPictures
from archfind.building.proven import Trial, moves
from archfind.errors import BuildError
from archfind.frozen import frozen, replace
from archfind.sourcing.network import written
from archfind.types import Canonical, Source, Unseen

_BATCH = 64
_ERRORS = 3.0  # standard errors of the difference, within which two agree as well
_BY_CHANCE = 0.01  # the probability, over all tries, above which the labels say nothing
_ROUNDS = 8
_STARTS = 6  # that moves are made from in each round
_DECIDES = 0.5  # of the labels: with fewer right, something that isn't searched for is wrong
# What outputs are multiplied by before they are compared, the best for each module: else one with
# smaller outputs would win over a network that is too sure of itself (temperature scaling, Guo et
# al., ICML 2017).
_SHARPNESS = tuple(2.0 ** (n / 4) for n in range(-16, 13))
# Labels say next to nothing about these: the largest output stays it, or changes by rounding.
_SILENT = ("final", "eps")

Settings = dict[str, object]


@frozen
class Agreement:
    """For which pictures a module gives the label (`right`: N booleans), and how much of its
    probability each label lacks (`losses`: N cross-entropies in nats)."""

    right: Tensor
    losses: Tensor

    @property
    def loss(self) -> float:
        """The mean of the losses."""
        return float(self.losses.mean())

    @property
    def count(self) -> int:
        """How many labels are right."""
        return int(self.right.sum())

    def is_worse_than(self, other: Agreement) -> bool:
        """Whether it has fewer right by more than chance makes, on the same pictures: McNemar's
        comparison (Psychometrika 1947) of those that only one of the two has right."""
        gained = int((other.right & ~self.right).sum())
        lost = int((self.right & ~other.right).sum())
        return gained - lost > _ERRORS * sqrt(gained + lost)

    def is_unlikelier_than(self, other: Agreement) -> bool:
        """Whether the labels lack more of their probability, by more than two standard errors."""
        more = self.losses - other.losses
        return float(more.mean()) > 2.0 * float(more.std()) / sqrt(len(more))


class LabelTrial(Trial):
    """A network's written modules beside the labels of pictures."""

    def __init__(self, canonical: Canonical, given: LabelledPictures, told: Settings) -> None:
        super().__init__(canonical)
        self.given = given
        self.told = told
        self.kept: dict[tuple[tuple[str, object], ...], Agreement | None] = {}

    def agreement(self, more: Settings) -> Agreement | None:
        """How far the module with these settings, besides the user's, agrees with the labels; None
        where it doesn't run on the pictures, gives no number for each class, or time is up."""
        key = tuple(sorted(more.items(), key=str))
        if key not in self.kept:
            self.kept[key] = None if self.is_over else self._agreement(self.told | more)
        return self.kept[key]

    def _agreement(self, settings: Mapping[str, object]) -> Agreement | None:
        pictures, labels = self.given.pictures, self.given.labels
        batches = [(one,) for one in pictures.split(_BATCH)]
        outputs = self.outputs(settings, batches)
        if outputs is None or any(not one for one in outputs):
            return None
        given = [one[0] for one in outputs]
        if any(one.dim() != 2 or one.shape[1] != self.given.classes for one in given):
            return None
        scores = torch.cat(given).double()
        if len(scores) != len(labels) or not scores.isfinite().all():
            return None
        losses = (cross_entropy(scores * by, labels, reduction="none") for by in _SHARPNESS)
        return Agreement(scores.argmax(1) == labels, min(losses, key=lambda one: float(one.mean())))


def fitted_to_labels(
    canonical: Canonical, settings: Mapping[str, object], given: LabelledPictures
) -> Source:
    """The module whose classes for the pictures agree the best with their labels, at most likely.
    Of those that agree as well, within three standard errors, it is the one that gives the labels
    the most probability, or the plainest of those that give as much within two. BuildError where
    none agrees with more of them than chance would."""
    base = written(canonical, settings)
    path = canonical.checkpoint.path
    if base.grade == "partial":
        raise BuildError("its forward is open: there is nothing to search", path)
    if base.grade == "certain":
        return base
    trial = LabelTrial(canonical, given, dict(settings))
    chosen, best = _searched(trial, base)
    total, where = len(given.labels), f"the labels in {given.folder}"
    if best is None:
        size = "x".join(map(str, given.pictures.shape[1:]))
        text = f"none of {trial.tries} modules that were tried gives {given.classes} numbers"
        raise BuildError(f"{text}, one for each folder, for pictures of {size}", path)
    if _chance(best.count, given) * trial.tries > _BY_CHANCE:
        text = f"none of {trial.tries} modules that were tried agrees with {where} better than"
        raise BuildError(f"{text} chance: the best has {best.count} of {total} right", path)
    chosen, best = _plainest(trial, best)
    compared = _compared(trial, chosen, best)
    is_weak = best.count < _DECIDES * total
    share = f"{best.count} of {total} labels are right"
    usual = {item.place: item.value for item in base.unseen}

    def judged(item: Unseen) -> Unseen:
        if item.source == "file" or item.place in settings:
            return item
        others = compared.get(item.place)
        if others is not None and not others and not is_weak:
            return replace(item, source="images", reason=f"{share}, fewer with other values")
        unsure = f"{share}; {where} say nothing of other values"
        if is_weak:
            unsure = f"{share}, too few to decide it"
        elif others:
            unsure = f"{share}; {where} fit other values as well: {', '.join(others)}"
        if item.place in chosen and usual.get(item.place) != item.value:
            return replace(item, source="likeliest", reason=unsure)
        return replace(item, reason=f"{item.reason}; {unsure}")

    source = written(canonical, {**settings, **chosen}, judged=judged)
    return replace(source, chosen_by="images", labels=(best.count, total))


def _searched(trial: LabelTrial, base: Source) -> tuple[Settings, Agreement | None]:
    """The settings that agree the best: single moves and pairs of those that hold for the whole
    network first, then moves from the best few, as long as they better the best. Few, since a
    wrong activation may agree the best only until the pooling is right."""
    first = list(_moves(base.unseen, trial.told))
    wide = [move for move in first if len(move) > 1 or "." not in next(iter(move))]
    pairs = [a | b for a, b in combinations(wide, 2) if not set(a) & set(b)]
    tried: list[Settings] = [{}, *first, *pairs]
    chosen, best = _best(trial, tried)
    for _ in range(_ROUNDS):
        if best is None or trial.is_over:
            break
        grown: list[Settings] = []
        for start in (chosen, *_few(trial, tried)):
            now = written(trial.canonical, trial.told | start)
            grown += [start, *(start | move for move in _moves(now.unseen, trial.told))]
        tried = grown
        nearer, agreement = _best(trial, tried)
        if nearer == chosen:
            break
        chosen, best = nearer, agreement
    return chosen, best


def _plainest(trial: LabelTrial, best: Agreement) -> tuple[Settings, Agreement]:
    """Of what agrees as well as the best, and gives the labels as much probability within the
    error, the one with the fewest settings that aren't the convention."""
    equals = [
        (dict(key), agreement)
        for key, agreement in trial.kept.items()
        if agreement is not None
        and not agreement.is_worse_than(best)
        and not agreement.is_unlikelier_than(best)
    ]
    return min(equals, key=lambda pair: (len(pair[0]), pair[1].loss))


def _few(trial: LabelTrial, tried: Sequence[Settings]) -> list[Settings]:
    """Those with the most right labels, and none that is another one by its outputs."""
    alike: dict[tuple[int, float], Settings] = {}
    for settings in tried:
        agreement = trial.agreement(settings)
        if agreement is not None:
            alike.setdefault((-agreement.count, round(agreement.loss, 9)), settings)
    return [alike[key] for key in sorted(alike)[:_STARTS]]


def _best(trial: LabelTrial, tried: Sequence[Settings]) -> tuple[Settings, Agreement | None]:
    """Of what agrees as well as the one with the most right labels, the one that gives them the
    most probability."""
    ran = [(one, agreement) for one in tried if (agreement := trial.agreement(one)) is not None]
    if not ran:
        return {}, None
    top = max((agreement for _, agreement in ran), key=lambda one: (one.count, -one.loss))
    equals = [pair for pair in ran if not pair[1].is_worse_than(top)]
    return min(equals, key=lambda pair: pair[1].loss)


def _moves(unseen: Sequence[Unseen], told: Mapping[str, object]) -> Iterator[Settings]:
    """Other values that labels may tell: of one place, and of all alike places together."""
    alike: dict[tuple[str, object], Settings] = {}
    for move in moves(unseen, told):
        place, value = next(iter(move.items()))
        name = place.rpartition(".")[2]
        if name in _SILENT:
            continue
        yield move
        if "." in place:
            alike.setdefault((name, value), {})[place] = value
    yield from (move for move in alike.values() if len(move) > 1)


def _compared(trial: LabelTrial, chosen: Settings, best: Agreement) -> dict[str, list[str]]:
    """For each place of which another value ran: the values that agree as well as the chosen one.
    A place is missing where time was up before all of its values were compared."""
    source = written(trial.canonical, trial.told | chosen)
    fits: dict[str, list[str]] = {}
    late: set[str] = set()
    for move in _moves(source.unseen, trial.told):
        for place, value in move.items() if len(move) == 1 else ():
            is_late = trial.is_over
            agreement = trial.agreement(chosen | move)
            if agreement is not None:
                fits.setdefault(place, [])
                if not agreement.is_worse_than(best):
                    fits[place].append(str(value))
            elif is_late:
                late.add(place)
    return {place: values for place, values in fits.items() if place not in late}


def _chance(right: int, given: LabelledPictures) -> float:
    """The probability of so many right labels, or more, where the classes are drawn: as often as
    the commonest label, which is the most that one answer for all pictures has."""
    total = len(given.labels)
    share = float(given.labels.bincount().max()) / total
    if share == 1.0 or not right:
        return 1.0
    return sum(
        exp(
            lgamma(total + 1) - lgamma(k + 1) - lgamma(total - k + 1)
            + k * log(share) + (total - k) * log(1 - share)
        )
        for k in range(right, total + 1)
    )  # fmt: skip
