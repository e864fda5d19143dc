"""What a constructor makes of its arguments, found by calling it on the meta device: one leaf moved
at a time, then many at random.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from types import FrameType
from typing import Any, Self

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from archfind.probing.config import Config, Leaf, leaves_of_config, moved
from archfind.probing.proposals import COUNT, alternates, annotated, coupled, leaf_name, literals
from archfind.providers.storage_bound import is_storageless, with_storage

Shapes = dict[str, tuple[tuple[int, ...], str]]  # key -> shape, dtype
Moves = dict[str, Leaf]

_LEAVES = 400  # a constructor with more has its later ones left alone
_ACCEPTED: dict[type, int] = {int: 3, float: 5}  # values of a number that are kept
_TRIES = 6  # values tried for a leaf before it counts as one that can't be moved
_USUAL = 0.65  # share of random moves to values that are known to be accepted
_FEW = 2  # blocks in a row: the random networks have more
_FILLING = frozenset(
    "normal_ uniform_ fill_ zero_ clamp_ erfinv_ mul_ add_ sub_ div_ copy_ trunc_normal_ log_ "
    "exp_".split()
)
_INITS = [
    name for name, fill in vars(nn.init).items() if name[0] != "_" and name[-1] == "_" and fill
]
_TOO_LARGE = "a network that large teaches nothing"
_SOON = 0.05  # seconds
_LARGEST = 4_000  # keys: a random network beyond that teaches nothing new


class Sample:
    """One network that could be built: all its leaves, and what it holds."""

    def __init__(self, values: dict[str, Leaf], shapes: Shapes, moves: Moves) -> None:
        self.values = values
        self.shapes = shapes
        self.moves = moves


class Probe:
    """A constructor with base arguments, and every network that was built with others."""

    def __init__(self, make: Callable[..., nn.Module], config: Config) -> None:
        self.make = make
        self.config = config
        self.base = leaves_of_config(config)
        self.failures = 0
        self._built: dict[frozenset[tuple[str, Leaf]], Sample | None] = {}
        first = self.sample({})
        if first is None:
            raise ValueError("the base network can't be built again from its own arguments")
        self.first = first

    def sample(self, moves: Moves) -> Sample | None:
        """The network with these leaves moved, or None where the constructor refuses."""
        key = frozenset((path, f"{type(v).__name__} {v}") for path, v in moves.items())
        if key not in self._built:
            self._built[key] = self._sample(moves)
        return self._built[key]

    def _sample(self, moves: Moves) -> Sample | None:
        try:
            config = moved(self.config, moves)
            shapes = shapes_of(on_meta(self.make, config))
        except Exception:  # a library refuses values in its own ways
            self.failures += 1
            return None
        if len(shapes) > _LARGEST or any(0 in shape for shape, _ in shapes.values()):
            return None
        return Sample(leaves_of_config(config), shapes, dict(moves))

    def samples(self) -> list[Sample]:
        """Every network that was built, the base first."""
        return [sample for sample in self._built.values() if sample is not None]


def small(make: Callable[..., nn.Module], config: Config) -> Config:
    """The config with fewer blocks: the same rules from smaller networks. Counts are the whole
    numbers, and the lengths of inner lists, that take keys away when they fall."""
    probe = Probe(make, config)
    moves: Moves = {}
    keys = len(probe.first.shapes)
    for path, value in probe.base.items():
        inner = path.endswith(".#") and path.count(".") > 1
        if type(value) is not int or not _FEW < value <= 64 or (path.endswith(".#") and not inner):
            continue
        tried = probe.sample({**moves, path: 2 if inner else _FEW})
        if tried is not None and len(tried.shapes) < keys:
            moves[path] = 2 if inner else _FEW
            keys = len(tried.shapes)
    return moved(config, moves)


class NoValues(TorchFunctionMode):
    """On meta nothing has values: filling tensors in place is most of a constructor's time. A
    constructor that is still at work at `end` is stopped."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self._end = end

    def __enter__(self) -> Self:
        self._fills = {name: vars(nn.init)[name] for name in _INITS}
        for name, fill in self._fills.items():
            setattr(nn.init, name, _unless_meta(fill))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for name, fill in self._fills.items():
            setattr(nn.init, name, fill)

    def __torch_function__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        # Not on the way out of torch.no_grad: gradients would stay off.
        if time.monotonic() > self._end and name != "_set_grad_enabled":
            raise TimeoutError(_TOO_LARGE)
        # torch.nn.init hands its tensor on by name
        tensor = args[0] if args else (kwargs or {}).get("tensor")
        if name in _FILLING and tensor is not None and tensor.is_meta:
            return tensor
        # torch.Tensor([...]) has values on any device; requires_grad is set so, too
        if name == "__set__" and isinstance(args[1], torch.Tensor) and args[0].is_meta:
            args = args[0], args[1].to("meta")
        if name == "linspace":  # rates of dropping paths, of which constructors read the items
            kwargs = {**(kwargs or {}), "device": "cpu"}
        return func(*args, **(kwargs or {}))


