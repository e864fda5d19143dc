"""One class of transformers held against a state dict: its config's fields from keys and shapes,
the rest from the public model with the same sizes, else from the type's defaults."""

from __future__ import annotations

import re

from archfind.classes.completed import completed_leaves, same_public_model
from archfind.classes.equations import ERRORS, equations_of
from archfind.classes.notation import numbered_template
from archfind.classes.polish import polished
from archfind.classes.score import Solution, is_kind, lengthen, score, within
from archfind.classes.solve import solve, solved_with
from archfind.classes.templates import MANY, is_stale
from archfind.classes.thinned import Thinned
from archfind.frozen import replace
from archfind.matching.compare import compared
from archfind.types import Entry, Match, Pretrained, Setting
from archfind.work import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.classes.configured import Configured
    from archfind.classes.expansion import Shape
    from archfind.classes.notation import Family
    from archfind.classes.templates import StateDict
    from archfind.types import Canonical, TensorSpec

    Index = Mapping[str, TensorSpec]

_NUMBER = re.compile(r"\d+")
_NEARLY = 0.95  # of many tensors, those that fit for the rest to be worth its time


class Solved:
    """A class with the values that make its tensors the file's, as far as they go."""

    __slots__ = (
        "block",
        "canonical",
        "contracted",
        "expected",
        "index",
        "is_like",
        "match",
        "preset",
        "score",
        "tied",
        "values",
    )

    def __init__(
        self, block: Configured, match: Match, score: float, values: Mapping[str, Any], preset: str
    ) -> None:
        self.block = block
        self.match = match
        self.score = score
        self.values = values
        self.preset = preset
        self.canonical: Canonical | None = None  # what it was held against
        self.contracted: frozenset[object] | None = None  # what its rules give, in short
        self.expected: dict[str, tuple[Shape, str]] = {}  # ... and in full
        self.index: Index = {}  # the tensors below its prefix, tied ones under both of their keys
        self.tied: Mapping[str, str] = {}
        self.is_like = False  # with another class's values, since those do for it

    @property
    def shown(self) -> set[str]:
        """The leaves that the tensors show."""
        return {path for path, setting in self.match.config.items() if setting.source == "shape"}

    @property
    def stated(self) -> str:
        """The class that the public model is published as, where that is known."""
        return str(self.block.type.presets.get(self.preset, {}).get("class", ""))

    @property
    def is_public(self) -> bool:
        """Whether a public model has all of these sizes, its vocabulary's too, and is whole."""
        leaves = self.block.family.leaves
        if any(p.startswith("init.") and self.values[p] != leaves.get(p) for p in self.values):
            return False
        facts = self.block.type.presets.get(self.preset)
        vocabulary = self.values.get("vocab_size")
        return facts is not None and facts.get("vocab_size", vocabulary) == vocabulary


def solve_class(
    whole: StateDict,
    block: Configured,
    claims: Mapping[str, Any],
    like: Solved | None = None,
    work: Work | None = None,
) -> Solved | None:
    """The class against the file; `claims` are config fields that the file names itself, used for
    what no tensor shows. If another class has all of the file's tensors, which this is `like`, its
    values are tried first."""
    own = whole.without_stale(block.templates)
    present = {found for found, key in whole.templates.items() if key in own}
    tied: dict[str, str] = {}
    for key, source in block.tied.items():
        if key not in own and source in own and numbered_template(key) not in present:
            tied[key] = source
            own[key] = own[source]
        elif key in own and source not in own and numbered_template(source) not in present:
            tied[source] = key
            own[source] = own[key]
    solution = _likened(own, block, like) if like is not None else None
    is_like = solution is not None
    if solution is None:
        solution = _solved(whole, own, block, tied, like, work or Work(len(own)))
    if solution is None:
        return None
    if is_like:
        values, preset = dict(solution.values), same_public_model(block, solution)
        sources = dict.fromkeys(solution.solved, "shape")
    else:
        values, sources, preset = completed_leaves(own, block, solution, claims)
    shares = _shares(block, own, tied)
    if shares is not None and "tie_word_embeddings" in block.family.leaves:
        values["tie_word_embeddings"], sources["tie_word_embeddings"] = shares, "shape"
    is_same = like is not None and solution.expected is like.expected and tied == like.tied
    held = like.match if like is not None and is_same else _compared(whole, own, solution, tied)
    match = _match(held, block, _told(block, solution, values, sources, preset), tied, preset)
    found = Solved(block, match, solution.score, values, preset)
    found.index, found.tied, found.is_like = own, tied, is_like
    found.expected = solution.expected
    if found.match.fits and not is_like:
        found.contracted = block.family.program.contracted(solution.values)
    return found


