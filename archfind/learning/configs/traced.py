"""Sizes as a class's own code computes them: a few of its networks built with numbers that remember
where they are from, and what they say offered to the search before it looks for itself."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Mapping, Sequence

from archfind.classes.expression import parse_expression
from archfind.classes.numbered import numbered
from archfind.classes.program import spaced, split
from archfind.learning.configs.bench import Bench, BuiltTensors
from archfind.learning.fit import Failed, expression_holds
from archfind.learning.learn import Blame, Learner, Place, generalised
from archfind.probing.config import Leaf, moved
from archfind.probing.probe import Sample
from archfind.probing.trace import Refused, trace
from archfind.providers import transformers as library

_NETWORKS = 9  # traced for one class, and as many again for what new networks show
_WAYS = 4  # of making one tensor
_SECONDS = 10.0  # for one network
_ALL = 10.0  # ... after which no other is traced
_PLACES = 60  # of a tensor's, that are asked for its expressions
_READINGS = 6  # of one expression, by which of its numbers count a repeat
_PROPOSED = 24
_TRUSTING, _HINTED = 1, 2  # stages: nothing but what the code says, and that first

Sizes = Mapping[str, Sequence[Sequence[str]]]


class Hints:
    """`sizes` by key, numbers apart, in each dialect: one expression a dim, for each way that the
    tensor is made; `bounds` of loops."""

    def __init__(self, bench: Bench) -> None:
        self.sizes: dict[str, dict[str, list[Sequence[str]]]] = {"": {}, "published": {}}
        self.bounds: dict[str, None] = {}
        self._bench = bench
        self._known: set[str] = set()  # keys of networks that were traced
        self._seen = 0  # networks that were looked at
        self._left = _ALL

    def filled(self) -> Hints:
        """With the class's networks traced, those that it got since this was last asked, too."""
        tried = 0
        built = self._bench.built()
        new, self._seen = built[self._seen :], len(built)
        for one in sorted(new, key=lambda one: (len(one.moves), not self._is_switch(one))):
            # Keys that weren't seen, or a switch, which may make others of the same.
            if tried < _NETWORKS and (
                self._is_switch(one) or not set(one.shapes[""]) <= self._known
            ):
                start = time.process_time()
                self._known |= set(one.shapes[""])
                tried += 1
                self._add(self._bench, one)
                self._left -= time.process_time() - start
            if self._left < 0:
                break
        return self

    def _is_switch(self, built: BuiltTensors) -> bool:
        """Whether one switch alone is moved in a network, and moves tensors."""
        first = self._bench.first
        are = all(type(first.values[path]) in (bool, str) for path in built.moves)
        return len(built.moves) == 1 and are and built.shapes != first.shapes

    def _add(self, bench: Bench, built: BuiltTensors) -> None:
        try:
            found = trace(
                library.constructor(bench.name), moved(bench.config, built.moves), _SECONDS
            )
        except Refused:
            return
        self.bounds.update(dict.fromkeys(found.bounds))
        own = self.sizes[""]
        for key, texts in found.sizes.items():
            if any(char.isalpha() for text in texts for char in text):
                _append(own, numbered(key), texts)
        other = self.sizes["published"]
        for key, source in built.sources.items():
            for texts in own.get(numbered(source), ()):
                _append(other, numbered(key), texts)


def _append(found: dict[str, list[Sequence[str]]], key: str, texts: Sequence[str]) -> None:
    kept = found.setdefault(key, [])
    if texts not in kept and len(kept) < _WAYS:
        kept.append(texts)


