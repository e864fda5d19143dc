"""What turns parts of a network on and off: leaves that aren't sizes, and what the constructor asks
of those that are (`img_size//patch_size>window_size`)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archfind.classes.equations import ERRORS
from archfind.classes.expression import Expression, parse_expression
from archfind.learning.grown import Grown
from archfind.probing.config import Leaf
from archfind.probing.proposals import alternates, annotated, leaf_name, literals
from archfind.probing.trace import Traced
from archfind.state_dicts.canonical import is_derived

_CHOICES = 12
_SWITCHED = 24  # a number up to this may be one that other keys hang on
_SCALES = (1, 2, 3, 4, 8)  # numbers that layers hang on one by one
_QUESTIONS = 120  # tried of one constructor
_SETTLED = 12  # moves that follow one
_PAIR = 2
_STAGES = 8  # items of a list, of which each may be a stage
_WAYS = 2  # of turning an answer

Choice = tuple[str, Leaf]  # a leaf or a question, and what it is in place of the preset's
Together = tuple[Choice, ...]  # in the order of the choices


class Switches:
    """Every switch of a network with its trace, where turning it changes a tensor."""

    def __init__(self, grown: Grown, known: Mapping[str, list[Leaf]]) -> None:
        self._grown = grown
        self._known = known
        self._hints = literals(grown.cls)
        for path, more in annotated(grown.cls, grown.values).items():
            self._hints.setdefault(path, []).extend(more)
        self.traces: dict[Choice, Traced] = {}
        self.zero: set[str] = set()  # leaves of which any other number than the preset's 0 is alike
        self._asked: dict[str, tuple[Expression, bool]] = {}
        self._turns: dict[Choice, dict[str, Leaf]] = {}
        self.find()

    def find(self) -> None:
        """Look for all of them, in the network as it's grown now."""
        self.traces, self.zero, self._turns = {}, set(), {}
        self._asked = dict(self._questions())
        self._answers()
        self._leaves()

    def own(self, path: str) -> Leaf:
        """What a leaf or a question is in the preset."""
        return self._asked[path][1] if path in self._asked else self._grown.values[path]

    def moves(self, some: Sequence[Choice]) -> dict[str, Leaf] | None:
        """The leaves to move to turn these switches; None where they need the same one."""
        found: dict[str, Leaf] = {}
        for choice in some:
            more = self._turns.get(choice, {choice[0]: choice[1]})
            if any(path in found for path in more):
                return None
            found |= more
        return found

    def traced(self, some: Sequence[Choice]) -> Traced | None:
        """The network with these switches turned."""
        moves = self.moves(some)
        return None if moves is None else self._grown.traced(moves)

    def without(self, wrong: set[Choice]) -> None:
        """Leave some of them alone."""
        self.traces = {choice: one for choice, one in self.traces.items() if choice not in wrong}

    def tried(self, path: str) -> list[Leaf]:
        """The values of a leaf that turn a switch."""
        turned = [self._turns[c][path] for c in self.traces if path in self._turns.get(c, {})]
        return list(dict.fromkeys([*(item for at, item in self.traces if at == path), *turned]))

    def _questions(self) -> Iterator[tuple[str, tuple[Expression, bool]]]:
        """What the constructor asked of the preset's numbers, as far as it can be asked again."""
        assert self._grown.first is not None
        values = self._grown.grown_values()
        for text, answer in self._grown.first.compared.items():
            expression = parse_expression(text)
            if expression.names and _answer(expression, values) is answer:
                yield text, (expression, answer)

    def _answers(self) -> None:
        """Questions answered the other way, by moving a leaf that changes few other answers."""
        assert self._grown.first is not None
        own = _marks(self._grown.first)
        values = self._grown.grown_values()
        reading: dict[str, list[str]] = {}
        for text, (expression, _) in self._asked.items():
            for name in expression.names:
                reading.setdefault(name, []).append(text)
        for text, (expression, answer) in list(self._asked.items())[:_QUESTIONS]:
            ways: list[tuple[int, dict[str, Leaf]]] = []
            for name in expression.names if time.process_time() < self._grown.end else ():
                others = [values[n] for n in expression.names if n != name]
                for item in _around(values.get(name), others):
                    if _answer(expression, {**values, name: item}) is (not answer):
                        ways.append(self._settled(text, {name: item}, reading))
            for _, moves in sorted(ways, key=lambda way: way[0])[:_WAYS]:
                one = self._grown.traced(moves)
                if one is None or any(0 in shape for shape, _ in one.shapes.values()):
                    continue
                if _marks(one) != own:
                    self.traces[text, not answer] = one
                    self._turns[text, not answer] = moves
                break

    def _settled(
        self, text: str, moves: dict[str, Leaf], reading: Mapping[str, Sequence[str]]
    ) -> tuple[int, dict[str, Leaf]]:
        """Moves that change one answer, with more that leave other answers as they are: where
        widths are equal in a row, all that follow. How many answers change nevertheless."""
        values = self._grown.grown_values()

        def changed(moves: Mapping[str, Leaf]) -> list[str]:
            beside = {**values, **moves}
            some = dict.fromkeys(other for name in moves for other in reading[name])
            return [
                other
                for other in some
                if _answer(self._asked[other][0], beside) is not self._asked[other][1]
            ]

        first = changed(moves)
        item = next(iter(moves.values()))
        more, left = moves, first
        for _ in range(_SETTLED):
            wrong = next((other for other in left if other != text), None)
            if wrong is None:
                return len(left), more
            names = [n for n in self._asked[wrong][0].names if n not in more]
            alike = [n for n in names if values[n] == values[next(iter(moves))]]
            further = [{**more, name: item} for name in alike]
            tried = [(changed(some), some) for some in further]
            tried = [one for one in tried if text in one[0] and wrong not in one[0]]
            if not tried:
                break
            left, more = min(tried, key=lambda one: len(one[0]))
        return len(first), moves

    def _is_answered(self, path: str, item: Leaf) -> bool:
        """Whether what another number changes is known from a question."""
        values = {**self._grown.grown_values(), path: item}
        return any(
            path in (asked := self._asked[text])[0].names
            and _answer(asked[0], values) is not asked[1]
            for text, _ in self._turns
        )

    def _leaves(self) -> None:
        """Other values of what isn't a size, where they change a tensor."""
        assert self._grown.first is not None
        own = _marks(self._grown.first)
        counts = {
            name for bound in self._grown.first.bounds for name in parse_expression(bound).names
        }
        for path, value in self._grown.values.items():
            if path in counts or time.process_time() > self._grown.end:
                continue
            if any(part.isdigit() for part in path.split(".")):
                continue  # of one block among many
            tried: list[Leaf]
            if path.endswith(".#"):
                tried = [*self._lengths(path, value)]
            elif type(value) is float or (type(value) is int and "." in path):
                tried = []
            elif type(value) is int:
                near = [value + 1, value - 1, value * 2, *_SCALES] if value <= _SWITCHED else []
                tried = [n for n in (0, *near) if n >= 0 and not self._is_answered(path, n)]
            else:
                hinted = [*self._known.get(path, ()), *self._hints.get(leaf_name(path), ())]
                tried = alternates(path, value, hinted)[:_CHOICES]
            for item in dict.fromkeys(tried):
                if path in self.zero:
                    break
                if item == value and type(item) is type(value):
                    continue
                one = self._grown.traced({path: item})
                if one is None or any(0 in shape for shape, _ in one.shapes.values()):
                    continue
                # Another number changes sizes, which aren't conditions, if their text stays.
                if _marks(one) != own:
                    alike = type(value) is int and value == 0
                    if alike and any(
                        at == path and _marks(two) == _marks(one)
                        for (at, _), two in self.traces.items()
                    ):
                        self.zero.add(path)
                    else:
                        self.traces[path, item] = one

    def _lengths(self, path: str, value: Any) -> Iterator[int]:
        """Other lengths of a list that no row of blocks goes with; not of a pair, which is a
        height and a width."""
        counted = {path for some in self._grown.together for path in some}
        if _PAIR < value <= _STAGES and path not in counted:
            yield from (value - 1, value + 1)


