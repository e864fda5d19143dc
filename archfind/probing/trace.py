"""One call of a constructor, with numbers that remember how they were computed: every size of every
tensor as an expression of the constructor's leaves, and the loops that each tensor was made in.

Where a library takes a number out of Python's arithmetic (numpy, a tensor), the memory ends: that
size has no expression, and moving the leaf says what it does.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import math
import sys
import time
from collections.abc import Callable, Generator, Iterator
from types import FunctionType
from typing import Any

import torch
from torch import nn

from archfind.probing.config import Config, leaves_of_config, moved
from archfind.probing.number_arrays import kept_in_arrays
from archfind.probing.numbers import (
    ATOM,
    Float,
    Int,
    Number,
    asked,
    compared,
    divided,
    forked,
    has_fractions,
    is_number,
    leaf,
    remembering,
    text_of,
    traced_number,
    untraced_value,
)
from archfind.probing.probe import NoValues, Shapes, quietly, shapes_of
from archfind.probing.tensor_sizes import result_sizes, traced_shape, unmet


class Refused(Exception):
    """A constructor didn't take its arguments; `asked` is what it had asked of them last, `divided`
    what divided what."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.asked = list(asked)
        self.divided = dict(divided)


class ConstructorTracer:
    """The loops that a constructor is in, and the tensors that it makes."""

    def __init__(self) -> None:
        self.loops: list[tuple[str, int]] = []  # bound, and the round
        self.bounds: dict[str, int] = {}

    def range(self, *args: Any) -> Any:
        """`range`, watched where its end is traced."""
        bounds = [a for a in args if isinstance(a, Number)]
        found = range(*map(untraced_value, args))
        if not bounds:
            return found
        if len(args) == 1:
            bound = args[0].text
        elif len(args) == 2:
            bound = text_of(args[1] - args[0], 0)
        else:
            return found
        self.bounds[bound] = len(found)
        return _Loop(self, bound, found)

    @staticmethod
    def extreme(name: str) -> Callable[..., Any]:
        """`min` or `max`, with its expression."""
        own = getattr(builtins, name)

        def chosen(*args: Any, **kwargs: Any) -> Any:
            traced = len(args) == 2 and any(isinstance(a, Number) for a in args)
            if traced and not kwargs and all(map(is_number, args)):
                text = f"{name}({text_of(args[0], 0)},{text_of(args[1], 0)})"
                return traced_number(own(*map(untraced_value, args)), text, ATOM)
            return own(*args, **kwargs)

        return chosen


class _Loop:
    """A range whose rounds are known while they last."""

    def __init__(self, tracer: ConstructorTracer, bound: str, own: range) -> None:
        self._tracer = tracer
        self._bound = bound
        self._own = own

    def __len__(self) -> int:
        return len(self._own)

    def __getitem__(self, at: Any) -> Any:
        return self._own[at]

    def __iter__(self) -> Iterator[int]:
        loops = self._tracer.loops
        depth = len(loops)
        try:
            for turn, index in enumerate(self._own):
                del loops[depth:]
                loops.append((self._bound, turn))
                yield index
        finally:
            del loops[depth:]