class HintedLearner(Learner):
    """A search that takes what the code says where that holds in all examples."""

    def __init__(
        self,
        samples: Sequence[Sample],
        visible: Sequence[str],
        seconds: float,
        sizes: Sizes,
        bounds: Sequence[str],
        failed: Failed | None = None,
    ) -> None:
        super().__init__(samples, visible, seconds, failed)
        self._hints = sizes
        less = [b.removesuffix("-1") for b in bounds if b.endswith("-1")]
        self._bounds = list(dict.fromkeys((*less, *bounds, *(f"{b}+1" for b in bounds))))
        self._texts: list[dict[str, None]] = []  # of the tensor looked at, one a dim
        self._weight = ""  # of a bias: the first size of its weight
        self._proposed: Sequence[str] = ()

    def _repeat(
        self, places: list[Place], numbers: list[str], pattern: str, condition: str
    ) -> bool:
        found: dict[str, None] = {}
        for text in self._bounds if places[0].at else ():
            found.update(dict.fromkeys(_readings(text, places[-1].env)[1:]))
        self._proposed = [*found, *self._bounds][: 2 * _PROPOSED]
        return super()._repeat(places, numbers, pattern, condition)

    def _leaf(self, places: list[Place], pattern: str, condition: str) -> None:
        self._texts = []
        parts = split(pattern)
        seen: set[tuple[object, ...]] = set()
        for place in places:
            at = iter(place.at)
            key = ".".join(str(next(at)) if part[0] == "{" else part for part in parts)
            # A bias is as long as its weight.
            beside = f"{key[:-4]}weight" if key.endswith(".bias") else ""
            for texts in (*self._hints.get(key, ()), *self._hints.get(beside, ())):
                if (key, *texts) in seen:
                    continue
                seen.add((key, *texts))
                self._texts += [{} for _ in range(len(texts) - len(self._texts))]
                for own, text in zip(self._texts, texts, strict=False):
                    # A width that heads divide is as good as heads times what each has of it.
                    for one in (*parse_expression(text).names, text):
                        own.update(dict.fromkeys(_readings(one, place.env)))
            if len(seen) > _PLACES:
                break
        self._weight = self._beside(f"{pattern[:-4]}weight") if pattern.endswith(".bias") else ""
        if self._weight:
            self._texts = self._texts or [{}]
            self._texts[0][self._weight] = None
        super()._leaf(places, pattern, condition)

    def _beside(self, pattern: str) -> str:
        """The first size of a tensor whose one line is known already."""
        found = [line for line in self.lines if line.startswith(f"{pattern}  ")]
        return spaced(found[0].partition("  ")[2])[0] if len(found) == 1 else ""

    def _sizes(self, places: list[Place]) -> tuple[str, ...] | None:
        """Dim by dim, each with what is proposed for it."""
        sizes: list[str] = []
        for axis in range(len(places[0].tree[0])):
            texts = self._texts[axis] if axis < len(self._texts) else ()
            self._proposed = sorted(texts, key=lambda t: (t != self._weight, len(t)))[:_PROPOSED]
            one = [Place(p.sample, p.env, ((p.tree[0][axis],), p.tree[1]), p.at) for p in places]
            # What the code says, by cases if need be, before what fits by chance; last what the
            # networks that were traced may not have shown.
            found = None
            for stage in (_TRUSTING, _HINTED) if self._proposed else ():
                self.stage = stage
                with contextlib.suppress(Blame):
                    found = found or super()._sizes(one)
            self.stage = 0
            if found is None:
                self._proposed = ()
                found = super()._sizes(one)
            if found is None:
                return None
            sizes += found
        return tuple(sizes)

    def _blame(self, places: list[Place], targets: list[int]) -> None:
        """What reads a list's last item can be said for lists of one length."""
        for path in self._depends(places, targets):
            root, _, last = path.rpartition(".")
            if (last.isdigit() or last == "#") and f"{root}.#" in self.visible:
                raise Blame({f"{root}.#"}, f"{targets[:3]}")
        super()._blame(places, targets)

    def _number(self, places: list[Place], targets: list[int], quick: bool = False) -> str | None:
        if time.process_time() < self.deadline:
            rows = [place.env for place in places]
            for text in self._proposed:
                if expression_holds(text, rows, targets):
                    return text
            if self.stage == _TRUSTING:
                return None
            if quick and self._proposed:
                return str(targets[0]) if len(set(targets)) == 1 else None
        return super()._number(places, targets, quick)


def _readings(text: str, env: Mapping[str, Leaf]) -> list[str]:
    """An expression as it stands, and with the numbers in its names as the repeats' indices."""
    names = [
        n for n in parse_expression(text).names if any(part.isdigit() for part in n.split("."))
    ]
    found = [text]
    options = [generalised(name, env) for name in names[:3]]
    for chosen in itertools.islice(itertools.product(*options), 1, _READINGS):
        made = text
        for name, other in zip(names, chosen, strict=False):
            made = re.sub(rf"(?<![\w.{{]){re.escape(name)}(?![\w.])", other, made)
        found.append(made)
    return found
