"""One class of transformers whose config fields are moved towards a file's tensors."""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Mapping
from typing import Any

from torch import nn

from archfind.classes.templates import is_stale
from archfind.frozen import replace
from archfind.matching.compare import compared
from archfind.matching.solved_class import Solved
from archfind.probing.config import Config, Leaf, leaves_of_config, moved
from archfind.probing.descent import Descent
from archfind.probing.probe import Moves, Shapes, on_meta, shapes_of
from archfind.probing.trace import Traced
from archfind.providers import provider
from archfind.state_dicts.canonical import kind
from archfind.types import Setting

_SECONDS = 20.0  # for one network
_QUESTIONS = 15.0  # seconds for whether other numbers do as well


class ConfiguredAttempt:
    """A class as its rules solve it, which is `near` the file, and the way from there. `config` is
    the start, if another class of the type had the file's tensors with that. BuildError, or what
    else the library raises, where it refuses the class's defaults."""

    def __init__(self, near: Solved, config: Config | None) -> None:
        library: Any = provider("transformers")
        block = near.block
        name = f"{block.type.name}/{block.cls}"
        made = library.constructor(name)
        base = _filled(library.default_config(block.type.name), near.values)
        switches = library.switches(library.resolve_class(name)[1])
        base |= {library.INIT: switches} if switches else {}
        self._near = near
        self._usual = leaves_of_config(base)
        usual = self._usual
        values = {p: v for p, v in near.values.items() if p in usual and usual[p] != v}
        if config is None:
            self._start = _buildable(made, base, values)
        else:
            own = {library.INIT: switches} if switches else {}
            self._start = {k: v for k, v in config.items() if k != library.INIT} | own
        target: Shapes = {key: (spec.shape, kind(spec)) for key, spec in near.index.items()}
        if block.dialect:
            self._descent = _Published(name, made, self._start, target)
        else:
            self._descent = _Own(made, self._start, target, {})

    @property
    def fits(self) -> bool:
        return not self._descent.cost

    @property
    def cost(self) -> float:
        """How far its tensors are from the file's."""
        return self._descent.cost

    @property
    def config(self) -> Config:
        """The fields that it has come to."""
        return moved(self._start, self._descent.moves)

    def run(self, end: float, deep: bool) -> None:
        """Go towards the file until `end`."""
        self._descent.run(end - time.monotonic(), deep)

    def solved(self, end: float) -> Solved:
        """The class with the fields that it has come to, which its match says; until `end` it is
        asked what of that the tensors show."""
        near, descent = self._near, self._descent
        fields = self.config
        found = leaves_of_config(fields)
        descent.look_until(min(end, time.monotonic() + _QUESTIONS))
        seen = sorted(near.shown | descent.visible(), key=lambda p: (_outside_lists(p) != p, p))
        shown = {path for path in seen if not descent.is_free(path)}
        settings: dict[str, Setting] = {}
        for path, value in found.items():
            name = _outside_lists(path)
            if path in shown or self._usual.get(path, ...) != value or name in near.match.config:
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
        return near


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


def _filled(base: Config, values: Mapping[str, Leaf]) -> Config:
    """The type's defaults with the fields that they lack and its rules name: some classes read what
    their config doesn't declare."""
    found = copy.deepcopy(base)
    for path, value in values.items():
        *above, name = path.split(".")
        owner: Any = found
        for part in above:
            owner = owner.get(part) if isinstance(owner, dict) else None
        if isinstance(owner, dict) and name not in owner and path[-1] != "#":
            owner[name] = value
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


class _Own(Descent):
    """For the module's own keys. Those that are tied to one of the file's may be missing there,
    which the config's fields decide: heads of a detector's layers, say, that are one."""

    def built(self, moves: Moves) -> Shapes | None:
        library: Any = provider("transformers")
        self._tries += 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                module = on_meta(self._cls, moved(self.config, moves), self._limit)
                tied: dict[str, str] = library.tied(module)
                shapes = shapes_of(module)
        except Exception:  # a library refuses values in its own ways
            return None
        target = self.target
        return {k: s for k, s in shapes.items() if k in target or tied.get(k) not in target}


class _Published(Descent):
    """For keys as `save_pretrained` writes them: a trace says what the module's own tensors are
    made of, and what was only renamed is made of the same."""

    def __init__(self, name: str, made: type[nn.Module], config: Config, target: Shapes) -> None:
        library: Any = provider("transformers")
        self._make = library.maker(name)  # the class itself: its keys' names may go by that
        super().__init__(made, config, target, {})

    def built(self, moves: Moves) -> Shapes | None:
        found = self._written(moves)
        return found[0] if found else None

    def traced(self, moves: Moves) -> tuple[Moves, Traced] | None:
        found = super().traced(moves)
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
                module = on_meta(self._make, moved(self.config, moves), self._limit)
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