def _answer(expression: Expression, values: Mapping[str, Leaf]) -> bool | None:
    try:
        return bool(expression.value(values))
    except ERRORS:
        return None


def _around(value: Leaf, others: Sequence[Leaf]) -> list[Leaf]:
    """Numbers beside and far from a leaf's own, and those that it's compared with."""
    if type(value) is float:
        return [value * 2 or 0.5, value / 2, 1.0, 0.25, 2.0, 0.0, *others]
    if type(value) is not int:
        return []
    far = [value * 2, value // 2, value * 4, value // 4, value * 8, value // 8]
    near = [value + 1, value - 1, 0, 1, 2, 3, 4]
    tried = [*near, *far] if value <= _SWITCHED else [*far, *near]
    tried += [n for n in others if type(n) is int]
    return [n for n in dict.fromkeys(tried) if n >= 0 and n != value]


def _marks(one: Traced) -> frozenset[tuple[str, tuple[str, ...], int]]:
    return frozenset(
        (key, tuple(one.sizes.get(key, ())), len(shape))
        for key, (shape, dtype) in one.shapes.items()
        if key in one.sizes or not is_derived(key, dtype)
    )


def untraced(
    failed: Sequence[Together], choices: Mapping[Choice, Any], beside: Mapping[Together, Any]
) -> Iterator[Together]:
    """The pairs of switches that went wrong together, and the triples of which all pairs are
    traced."""
    order = list(choices)
    found: dict[Together, None] = {}
    for some in failed:
        some = tuple(sorted(some, key=order.index))
        pairs = [p for p in itertools.combinations(some, 2) if p[0][0] != p[1][0]]
        new = [pair for pair in pairs if pair not in beside]
        found |= dict.fromkeys(new or [some] if len(pairs) == 3 else new)
    return (some for some in found if some not in beside)
