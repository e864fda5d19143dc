"""A class's arguments that make its tensors those of a file, found by building it on the meta
device: for what no family explains.

The numbers come first, all at once: the network is traced, and its sizes and counts are equations
whose right sides the file has. Then what no arithmetic says, one leaf after another: switches and
choices, the lengths of lists, numbers that the library took out of Python's hands. What lowers the
misfit stays, until nothing is left of it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from archfind.probing.candidate import ProbedArguments
from archfind.probing.config import Leaf, leaves_of_config, merged_moves, moved
from archfind.probing.misfit import key_template, misfits
from archfind.probing.probe import Moves
from archfind.probing.proposals import COUNT, alternates, coupled, leaf_name
from archfind.probing.rates import sloped, unmixed
from archfind.probing.single_moves import counts, lengths, numbers, other_values

_CHOICES = 24  # values asked about of a leaf that isn't a number
_WORDS = 12  # of one argument, from each of which a search may start
_REFUSED = 12  # choices that are tried with another
_BESIDE = 6  # values of that other
_INSTEAD = 3  # ... or of one that is moved in another's place
_LIKELY = 2  # values of a number that are held while the others are solved
_PLAIN = 1 / 16  # whose multiples are written as they are

Proposals = Callable[[ProbedArguments, str, Any, set[str]], Iterable[Moves]]


class Descent(ProbedArguments):
    """The search from one network."""

    def start_from(self, moves: Moves) -> None:
        """Take these moves first, where they help."""
        self.kept(dict(moves))

    def start_at(self, moves: Moves) -> bool:
        """Take these moves first, whether they help or not; False where the class refuses them."""
        cost, shapes = self.tried(moves), self.built(moves)
        if cost is None or shapes is None:
            return False
        self.moves, self.cost, self.shapes, self.reach = dict(moves), cost, shapes, {}
        return True

    def words(self) -> Iterator[Moves]:
        """Every other word that the class's source and annotations have for an argument, one at a
        time: kinds of upsampling, say, of which each has sizes of its own."""
        for path, value in leaves_of_config(self.config).items():
            if isinstance(value, str):
                hints = [*self.known.get(path, ()), *self.hints.get(leaf_name(path), ())]
                for item in alternates(path, value, hints)[:_WORDS]:
                    yield {path: item}

    def run(self, seconds: float, deep: bool = True) -> bool:
        """Descend; whether every tensor fits in the end. What seldom helps, and takes most of the
        time, is tried where it's to go `deep`."""
        self.end = time.monotonic() + seconds
        while self.cost and time.monotonic() < self.end:
            self.refused, self.unmet = [], {}
            if not (
                self._solved()
                or self._round(lengths)
                or self._round(other_values)
                or self._round(numbers)
                or self._round(counts)
                or sloped(self)
                or (deep and (self._together() or self._held() or self._switched()))
                or (deep and self._undone())
            ):
                break
        if not self.cost:
            self._prune()
            unmixed(self)
        return not self.cost

    def look_until(self, end: float) -> None:
        """How long questions about what was found may take."""
        self.end = end

    def visible(self) -> set[str]:
        """The leaves that were seen to move a tensor."""
        reached = {path for path, reached in self.reach.items() if reached}
        return reached | self.shown | set(self.moves)

    def is_free(self, path: str) -> bool:
        """Whether another value gives the same tensors: a rate that is rounded off, a head count
        that is made up for by the heads' size, one of two activations without weights. What could
        not be asked about in time was not seen to have one value alone, and counts as free."""
        value = leaves_of_config(moved(self.config, self.moves)).get(path)
        if time.monotonic() > self.end:
            return True
        if isinstance(value, str):
            hints = [*self.known.get(path, ()), *self.hints.get(leaf_name(path), ())]
            some = alternates(path, value, hints)[:_CHOICES]
            return any(self.tried({**self.moves, path: item}) == self.cost for item in some)
        if type(value) is not int:
            return False
        others = (2 * value, value // 2, value + 1, value - 1, 4 * value // 3)
        beside = [{**self.moves, path: n} for n in others if n > 0 and n != value]
        if any(self.tried(moves) == self.cost for moves in beside):
            return True
        for moves in beside[:2]:
            made_up = self.solution(moves, held=path)
            if made_up and self.tried({**moves, **made_up}) == self.cost:
                return True
        return False

    def _solved(self) -> bool:
        """The numbers for which the traced network's sizes and counts are the file's."""
        move = self.solution(self.moves)
        if not move:
            return False
        if self.taken({**self.moves, **move}):
            return True
        for more in self._beside(move):
            if self.taken({**self.moves, **more, **move}):
                return True
        if self.traced({**self.moves, **move}) is None:
            self.unmet = move
        kept = False
        for path, value in move.items() if len(move) > 1 else ():
            kept |= self.taken({**self.moves, path: value})
        return kept

    def _beside(self, move: Moves) -> Iterator[Moves]:
        """What may have to move with numbers: those of their own name and value in other configs,
        then those that are named alike (`num_hidden_layers`, `num_kv_shared_layers`)."""
        values = leaves_of_config(moved(self.config, self.moves))
        joint = coupled(values)
        yield {p: value for path, value in move.items() for p in joint.get(path, ())}
        more: Moves = {}
        for path, value in move.items():
            if type(value) is int and not path.endswith("#"):
                word = path.rpartition("_")[2]
                alike = (p for p, v in values.items() if v == values[path] and type(v) is int)
                more |= {p: value for p in alike if p.rpartition("_")[2] == word}
        yield more

    def _held(self) -> bool:
        """One number at a value that is likely for it, and all others solved anew beside it: two
        that are counted together, of which one is seen elsewhere as well."""
        wrong = {key_template(key) for key in misfits(self.shapes, self.target)}
        for path, value in leaves_of_config(moved(self.config, self.moves)).items():
            if not self.reach.get(path, set()) & wrong:
                continue
            for move in itertools.islice(numbers(self, path, value, wrong), _LIKELY):
                if time.monotonic() > self.end:
                    return False
                made = merged_moves(self.moves, move)
                if self.kept({**made, **self.solution(made, held=path)}):
                    return True
        return False

    def _switched(self) -> bool:
        """Choices made one by one, all numbers solved anew for each: from the first network, where
        what numbers have made up for so far doesn't stand in the way. A small number may be a
        choice, too, by which other keys come to be."""
        start = self.solution({})
        reached = self.tried(start)
        for path, value in leaves_of_config(self.config).items():
            hints = [*self.known.get(path, ()), *self.hints.get(leaf_name(path), ())]
            options: Iterable[Leaf] = alternates(path, value, hints)[:_BESIDE]
            if type(value) in (int, float):
                small = type(value) is int and value <= COUNT and not path.endswith(".#")
                options = [n for n in range(1, COUNT + 1) if n != value] if small else ()
            for item in options:
                if time.monotonic() > self.end:
                    return False
                move = {path: item}
                cost = self.tried({**start, **move})
                if type(value) is int and (cost is None or reached is None or cost >= reached):
                    continue
                if self.kept({**move, **self.solution(move)}):
                    return True
        return False

    def _round(self, proposals: Proposals) -> bool:
        """Every leaf that reaches what doesn't fit tried at its likeliest values; what lowers the
        cost is kept, the best first. Whether anything did."""
        found: list[tuple[float, Moves]] = []
        values = leaves_of_config(moved(self.config, self.moves))
        wrong = {key_template(key) for key in misfits(self.shapes, self.target)}
        for path, value in values.items():
            if time.monotonic() > self.end:
                break
            if path in self.reach and not self.reach[path] & wrong:
                continue
            best: tuple[float, Moves] | None = None
            for move in proposals(self, path, value, wrong):
                cost = self.tried(merged_moves(self.moves, move))
                if cost is None:
                    self.refused.append(move)
                elif cost < (best[0] if best else self.cost):
                    best = cost, move
                if time.monotonic() > self.end:
                    break
            if best:
                found.append(best)
                if not best[0]:
                    break
        found.sort(key=lambda item: item[0])
        kept = False
        for _, move in found:
            kept |= self.kept(merged_moves(self.moves, move))
        return kept

    def _together(self) -> bool:
        """What is refused alone, numbers or a choice, with another choice made as well."""
        values = leaves_of_config(moved(self.config, self.moves))
        others = [p for p, v in values.items() if type(v) not in (int, float)]
        choices = [m for m in self.refused if {*m} <= {*others}][:_REFUSED]
        for move in [self.unmet, *choices] if self.unmet else choices:
            best: tuple[float, Moves] | None = None
            for beside in others:
                if beside in move or time.monotonic() > self.end:
                    continue
                hints = [*self.known.get(beside, ()), *self.hints.get(leaf_name(beside), ())]
                for item in alternates(beside, values[beside], hints)[:_BESIDE]:
                    moves = {**self.moves, **move, beside: item}
                    cost = self.tried(moves)
                    if cost is not None and cost < (best[0] if best else self.cost):
                        best = cost, moves
            if best and self.kept(best[1]):
                return True
        return False

    def _undone(self) -> bool:
        """One of the moves taken back, and another made in its place: what helped first may have
        stood in for what is so."""
        best: tuple[float, Moves] | None = None
        for path in self.moves:
            items = path[:-1] if path.endswith(".#") else f"{path}."  # go with their list
            rest = {p: v for p, v in self.moves.items() if p != path}
            fewer = {p: v for p, v in rest.items() if not p.startswith(items)}
            now, own = self.moves[path], leaves_of_config(self.config).get(path)
            more = 0
            if type(now) is int and type(own) is int and path[-1] != "#":
                more = now - own
            for other, value in leaves_of_config(moved(self.config, fewer)).items():
                hints = [*self.known.get(other, ()), *self.hints.get(leaf_name(other), ())]
                some = alternates(other, value, hints)[:_INSTEAD] if other != path else []
                if more and type(value) is int and value + more > 0 and other[-1] != "#":
                    some.append(value + more)  # as many blocks more, of another stage
                for item in some:
                    if time.monotonic() > self.end:
                        return False
                    moves = merged_moves(fewer, {other: item})
                    cost = self.tried(moves)
                    if cost is not None and cost < (best[0] if best else self.cost):
                        best = cost, moves
        return best is not None and self.kept(best[1])

    def _prune(self) -> None:
        """Leaves that needn't be moved go back, and rates are given no digit that does nothing."""
        for path, value in list(self.moves.items()):
            fewer = {p: v for p, v in self.moves.items() if p != path}
            if self.tried(fewer) == 0:
                self.moves = fewer
                continue
            if isinstance(value, float) and value % _PLAIN:
                shorter = (float(f"{value:.{digits}g}") for digits in range(1, 6))
                beside = ({**self.moves, path: other} for other in shorter if other != value)
                self.moves = next((m for m in beside if self.tried(m) == 0), self.moves)
