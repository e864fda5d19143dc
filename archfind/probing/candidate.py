"""A class with some of its arguments moved, and how far its tensors are from a file's."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterable, Mapping

from torch import nn

from archfind.classes.expression import Expression, parse_expression
from archfind.probing.config import Config, Leaf, leaves_of_config, moved
from archfind.probing.equations import equations, solved_leaves
from archfind.probing.misfit import axes, key_template, misfit
from archfind.probing.probe import Moves, Shapes, on_meta, shapes_of
from archfind.probing.proposals import annotated, literals
from archfind.probing.trace import Refused, Traced, trace

_GIVEN_WAY = 12  # leaves that may be moved so that a class takes the others
_FIRST = 20.0  # seconds that the first network may take to be built
_SHORT = 1.0  # seconds that any network may take to be built ...
_LONGER = 6  # ... or as many times as long as the first
_FACTORS = 512


class ProbedArguments:
    """`moves` are the class's leaves at other values than the config's, `shapes` its tensors then,
    `cost` how far they are from the target, 0 where every one fits. What it's asked for it builds
    on the meta device, at most until `end`."""

    def __init__(
        self,
        cls: Callable[..., nn.Module],
        config: Config,
        target: Shapes,
        known: Mapping[str, Iterable[Leaf]],
    ) -> None:
        self._cls = cls
        self.config = config
        self.target = target
        self.axes = axes(target)
        self.end = 0.0
        self.known = {path: list(values) for path, values in known.items()}
        self.hints = literals(cls) if isinstance(cls, type) else {}
        if isinstance(cls, type):
            for path, values in annotated(cls, leaves_of_config(config)).items():
                self.hints.setdefault(path, []).extend(values)
        self._costs: dict[frozenset[tuple[str, str]], tuple[float | None, int]] = {}
        self.reach: dict[str, set[str]] = {}  # leaf -> templates of the keys that it moves
        self.refused: list[Moves] = []
        self.unmet: Moves = {}  # a solution that the class doesn't take
        self.shown: set[str] = set()  # leaves that sizes and counts were seen to be made of
        self._tries = 0
        self._limit = _FIRST  # seconds for one network
        self.moves: Moves = {}
        start = time.monotonic()
        self.shapes = self._first = self.built({}) or {}
        self._limit = max(_SHORT, _LONGER * (time.monotonic() - start))
        self.cost = misfit(self.shapes, target)

    @property
    def tries(self) -> int:
        """How many networks were built."""
        return self._tries

    def built(self, moves: Moves) -> Shapes | None:
        self._tries += 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # some constructors print
                made = on_meta(self._cls, moved(self.config, moves), self._limit)
            return shapes_of(made)
        except Exception:  # a library refuses values in its own ways
            return None

    def tried(self, moves: Moves) -> float | None:
        """The cost of a network, None where the class refuses."""
        return self.measured(moves)[0]

    def measured(self, moves: Moves) -> tuple[float | None, int]:
        """The cost, and a mark of the tensors that it's the cost of."""
        key = frozenset((path, repr(value)) for path, value in moves.items())
        if key not in self._costs:
            shapes = self.built(moves)
            self._costs[key] = (
                (None, 0)
                if shapes is None
                else (misfit(shapes, self.target), hash(frozenset(shapes.items())))
            )
        return self._costs[key]

    def kept(self, moves: Moves) -> bool:
        cost = self.tried(moves)
        if cost is None or cost >= self.cost:
            return False
        shapes = self.built(moves)
        if shapes is None:
            return False
        switched = [p for p, v in moves.items() if type(v) not in (int, float)]
        if any(self.moves.get(path, self) != moves[path] for path in switched) or (
            {*map(key_template, shapes)} != {*map(key_template, self.shapes)}
        ):
            self.reach = {}  # leaves may move other tensors now
        self.moves, self.cost, self.shapes = moves, cost, shapes
        return True

    def taken(self, moves: Moves) -> bool:
        """Keep these moves, and others that the class needs to take them, where that's better."""
        now = self.traced(moves)
        return now is not None and self.kept(now[0])

    def traced(self, moves: Moves) -> tuple[Moves, Traced] | None:
        """A network traced, with what had to give way for the class to take it."""
        fixed = set(moves)
        for _ in range(_GIVEN_WAY):
            try:
                self._tries += 1
                whole = moved(self.config, moves)
                return moves, trace(self._cls, whole, self._limit)  # pyright: ignore
            except Refused as refused:
                way = self.way(refused, leaves_of_config(whole), fixed)  # pyright: ignore
                if way is None:
                    return None
                moves = {**moves, **way}
        return None

    def way(self, refused: Refused, values: Mapping[str, Leaf], fixed: set[str]) -> Moves | None:
        """The nearest value of a leaf for which what the class asked last has another answer, and
        if there is one, with which all that it divided so far can still be."""
        for text, answer in reversed(refused.asked):
            expression = parse_expression(text)
            # What divides shows in no tensor, mostly: it comes first.
            for path in reversed(expression.names) if "%" in text else expression.names:
                own = values.get(path)
                if path in fixed or type(own) is not int or own < 1:
                    continue
                others = sorted(range(1, _FACTORS), key=lambda n: abs(math.log(n / own)))  # pyright: ignore
                found = [n for n in others if _says(expression, {**values, path: n}, not answer)]
                kept = [
                    (parse_expression(other), held)
                    for other, held in refused.divided.items()
                    if other != text and path in parse_expression(other).names
                ]
                for other in found:
                    if all(_says(e, {**values, path: other}, held) for e, held in kept):
                        return {path: other}
                if found:
                    return {path: found[0]}
        return None

    def solution(self, moves: Moves, held: str = "") -> Moves:
        """Moves of numbers, from a network with `moves`, for which its equations hold; of all but
        the one that is `held`."""
        now = self.traced(moves)
        if now is None:
            return {}
        moves, traced = now
        rows = equations(traced, self.target)
        for row in rows:
            row.names = tuple(name for name in row.names if name != held)
        self.shown |= {name for row in rows for name in row.names}
        return solved_leaves(rows, leaves_of_config(moved(self.config, moves)), self.known)


def _says(expression: Expression, values: Mapping[str, Leaf], answer: bool) -> bool:
    """Whether a comparison has this answer."""
    try:
        return bool(expression.value(values)) == answer
    except (ArithmeticError, TypeError, ValueError):
        return False
