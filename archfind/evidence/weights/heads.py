"""How many heads a network's attention has, by two statistics of its weights.

Nothing in keys or shapes says into how many heads a projection is cut. Training does: a head's rows
are learned as a unit. Both statistics compare sizes of a head by the Bayesian information criterion
(Schwarz 1978, https://doi.org/10.1214/aos/1176344136); the margins were fixed on networks that
`benchmarks/weigh_heads.py` trains.
"""

from __future__ import annotations

import numpy as np

from archfind.frozen import frozen
from archfind.types import Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.evidence.weights.arrays import Array

MARGIN = 20.0  # of BIC, over the next size and over no heads at all
_SMALLEST = 4  # rows of a head
_ROWS = 1_024  # of keys, whose pairs are compared
_ACROSS = 0.5  # of the likeness within a head, at most, across heads
_SAME = 1e-9  # by which numbers may differ that were set alike
_TINY = 1e-12


@frozen
class Attention:
    """The projections of one attention: `query` of shape (heads * size, width), `key` and `value`
    of shape (shared heads * size, width), `output` of shape (width, heads * size) or None."""

    query: Array
    key: Array
    value: Array
    output: Array | None


def possible_head_sizes(layers: Sequence[Attention]) -> list[int]:
    """The sizes of a head that all layers could be cut into, the whole width left out."""
    width = layers[0].query.shape[0]
    shared = layers[0].key.shape[0]
    return [d for d in range(_SMALLEST, width // 2 + 1) if width % d == 0 and shared % d == 0]


def head_size(layers: Sequence[Attention], place: str) -> Verdict | None:
    """The size of a head, where both statistics agree or one speaks and the other is silent."""
    layers = [layer for layer in layers if _is_alike(layer, layers[0])]
    said = [_best(scores) for scores in (by_norms(layers), by_coupling(layers))]
    clear = [(size, margin) for size, margin in said if margin >= MARGIN]
    if not clear or len({size for size, _ in clear}) > 1:
        return None
    return Verdict("head norms and coupling", place, clear[0][0], max(m for _, m in clear), MARGIN)


def _is_alike(layer: Attention, first: Attention) -> bool:
    return layer.query.shape == first.query.shape and layer.key.shape == first.key.shape


def _best(scores: dict[int, float]) -> tuple[int, float]:
    """The size with the best score, and by how much it is better than the next and than 0, which is
    what no heads at all come to."""
    ranked = sorted(scores, key=lambda size: -scores[size])
    if not ranked:
        return 0, 0.0
    rest = max([0.0, *(scores[size] for size in ranked[1:2])])
    return ranked[0], scores[ranked[0]] - rest


def by_norms(layers: Sequence[Attention]) -> dict[int, float]:
    """By the size of a head, how much better means of log norms by head explain the rows of query,
    key and value and the columns of the output than one mean does, in BIC summed over layers."""
    scores = dict.fromkeys(possible_head_sizes(layers), 0.0)
    for layer in layers:
        sides = [layer.query, layer.key, layer.value]
        if layer.output is not None:
            sides.append(layer.output.T)
        for side in sides:
            norms = np.log(np.linalg.norm(side.astype(np.float64), axis=1) + _TINY)
            count = len(norms)
            whole = _spread(norms - norms.mean())
            if whole < _SAME * count:
                continue
            for size in scores:
                blocks = norms.reshape(-1, size)
                inside = _spread(blocks - blocks.mean(axis=1, keepdims=True))
                gain = count * np.log(whole / inside) - (count // size - 1) * np.log(count)
                scores[size] += float(gain)
    return scores


def _spread(residuals: np.ndarray) -> float:
    return float((residuals**2).sum()) + _TINY


def by_coupling(layers: Sequence[Attention]) -> dict[int, float]:
    """By the size of a head, how much better two means, of pairs within a head and of pairs across,
    explain how alike two rows are on both sides of a product, in BIC.

    Gradient flow keeps W_q W_q' - W_k W_k' within a head as it was, and couples nothing across
    heads (Du, Hu, Lee 2018, https://arxiv.org/abs/1806.00900, for products of linear layers); so
    does it for values and outputs."""
    layers = [_narrowed(layer) for layer in layers]
    scores = dict.fromkeys(possible_head_sizes(layers), 0.0)
    rows, group = layers[0].key.shape[0], layers[0].query.shape[0] // layers[0].key.shape[0]
    upper = np.triu_indices(rows, 1)
    for sides in ("query key", "value output"):
        # Without shared keys the matrices are the same whatever the size.
        totals = {size: _coupling(layers, sides, size, upper) for size in scores if group > 1}
        common = _coupling(layers, sides, 0, upper) if group == 1 else None
        for size in scores:
            total = totals[size] if common is None else common
            if total.any():
                scores[size] += _two_means(total, upper[0] // size == upper[1] // size)
    return scores


def _narrowed(layer: Attention) -> Attention:
    """The attention's first rows, as many as tell: pairs grow with the square of the rows."""
    shared = layer.key.shape[0]
    if shared <= _ROWS or shared % _ROWS:
        return layer
    many = _ROWS * layer.query.shape[0] // shared
    output = layer.output
    return Attention(
        layer.query[:many],
        layer.key[:_ROWS],
        layer.value[:_ROWS],
        None if output is None else output[:, :many],
    )


def _coupling(
    layers: Sequence[Attention], sides: str, size: int, upper: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """For each pair of rows, how alike the two are on both sides, summed over layers."""
    total = np.zeros(len(upper[0]))
    for layer in layers:
        pair = _grams(layer, sides, size)
        if pair is not None and min(np.ptp(gram[upper]) for gram in pair) > _SAME:
            first, second = (_normal_scores(gram[upper]) for gram in pair)
            total += first * second
    return total


def _grams(layer: Attention, sides: str, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The Gram matrices of both sides of a product, of as many rows as keys have: where several
    queries share a key, the mean over those."""
    if sides == "query key":
        many, few = layer.query, layer.key
    elif layer.output is not None:
        many, few = layer.output.T, layer.value
    else:
        return None
    rows = few.shape[0]
    group = many.shape[0] // rows
    if group == 1:
        return many @ many.T, few @ few.T
    parts = many.reshape(rows // size, group, size, -1)
    mean = np.zeros((rows, rows), np.float32)
    for member in range(group):
        own = parts[:, member].reshape(rows, -1)
        mean += own @ own.T
    return mean, few @ few.T


def _normal_scores(values: np.ndarray) -> np.ndarray:
    """Ranks as quantiles of a normal distribution, by Tukey's lambda, which needs no table."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
    share = (ranks - 0.5) / len(values)
    return 4.91 * (share**0.14 - (1 - share) ** 0.14)


def _two_means(values: np.ndarray, is_inside: np.ndarray) -> float:
    """The gain in BIC of two means over one, where rows are alike within a head and not across: a
    likeness of all rows comes from the inputs."""
    count = len(values)
    inside, outside = values[is_inside], values[~is_inside]
    if not len(inside) or not len(outside):
        return 0.0
    if inside.mean() <= 0 or abs(outside.mean()) > _ACROSS * inside.mean():
        return 0.0
    whole = _spread(values - values.mean())
    apart = _spread(inside - inside.mean()) + _spread(outside - outside.mean())
    return float(count * np.log(whole / apart) - np.log(count))
