"""One registered network whose arguments are moved towards a file's tensors."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Mapping

import torch
from torch import nn

from archfind.database.classes import Families
from archfind.database.entries import Signature, SignatureMember
from archfind.errors import ArchfindError, BuildError
from archfind.frozen import replace
from archfind.matching.compare import compared
from archfind.matching.variants import gathered
from archfind.probing.config import (
    Config,
    Leaf,
    captured_call,
    constructor_arguments,
    leaves_of_config,
    moved,
)
from archfind.probing.descended import descended
from archfind.probing.descent import Descent
from archfind.probing.probe import Moves, Shapes, shapes_of
from archfind.providers import provider
from archfind.providers.example import example_for_variant
from archfind.providers.on_meta import create_on_meta
from archfind.state_dicts.canonical import is_derived, kind
from archfind.types import Canonical, Match, Setting, TensorSpec, Variant
from archfind.values.reader import TensorReader

_SMALL = 64  # numbers of a tensor that is read
_QUESTIONS = 5.0  # seconds for whether others would do as well as what was found


class StartingNetwork:
    """A network's own arguments and the way from there; `alike` is the share of its keys that the
    file has, numbers aside."""

    def __init__(
        self,
        start: tuple[Signature, SignatureMember],
        made: tuple[type[nn.Module], Config],
        target: Shapes,
        known: Mapping[str, list[Leaf]],
        alike: float,
        state: Mapping[str, TensorSpec],
    ) -> None:
        self.signature, self.member = start
        self.alike = alike
        self._state = state
        self._cls, self._config = made
        self._source = provider(self.member.entry.provider)
        self._target = target
        self._known = known
        self.descent = Descent(self._cls, self._config, target, known)
        self._read: Moves | None = None  # by the library's own loader, once it was asked

    @property
    def fits(self) -> bool:
        return not self.descent.cost and not self.lacks_a_part

    @functools.cached_property
    def lacks_a_part(self) -> bool:
        """Whether what fits asks for a module that it doesn't have when it's run: some constructors
        take fewer stages than their forward goes through."""
        config = moved(self._config, self.descent.moves)
        try:
            with torch.device("meta"), torch.no_grad():
                module = self._cls(**config).eval()
                plain = {key: value for key, value in config.items() if not isinstance(value, type)}
                args = example_for_variant(
                    self._source.example(self.member.entry.name, module), plain
                ).args
                module(*(arg.to("meta") if isinstance(arg, torch.Tensor) else arg for arg in args))
        except AttributeError as error:
            return isinstance(error.obj, nn.Module)
        except Exception:  # what doesn't run on meta may run elsewhere
            return False
        return False

    def run(self, end: float, moves: Moves, deep: bool = False) -> None:
        """Go towards the file until `end`, from the network as it is; where that isn't enough, from
        it with these `moves`. The nearer one stays. What the library's own loader reads of the file
        comes before both."""
        if self._read is None:
            self._read = self.published()
            self.descent.start_from(self._read)

        def again() -> Descent:
            return Descent(self._cls, self._config, self._target, self._known)

        self.descent = descended(self.descent, again, end, moves, deep)

    def published(self) -> Moves:
        """The arguments that the library's own loader reads of the file's keys and shapes, as moves
        from the registered network's; none where it has no such loader, or that one refuses."""
        published = getattr(self._source, "load_as_published", None)
        if published is None:
            return {}
        try:
            state = _of_small_values(self._state)
            with torch.device("meta"), torch.no_grad():
                config = constructor_arguments(
                    lambda: published(self.member.entry.name, state), self._cls
                )
        except Exception:  # a loader for the files that its authors have seen
            return {}
        was = leaves_of_config(self._config)
        return {
            path: value
            for path, value in leaves_of_config(config or {}).items()
            if path not in was or value != was[path]
        }

    def compared(self, below: Canonical) -> Match:
        """The tensors of what the network has come to, held against the file's."""
        return compared(
            below.index, self.descent.shapes, lambda key, spec: is_derived(key, kind(spec))
        )

    def match(self, below: Canonical, end: float) -> Match:
        """The same, with what was moved; until `end` it is asked what of that the tensors show."""
        moves = self.descent.moves
        values = leaves_of_config(moved(self._config, moves))
        variant = Variant(
            f"{self._cls.__module__}.{self._cls.__qualname__}",
            moves,
            self._is_direct(),
            (self.signature.number, self.member.function),
            self.member.plain,
        )
        return replace(
            self.compared(below),
            entry=self.member.entry,
            config=_settings(values, self.descent, end),
            reasons=(f"{self.descent.tries} networks of its class were built",),
            variant=variant,
        )

    def _is_direct(self) -> bool:
        """Whether the library's own builder takes what was moved, and makes the same of it."""
        roots = dict.fromkeys(path.partition(".")[0] for path in self.descent.moves)
        whole = moved(self._config, self.descent.moves)
        try:
            given = json.loads(json.dumps({root: whole[root] for root in roots}))
            return (
                shapes_of(create_on_meta(self._source, self.member.entry.name, **given))
                == self.descent.shapes
            )
        except Exception:  # the builder refuses, or a value has no plain form
            return False