def _unless_meta(fill: Callable[..., Any]) -> Callable[..., Any]:
    def filled(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return tensor if tensor.is_meta else fill(tensor, *args, **kwargs)

    return filled


@contextlib.contextmanager
def _stopped(seconds: float) -> Generator[None]:
    """A constructor that loops in Python, without calls of torch, is stopped by a signal, where the
    system and the thread can have one, and nobody else waits for it."""
    main = threading.current_thread() is threading.main_thread()
    if seconds == math.inf or not main or not hasattr(signal, "setitimer"):
        yield
        return
    if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return
    over = False

    def stop(_number: int, frame: FrameType | None) -> None:
        while frame is not None and not over:
            if frame.f_code.co_name in ("__enter__", "__exit__"):  # half done would stay half done
                signal.setitimer(signal.ITIMER_REAL, _SOON)
                return
            frame = frame.f_back
        if not over:
            raise TimeoutError(_TOO_LARGE)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds + _SOON)
    try:
        yield
    finally:
        over = True  # what is on its way already must not set the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """Without the warnings and the lines that constructors print."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def on_meta(make: Callable[..., nn.Module], config: Config, seconds: float = math.inf) -> nn.Module:
    """The module without storage where its constructor allows, with as much as storage_bound.py
    grants where it doesn't. TimeoutError after `seconds`."""
    with quietly():
        end = time.monotonic() + seconds
        try:
            with torch.device("meta"), NoValues(end), _stopped(seconds):
                return make(**config)
        except (RuntimeError, NotImplementedError) as error:
            if not is_storageless(error):
                raise
        with _stopped(max(end - time.monotonic(), 0)):
            return with_storage(lambda: make(**config))


def shapes_of(module: nn.Module) -> Shapes:
    """Keys, shapes and kinds of number of a module's state dict."""
    found: Shapes = {}
    for key, tensor in module.state_dict().items():
        real = tensor.is_floating_point()
        dtype = "float" if real else str(tensor.dtype).removeprefix("torch.")
        found[key] = (tuple(tensor.shape), dtype)
    return found


def explore_leaves(
    probe: Probe,
    cls: type[nn.Module],
    known: Mapping[str, Iterable[Leaf]],
    seconds: float = 30,
) -> dict[str, list[Leaf]]:
    """Move every leaf alone, then many at random. Returns the leaves that change a key or a shape,
    each with the values that were accepted. `known` has values that other networks of the class
    use. Work stops after `seconds`."""
    end = time.process_time() + seconds
    hints = literals(cls)
    for path, values in annotated(cls, probe.base).items():
        hints.setdefault(path, []).extend(values)
    visible: dict[str, list[Leaf]] = {}
    joint = coupled(probe.base)
    for path in list(probe.base)[:_LEAVES]:
        accepted = _alone(
            probe, path, joint, [*known.get(path, ()), *hints.get(leaf_name(path), ())][:24]
        )
        if accepted:
            visible[path] = accepted
        if time.process_time() > end:
            break
    _crossed(probe, visible, end + seconds / 4)
    _paired(probe, visible, end + seconds / 2)
    draw_random(probe, visible, min(160, 16 + 5 * len(visible)), random.Random(0), end + seconds)
    return visible


