"""Numbers that sizes are made of together, moved all at once: widths that are sums of floats,
rounded, which no equation holds exactly for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from archfind.probing.probe import Moves, Shapes

_STEP = 0.1  # of a number, that shows its slopes
_STEPS = 8  # of all numbers at once
_FLAT = 1e-3  # of the steepest direction: what only rounding makes differ
_NEAR = 0.04  # of a rate: where simpler ones are looked for
_SIMPLE = 24  # of these
_CLOSE = 4e-4  # the mean of the sizes' squares that is as good as rounding leaves it
_BETTER = 0.999  # of what was left before


class Slopes:
    """Steps of Gauss and Newton, in shares of each number, from a network's `shapes` towards the
    `target`: the least squares of all sizes that both have, in shares of the target's. `build`
    gives the shapes with other numbers, None where the class refuses them. After `end` no step is
    made."""

    def __init__(
        self,
        build: Callable[[Moves], Shapes | None],
        shapes: Shapes,
        target: Shapes,
        end: float = math.inf,
    ) -> None:
        self._build = build
        self._end = end
        self._keys = [
            k for k, (s, _) in shapes.items() if len(target.get(k, ((), ""))[0]) == len(s)
        ]
        self._ranks = [len(shapes[key][0]) for key in self._keys]
        self._wanted = self._of(target)

    def settled(
        self, numbers: Mapping[str, float], held: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """The numbers after steps until none gets any nearer, others being `held`."""
        held = held or {}
        now = self._sizes({**held, **numbers})
        signs = dict.fromkeys(numbers, 1)
        numbers = dict(numbers)
        for _ in range(_STEPS if now is not None else 0):
            assert now is not None
            if time.monotonic() > self._end:
                break
            for turn in (1, -1):  # a slope may be another one in the other direction
                step = self._step(numbers, held, now, {p: turn * s for p, s in signs.items()})
                then = self._sizes({**held, **step})
                if then is not None and self._left(then) < _BETTER * self._left(now):
                    break
            else:
                break
            signs = {p: 1 if step[p] >= value else -1 for p, value in numbers.items()}
            numbers, now = step, then
            if not self._left(now):
                break
        return {**held, **numbers}

    def rounded(self, numbers: Mapping[str, float], held: str = "") -> Iterator[dict[str, float]]:
        """These numbers, and others near: one of the rates simple, or a whole number the next,
        the others settled for it; the one that is `held` stays as it is."""
        yield dict(numbers)
        same = {path: value for path, value in numbers.items() if path == held}
        for path, value in numbers.items():
            if path == held:
                continue
            whole = isinstance(value, int)
            rest = {p: v for p, v in numbers.items() if p not in (path, held)}
            for other in (value - 1, value + 1, value - 2, value + 2) if whole else simple(value):
                if other > 0:
                    yield self.settled(rest, {**same, path: other})

    def is_near(self, numbers: Mapping[str, float]) -> bool:
        """Whether the sizes are so near the target's that rounding may be what's left."""
        sizes = self._sizes(numbers)
        return sizes is not None and self._left(sizes) < _CLOSE * len(sizes)

    def _step(
        self,
        numbers: Mapping[str, float],
        held: Mapping[str, float],
        now: np.ndarray,
        signs: Mapping[str, int],
    ) -> dict[str, float]:
        slopes: dict[str, np.ndarray] = {}
        for path, value in numbers.items():
            for sign in (signs[path], -signs[path]):
                step = sign * _STEP * value
                whole = isinstance(value, int)
                other = value + (sign * max(1, round(abs(step))) if whole else step)
                then = self._sizes({**held, **numbers, path: other}) if other > 0 else None
                if then is not None:
                    if (then != now).any():
                        slopes[path] = (then - now) / self._wanted / ((other - value) / value)
                    break
        if not slopes:
            return dict(numbers)
        matrix = np.stack(list(slopes.values()), axis=1)
        shares = np.linalg.lstsq(matrix, (self._wanted - now) / self._wanted, rcond=_FLAT)[0]
        found = dict(numbers)
        for path, share in zip(slopes, shares, strict=True):
            value = numbers[path]
            new = value * float(np.clip(1 + share, 0.2, 5))
            found[path] = max(1, round(new)) if isinstance(value, int) else float(f"{new:.6g}")
        return found

    def _sizes(self, numbers: Mapping[str, float]) -> np.ndarray | None:
        shapes = self._build(dict(numbers))
        if shapes is None or [len(shapes.get(k, ((), ""))[0]) for k in self._keys] != self._ranks:
            return None
        return self._of(shapes)

    def _of(self, shapes: Shapes) -> np.ndarray:
        return np.array([max(n, 1) for key in self._keys for n in shapes[key][0]], dtype=float)

    def _left(self, sizes: np.ndarray) -> float:
        return float((((self._wanted - sizes) / self._wanted) ** 2).sum())


def simple(value: float) -> list[float]:
    """Rates near this one, the simplest first: of two digits, of sixteenths, of three digits."""
    two = [float(f"{value * (1 + _NEAR * n / 8):.2g}") for n in range(-8, 9)]
    sixteenths = [n / 16 for n in range(round(16 * value) - 1, round(16 * value) + 2)]
    three = sorted(
        (float(f"{value * (1 + _NEAR * n / 16):.3g}") for n in range(-16, 17)),
        key=lambda n: abs(n - value),
    )
    near = [n for n in two + sixteenths if 0 < abs(n - value) <= _NEAR * value]
    return list(dict.fromkeys([*near, *three]))[:_SIMPLE]