def attempt(
    target: Shapes,
    state: Mapping[str, TensorSpec],
    signature: Signature,
    member: SignatureMember,
    families: Families | None,
    alike: float,
) -> StartingNetwork | None:
    """An attempt that starts from a registered network; None where its library isn't installed, or
    the class can't be called again."""
    entry = member.entry
    try:
        source = provider(entry.provider)
        _, cls, config = captured_call(lambda: create_on_meta(source, entry.name))
    except (ArchfindError, ImportError):
        return None
    if any(isinstance(value, nn.Module | torch.Tensor) for value in config.values()):
        return None  # of a network on meta
    known = _known(families, f"{cls.__module__}.{cls.__qualname__}")
    return StartingNetwork((signature, member), (cls, config), target, known, alike, state)


def _of_small_values(state: Mapping[str, TensorSpec]) -> dict[str, torch.Tensor]:
    """A state dict on the meta device, but for the values of its small tensors: some networks write
    their arguments in a buffer."""
    reader = TensorReader()
    made: dict[str, torch.Tensor] = {}
    for key, spec in state.items():
        made[key] = torch.empty(spec.shape, device="meta")
        if math.prod(spec.shape) <= _SMALL:
            with contextlib.suppress(BuildError, OSError):  # a header alone
                made[key] = reader.read(spec, key)
    return made


def _known(families: Families | None, cls: str) -> dict[str, list[Leaf]]:
    """The values that the class's registered networks, and those it was learned from, have."""
    found: dict[str, dict[str, Leaf]] = {}
    for number in range(len(families)) if families else ():
        assert families is not None
        family = families.known(number).family
        if family.cls != cls:
            continue
        for values in [family.leaves, *family.presets.values()]:
            for path, value in values.items():
                found.setdefault(path, {})[repr(value)] = value
        for path, options in family.options.items():
            for value in options:
                found.setdefault(path, {})[repr(value)] = value
    return {path: list(values.values()) for path, values in found.items()}


def _settings(values: Mapping[str, Leaf], descent: Descent, end: float) -> dict[str, Setting]:
    """Settings by argument: `default` where the argument was never seen to move a tensor."""
    descent.look_until(min(end, time.monotonic() + _QUESTIONS))
    seen = {path for path in descent.visible() if not descent.is_free(path)}
    roots = dict.fromkeys(path.partition(".")[0] for path in values)
    shown = {path.partition(".")[0] for path in seen}
    found: dict[str, Setting] = {}
    for root in roots:
        own = {p: v for p, v in values.items() if p == root or p.startswith(f"{root}.")}
        numbers = any(type(v) in (int, float) for v in own.values())
        if root not in shown and not numbers:
            continue
        for name, value in gathered(root, own).items():
            paths = [p for p in own if p == name or p.startswith(f"{name}.")]
            source = "shape" if any(p in seen for p in paths) else "default"
            found[name] = Setting(value, source)
    return found