def _alone(
    probe: Probe, path: str, joint: Mapping[str, tuple[str, ...]], known: Iterable[Leaf]
) -> list[Leaf]:
    """The values that one leaf can take by itself, or with those that must move with it, and that
    change a shape."""
    accepted: list[Leaf] = []
    base = probe.base[path]
    most = _ACCEPTED.get(type(base), 24)
    if type(base) is int and base <= COUNT:
        most += 3  # counts, which rules say more about than widths
    for tries, value in enumerate(alternates(path, base, known)):
        if len(accepted) >= most or tries >= _TRIES + 24 * isinstance(value, str):
            break
        found = probe.sample({path: value})
        if found is None and path in joint:
            found = probe.sample(dict.fromkeys(joint[path], value))
        if found is not None and found.shapes != probe.first.shapes:
            accepted.append(value)
    return accepted


def _paired(probe: Probe, visible: dict[str, list[Leaf]], end: float) -> None:
    """Keys that only a switch brings are seen to depend on other leaves with that switch on; a leaf
    that moves nothing without it becomes visible."""
    seen = _ranks(probe.first)
    numbers = [p for p, v in probe.base.items() if type(v) in (int, float) and p not in visible]
    for path, values in list(visible.items()):
        for value in values:
            sample = probe.sample({path: value})
            if sample is None or path.endswith(".#") or not _ranks(sample) - seen:
                continue
            if time.process_time() > end:
                return
            seen |= _ranks(sample)
            for other, choices in list(visible.items()):
                if other != path:
                    probe.sample({path: value, other: choices[0]})
            for other in numbers if len(numbers) < 60 else ():
                accepted: list[Leaf] = []
                for choice in alternates(other, probe.base[other], ())[:5]:
                    found = probe.sample({path: value, other: choice})
                    if found is not None and found.shapes != sample.shapes:
                        accepted.append(choice)
                if accepted:
                    visible[other] = accepted


def _crossed(probe: Probe, visible: Mapping[str, list[Leaf]], end: float) -> None:
    """Every choice of a kind with every small number: how often a layer is there (to upscale by 4
    in two steps) may be said by both, and random moves hit few of the pairs."""
    kinds = [path for path in visible if isinstance(probe.base[path], str)]
    numbers = [
        path
        for path in visible
        if type(value := probe.base[path]) is int and value <= COUNT and "." not in path
    ]
    for path, other in itertools.product(kinds, numbers):
        for value, number in itertools.product(visible[path], visible[other]):
            if time.process_time() > end:
                return
            probe.sample({path: value, other: number})


def _ranks(sample: Sample) -> set[tuple[str, int]]:
    return {(key, len(shape)) for key, (shape, _) in sample.shapes.items()}


def draw_random(
    probe: Probe,
    visible: Mapping[str, list[Leaf]],
    wanted: int,
    draw: random.Random,
    end: float,
) -> list[Sample]:
    """Networks with many leaves moved, for the fits and to hold back."""
    joint = coupled(probe.base)
    found: list[Sample] = []
    for _ in range(4 * wanted):
        if len(found) >= wanted or time.process_time() > end:
            break
        share = draw.choice((0.15, 0.3, 0.5, 0.8)) if len(visible) > 3 else 0.7
        moves: Moves = {}
        for path, values in visible.items():
            if draw.random() < share and path not in moves:
                value = drawn_leaf(draw, path, probe.base[path], values)
                together = joint.get(path, ())
                moves |= dict.fromkeys(together, value) if draw.random() < 0.5 else {path: value}
        moves = {path: value for path, value in moves.items() if path in visible}
        sample = probe.sample(moves) if moves else None
        if sample is not None:
            found.append(sample)
    return found


def drawn_leaf(draw: random.Random, path: str, base: Leaf, values: list[Leaf]) -> Leaf:
    """One of the values that a leaf takes alone, or a number that wasn't tried: rules that hold for
    a few numbers by chance fail there."""
    if type(base) is not int or path.endswith(".#") or draw.random() < _USUAL:
        return draw.choice(values)
    return draw.randint(1, 8) if base <= COUNT else max(1, base * draw.randint(2, 14) // 8)