@contextlib.contextmanager
def _watched(tracer: ConstructorTracer, package: str) -> Generator[None]:
    """The library's modules with traced builtins, as long as this lasts."""
    own: dict[str, Any] = {
        "range": tracer.range,
        "int": Int,
        "float": Float,
        "min": tracer.extreme("min"),
        "max": tracer.extreme("max"),
    }
    spaces, constructors = _watchable(package, len(sys.modules))
    changed: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for space, forks in spaces:
        new = {**{word: value for word, value in own.items() if word not in space}, **forks}
        changed.append((space, {word: space[word] for word in new if word in space}))
        space.update(new)
    for cls, init in constructors.items():
        cls.__init__ = remembering(init)
    make = nn.Parameter.__new__

    def remembered(cls: Any, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        made = make(cls, data, *args, **kwargs)
        if hasattr(data, "_traced"):
            made._traced = data._traced
        return made

    nn.Parameter.__new__ = staticmethod(remembered)  # pyright: ignore
    try:
        yield
    finally:
        nn.Parameter.__new__ = staticmethod(make)  # pyright: ignore
        for cls, init in constructors.items():
            cls.__init__ = init
        for space, before in changed:
            for word in own.keys() - before.keys():
                if space.get(word) is own[word]:
                    del space[word]
            space.update(before)


@functools.cache
def _watchable(
    package: str, _modules: int
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], dict[type, Any]]:
    """A library's modules as they are, each with its functions forked, and the constructors that
    have fractions; found again where more modules were imported."""
    spaces: list[tuple[dict[str, Any], dict[str, Any]]] = []
    constructors: dict[type, Any] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != package or module is None:
            continue
        space = vars(module)
        forks: dict[str, Any] = {}
        for word, value in space.items():
            home = (getattr(value, "__module__", "") or "").partition(".")[0]
            if type(value) is FunctionType and home == package:
                forks[word] = forked(value)
            elif isinstance(value, type) and home == package:
                init = vars(value).get("__init__")
                if type(init) is FunctionType and has_fractions(init):
                    constructors[value] = init
        spaces.append((space, forks))
    return spaces, constructors


class _Remembering(NoValues):
    """Tensors keep the expressions of their sizes."""

    def __init__(self, tracer: ConstructorTracer, end: float) -> None:
        super().__init__(end)
        self._tracer = tracer

    def __torch_function__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if question := unmet(func, args):
            asked.append((question, False))
        found = super().__torch_function__(func, types, args, kwargs)
        if not isinstance(found, torch.Tensor):
            return traced_shape(func, args, found)
        if not hasattr(found, "_traced"):
            sizes = result_sizes(func, args, kwargs, found)
            if sizes:
                found._traced = sizes, tuple(self._tracer.loops)  # pyright: ignore
        return found


class Traced:
    """A network with what its constructor did: `sizes` has a key's expressions, one a dim, and
    `loops` the rounds that its tensor was made in; `bounds` are those of all loops, `compared`
    what the library asked of its numbers, and what was so."""

    def __init__(
        self,
        shapes: Shapes,
        sizes: dict[str, list[str]],
        loops: dict[str, tuple[tuple[str, int], ...]],
        bounds: dict[str, int],
        compared: dict[str, bool],
    ) -> None:
        self.shapes = shapes
        self.sizes = sizes
        self.loops = loops
        self.bounds = bounds
        self.compared = compared


def trace(make: type[nn.Module], config: Config, seconds: float = math.inf) -> Traced:
    """Call a constructor on the meta device with traced numbers. Refused where it raises."""
    own = {
        path: leaf(value, path)  # pyright: ignore[reportArgumentType]
        for path, value in leaves_of_config(config).items()
        if type(value) in (int, float) and not path.endswith(".#") and "-" not in path
    }
    tracer = ConstructorTracer()
    package = make.__module__.partition(".")[0]
    asked.clear()
    divided.clear()
    compared.clear()
    with quietly(), _watched(tracer, package), kept_in_arrays(), torch.device("meta"):
        try:
            with _Remembering(tracer, time.monotonic() + seconds):
                module = make(**moved(config, own))
        except Exception as error:  # a library refuses values in its own ways
            raise Refused(error) from error
    met = dict(compared)
    sizes: dict[str, list[str]] = {}
    loops: dict[str, tuple[tuple[str, int], ...]] = {}
    for key, tensor in module.state_dict(keep_vars=True).items():
        found = getattr(tensor, "_traced", None)
        if found is not None and len(found[0]) == tensor.dim():
            sizes[key], loops[key] = found
    return Traced(shapes_of(module), sizes, loops, tracer.bounds, met)
