"""A class of transformers that its rules don't explain: built with other config fields until the
file's tensors come out. The rules are what was learned of a class, and some have no words for all
that its code does."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import Any

from archfind.canonical import kind
from archfind.frozen import replace
from archfind.match import compared
from archfind.pretrained.answer import answered, readings, tried
from archfind.pretrained.claims import claims_of
from archfind.pretrained.database import ModelTypes
from archfind.pretrained.rank import rank
from archfind.pretrained.solve import Solved, is_stale
from archfind.probing.config import Config, leaves, moved
from archfind.probing.descent import Descent
from archfind.probing.probe import Moves, Shapes, on_meta
from archfind.probing.trace import Traced
from archfind.progress import progress
from archfind.providers import provider
from archfind.types import Canonical, Guess, Setting

_CLASSES = 5
_AGAIN = 5.0  # seconds for another class, once one fits
_SECONDS = 20.0  # for one network


def search_configured(
    canonical: Canonical, types: ModelTypes, choose: str, seconds: float
) -> Guess | None:
    """The answer where a class comes to have every tensor of the file; None where none does."""
    end = time.monotonic() + seconds
    claims = claims_of(canonical.checkpoint)
    near = list(_near(canonical, types, choose))
    scores = [one.score for one in near]
    found: list[Solved] = []
    fields: dict[str, Config] = {}
    looked = 0
    for one in progress(near[:_CLASSES], min(len(near), _CLASSES), "search transformers"):
        if time.monotonic() > end:
            break
        looked += 1
        model_type = one.block.type.name
        until = min(end, time.monotonic() + _AGAIN) if found else end
        config = _fitted(one, until, fields.get(model_type))
        if config is not None:
            found.append(one)
            fields.setdefault(model_type, config)
    if not found:
        return None
    least = min(scores[near.index(one)] for one in found)
    found.sort(key=lambda one: rank(one, claims))
    answer = answered(found, claims, choose, types.types)
    if answer.chosen_by == "only" and any(score >= least for score in scores[looked:]):
        # Classes that were as near weren't looked at.
        answer = replace(answer, status="ambiguous", chosen_by="")
    return answer


def _near(canonical: Canonical, types: ModelTypes, choose: str) -> Iterator[Solved]:
    """The classes whose rules explain most, one of each; of those that `choose` names, if it's
    given."""
    seen: set[str] = set()
    for reading in readings(canonical):
        for one in tried(reading, types, claims_of(canonical.checkpoint)):
            name = f"{one.block.type.name}/{one.block.cls}"
            if any(key not in one.index for key in one.match.unexpected):
                continue  # what stands outside of it is no part of it
            if choose and choose not in (one.block.cls, one.match.entry.id, one.block.type.name):
                continue
            if name not in seen:
                seen.add(name)
                yield one


def _fitted(near: Solved, end: float, config: Config | None) -> Config | None:
    """Fields with which the class has the file's tensors, kept in its match; None where there are
    none. `config` is the start, if another class of the type had them with that."""
    library: Any = provider("transformers")
    block = near.block
    name = f"{block.type.name}/{block.cls}"
    try:
        made = library.constructor(name)
        base = {**library.defaults(block.type.name)}
    except Exception:  # a class that isn't in the installed library, or whose defaults it refuses
        return None
    switches = library.switches(library.resolve(name)[1])
    base |= {library.INIT: switches} if switches else {}
    usual = leaves(base)
    values = {p: v for p, v in near.values.items() if p in usual and usual[p] != v}
    if config is None:
        start = _buildable(made, base, values)
    else:
        own = {library.INIT: switches} if switches else {}
        start = {k: v for k, v in config.items() if k != library.INIT} | own
    target: Shapes = {key: (spec.shape, kind(spec)) for key, spec in near.index.items()}
    descent_of = _Published if block.dialect else Descent
    descent = descent_of(made, start, target, {})
    descent.run(end - time.monotonic())
    if descent.cost:
        return None
    fields = moved(start, descent.moves)
    found = leaves(fields)
    known = {p for p, s in near.match.config.items() if s.source == "shape"}
    shown = known | {p for p in descent.visible() - known if not descent.is_free(p)}
    settings: dict[str, Setting] = {}
    for path, value in found.items():
        name = _outside_lists(path)
        if path in shown or usual.get(path, ...) != value or name in near.match.config:
            is_shown = path in shown or (name in settings and settings[name].source == "shape")
            settings[name] = Setting(_item(fields, name), "shape" if is_shown else "default")
    whole = compared(
        near.index,
        descent.shapes,
        lambda key, spec: key not in near.index or is_stale(key, spec),
        near.tied,
    )
    assert near.match.pretrained is not None
    near.values, near.preset, near.score, near.is_like = found, "", 1.0, False
    near.match = replace(
        whole,
        entry=near.match.entry,
        config=settings,
        reasons=(f"{descent.tries} networks of its class were built",),
        pretrained=replace(near.match.pretrained, preset="", tied=near.tied),
    )
    return fields if near.match.fits else None


def _outside_lists(path: str) -> str:
    """The path of the list that a leaf is in, of the outermost; else its own."""
    parts = path.split(".")
    items = (at for at, part in enumerate(parts) if part == "#" or part.isdigit())
    return ".".join(parts[: next(items, len(parts))])


def _item(config: Config, path: str) -> Any:
    found: Any = config
    for part in path.split("."):
        found = found[part]
    return found


def _buildable(made: Any, base: Config, values: Moves) -> Config:
    """The class's defaults with all of the solved values that it takes: together, else one by one,
    the counts first, as they make the network small."""
    whole = moved(base, values)
    if _is_built(made, whole):
        return whole
    kept: Moves = {}
    for path in sorted(values, key=lambda p: ("layer" not in p, p)):
        if _is_built(made, moved(base, {**kept, path: values[path]})):
            kept[path] = values[path]
    return moved(base, kept)


def _is_built(made: Any, config: Config) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            on_meta(made, config, _SECONDS)
    except Exception:  # a library refuses values in its own ways
        return False
    return True


class _Published(Descent):
    """For keys as `save_pretrained` writes them: a trace says what the module's own tensors are
    made of, and what was only renamed is made of the same."""

    def _built(self, moves: Moves) -> Shapes | None:
        found = self._written(moves)
        return found[0] if found else None

    def _traced(self, moves: Moves) -> tuple[Moves, Traced] | None:
        found = super()._traced(moves)
        written = self._written(found[0]) if found else None
        if found is None or written is None:
            return None
        moves, own = found
        shapes, sources = written
        sizes = {key: own.sizes[at] for key, at in sources.items() if at in own.sizes}
        loops = {key: own.loops[at] for key, at in sources.items() if at in own.loops}
        return moves, Traced(shapes, sizes, loops, own.bounds, own.compared)

    def _written(self, moves: Moves) -> tuple[Shapes, dict[str, str]] | None:
        """The published tensors, and which of them are the module's own, under which keys."""
        library: Any = provider("transformers")
        self._tries += 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                module = on_meta(self._cls, moved(self._config, moves), self._limit)
                own = module.state_dict()
                state = library.published(module, own)
        except Exception:  # a library refuses values in its own ways
            return None
        names = {id(tensor): key for key, tensor in own.items()}
        shapes: Shapes = {
            key: (tuple(t.shape), "float" if t.is_floating_point() else str(t.dtype)[6:])
            for key, t in state.items()
        }
        return shapes, {key: names[id(t)] for key, t in state.items() if id(t) in names}