def _likened(index: Index, block: Configured, like: Solved) -> Solution | None:
    """The values that another class has every tensor with, where this one does so, too."""
    family = block.family
    values = {p: v for p, v in like.values.items() if p in family.leaves}
    solution = Solution({**family.leaves, **values}, like.shown & values.keys(), "")
    lengthen(family, solution.values)
    told = family.program.contracted(solution.values)
    if told is not None and told == like.contracted:
        solution.expected, solution.score = like.expected, 1.0
        return solution
    try:
        for key, shape, dtype in family.program.tensors(solution.values):
            spec = index.get(key)
            if spec is None or spec.shape != shape or not is_kind(spec, dtype):
                return None
            solution.expected[key] = shape, dtype
    except ERRORS:
        return None
    solution.score = 1.0
    return solution if len(solution.expected) == len(index) else None


def _solved(
    whole: StateDict,
    own: dict[str, TensorSpec],
    block: Configured,
    tied: dict[str, str],
    like: Solved | None,
    work: Work,
) -> Solution | None:
    """The values that explain most; keys that turn out to be tied join in. Beside a class that
    fits, what doesn't fit after a little is None."""
    family = block.family
    is_alone = like is None
    some, thin = _some(whole, own, block)
    equations = list(equations_of(some, family, len(own)))
    solution = solve(some, family, equations, thin, exact=not is_alone)
    if solution is None:
        return None
    shared = _alike(solution, block, own)
    if shared:
        tied |= shared
        own |= {key: own[source] for key, source in shared.items()}
        some, thin = _some(whole, own, block)
        equations = list(equations_of(some, family, len(own)))
        solution = solve(some, family, equations, thin, exact=not is_alone) or solution
    if like is not None and solution.score < 1:
        if len(own) > MANY:
            return None
        # Heads that no tensor shows are as many as the other class has for it.
        hidden = like.values.keys() & family.options.keys() - like.shown
        given = {p: like.values[p] for p in hidden if type(like.values[p]) is int}
        other = solved_with(some, family, equations, given, thin)
        solution = max(solution, other, key=lambda one: one.score)
    if thin is not None and (is_alone or solution.score == 1):
        fitting = solution.score
        score(own, family, solution)
        if solution.score < fitting and len(own) <= MANY:
            solution = solve(own, family, exact=not is_alone)
            if solution is None:
                return None
    _whole_patches(own, family, solution)
    if is_alone and solution.score < 1 and (solution.score > _NEARLY or len(own) <= MANY):
        solution = polished(own, family, solution, work)
        _whole_patches(own, family, solution)
    return solution if is_alone or solution.score == 1 else None


def _some(whole: StateDict, own: Index, block: Configured) -> tuple[Index, Thinned | None]:
    """Those of a file's tensors that a class is solved from, where most repeat. Ties by number are
    told from all of a row."""
    ties = any(_NUMBER.search(key) for key in block.tied)
    if whole.some is whole.index or (ties and len(own) <= MANY):
        return own, None
    added = [key for key in own if key not in whole.index]
    some = {key: own[key] for key in (*whole.some, *added) if key in own}
    return some, Thinned(own, whole.rows)


def _alike(solution: Solution, block: Configured, own: Index) -> dict[str, str]:
    """Keys that aren't there of modules that the class ties to others: a head for every layer, all
    of them one, or each the one of the decoder's with its number. However many there are, all are
    tied."""
    sources: dict[str, tuple[str, str]] = {}
    for pair in block.tied.items():
        for key, source in (pair, pair[::-1]):
            if _NUMBER.search(key):
                sources.setdefault(numbered_template(key), (key, source))
    found: dict[str, str] = {}
    for key in solution.expected if sources else ():
        pair = sources.get(numbered_template(key)) if key not in own else None
        if pair is None:
            continue
        numbers = _NUMBER.findall(key)
        source = pair[1]
        if _NUMBER.findall(pair[0]) == _NUMBER.findall(source):
            there = iter(numbers)
            source = _NUMBER.sub(lambda _: next(there), source)  # noqa: B023
        if source in own:
            found[key] = source
    return found


def _whole_patches(index: Index, family: Family, solution: Solution) -> None:
    """Pictures of whole patches, where a table's size says no more than how many there are."""
    for path, value in list(solution.values.items()):
        root, _, last = path.rpartition(".")
        name = root if last.isdigit() else path
        if not name.endswith("image_size") or type(value) is not int:
            continue
        patch = solution.values.get(f"{name[: -len('image_size')]}patch_size")
        if type(patch) is not int or not patch or value % patch == 0 or value < patch:
            continue
        for whole in (value - value % patch, value - value % patch + patch):
            other = Solution({**solution.values, path: whole}, solution.solved, solution.preset)
            score(index, family, other)
            if other.score >= solution.score:
                solution.values, solution.expected = other.values, other.expected
                solution.rows, solution.score = other.rows, other.score
                break


def _shares(block: Configured, own: Index, tied: Mapping[str, str]) -> bool | None:
    """Whether the head shares the embedding's tensor, where the class can tie them."""
    for key, source in block.tied.items():
        if not key.endswith("weight") or key not in own or source not in own:
            continue
        if key in tied or source in tied:
            return True
        return own[key].storage == own[source].storage and own[key].offset == own[source].offset
    return None


def _told(
    block: Configured,
    solution: Solution,
    values: Mapping[str, Any],
    sources: Mapping[str, str],
    preset: str,
) -> dict[str, Setting]:
    """The config's fields with where each value is from; those of the type, those that the public
    model says, and switches of the class only where they were solved."""
    stated = block.type.presets.get(preset, {})
    leaves = block.family.leaves
    told = [
        path
        for path in within({**values})
        if path in leaves
        or (path in stated and path != "class")
        or f"{path.rpartition('.')[0]}.#" in leaves
    ]
    told = [p for p in told if not p.startswith("init.") or p in solution.solved]
    return _gathered({p: Setting(values[p], sources.get(p, "default")) for p in told})


def _compared(whole: StateDict, own: Index, solution: Solution, tied: Mapping[str, str]) -> Match:
    """The tensors that the rules give, held against the file's."""
    return compared(
        {**whole.index, **own},
        solution.expected,
        lambda key, spec: key not in whole.index or is_stale(key, spec),
        tied,
    )


def _match(
    held: Match,
    block: Configured,
    config: Mapping[str, Setting],
    tied: Mapping[str, str],
    preset: str,
) -> Match:
    entry = Entry(
        provider="transformers",
        name=block.cls,
        cls=block.path,
        callable=f"transformers.{block.cls}",
        fixed={},
        fields={},
        version=block.type.version,
    )
    pretrained = Pretrained(
        block.type.name,
        block.type.config.rpartition(".")[2],
        block.dialect,
        tied,
        block.prefix,
        preset,
    )
    return replace(held, entry=entry, config=config, pretrained=pretrained)


def _gathered(config: Mapping[str, Setting]) -> dict[str, Setting]:
    """Settings with the items of a list together."""
    found: dict[str, Setting] = {}
    for path, setting in config.items():
        root, _, last = path.rpartition(".")
        if last == "#" and not setting.value:
            found[root] = Setting([], setting.source)
        elif not last.isdigit() and last != "#":
            found[path] = setting
        elif root not in found and last != "#":
            items = [config[f"{root}.{n}"] for n in range(999) if f"{root}.{n}" in config]
            source = "shape" if any(s.source == "shape" for s in items) else setting.source
            found[root] = Setting([s.value for s in items], source)
    return found
