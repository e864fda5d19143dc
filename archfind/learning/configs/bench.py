"""One class built on meta from many configs, its state dict kept in both dialects."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Generator, Iterable

import torch
import transformers
from torch import nn

from archfind.classes.older_keys import Places
from archfind.learning.configs.older import older_key_places
from archfind.learning.fit import Failed
from archfind.probing.config import Config, Leaf, leaves_of_config, moved
from archfind.probing.probe import Moves, Sample, Shapes, on_meta, shapes_of
from archfind.probing.proposals import leaf_name
from archfind.providers import transformers as library

_COUNTED = re.compile(r"layer|depth|block|expert|stage")
_LARGEST = 3_000  # keys
_SECONDS = 20.0  # for a first network
_TIMES = 10  # as long as that a network may take, or a second: a larger one teaches nothing new
_SLOW = 0.06  # seconds for a small network
_LIGHTER = 0.7  # of its time, that are worth another size
_LOOKING = 2.0  # seconds for a look at sizes
_LARGE = 16
_LONG = re.compile(r"size|length|position|frames|points|patch|window")


class BuiltTensors:
    """A network's tensors: `shapes` by dialect, "" the module's own; `tied` keys -> source."""

    def __init__(self, values: dict[str, Leaf], moves: Moves) -> None:
        self.values = values
        self.moves = moves
        self.shapes: dict[str, Shapes] = {}
        self.tied: dict[str, str] = {}
        self.prefix = ""
        self.older: Places = ()
        self.reads: set[tuple[str, str]] = set()
        self.inner: set[str] = set()  # model types of the networks inside
        self.sources: dict[str, str] = {}  # published key -> the module's key of the same tensor

    def sample(self, keys: Iterable[str], dialect: str) -> Sample:
        """What is left of one dialect's tensors when `keys` are known already."""
        known = set(keys)
        own = {k: v for k, v in self.shapes[dialect].items() if k not in known}
        return Sample(self.values, own, self.moves)


class Bench:
    """A class with a base config, and every network that was built with other fields; `failed` are
    rules that were looked for in them."""

    def __init__(self, name: str, config: Config, failed: Failed | None = None) -> None:
        self.name = name
        _, self.cls = library.resolve_class(name)
        self.config = config
        self.base = leaves_of_config(config)
        self.failed = failed or Failed()
        self._built: dict[frozenset[tuple[str, str]], BuiltTensors | None] = {}
        self._names: dict[str, str] = {}  # the module's key -> the published one
        self._is_split = False  # whether some published tensors are parts of the module's
        self._empty: set[str] = set()  # keys whose tensors have no items by default
        self._seconds = _SECONDS
        start = time.monotonic()
        first = self._build({})  # what the library has against it is the reason that is reported
        if first is None:
            raise ValueError(f"its default network has no tensors, or over {_LARGEST:,}")
        self.first = self._built[frozenset()] = first
        self._seconds = max(1.0, _TIMES * (time.monotonic() - start))

    def build(self, moves: Moves) -> BuiltTensors | None:
        """The network with these leaves moved, or None where the library refuses."""
        key = frozenset((path, f"{type(v).__name__} {v}") for path, v in moves.items())
        if key not in self._built:
            try:
                self._built[key] = self._build(moves)
            except Exception:  # a library refuses values in its own ways
                self._built[key] = None
        return self._built[key]

    def _build(self, moves: Moves) -> BuiltTensors | None:
        arguments = moved(self.config, moves)
        found = BuiltTensors(leaves_of_config(arguments), dict(moves))
        switches = arguments.pop(library.INIT, {})
        config = library.config_of(self.name.partition("/")[0], arguments)
        if moves and not library.is_divided(config):
            return None
        quiet = contextlib.redirect_stdout(io.StringIO())
        with quiet, _unfilled(), library.reads() as reads:
            module = on_meta(lambda: self.cls(config, **switches), {}, self._seconds)
        found.reads = set(reads)
        shapes = shapes_of(module)
        empty = {key for key, (shape, _) in shapes.items() if 0 in shape}
        if not moves:
            self._empty = empty
        if not shapes or len(shapes) > _LARGEST or empty - self._empty:
            return None
        found.shapes[""] = shapes
        self._publish(module, found)
        found.tied = {} if moves else library.tieable(module)
        found.older = () if moves else older_key_places(module)
        found.prefix = str(getattr(module, "base_model_prefix", ""))
        found.inner = {
            str(m.config.model_type)
            for m in module.modules()
            if isinstance(m, transformers.PreTrainedModel) and m is not module
        }
        return found

    def _publish(self, module: nn.Module, found: BuiltTensors) -> None:
        """The tensors under their published keys, and which of the module's they are."""
        shapes = found.shapes[""]
        if not self._is_split and shapes.keys() <= self._names.keys():
            # Only renamed, and all of the names are known: replaying the library's rules is slow.
            found.sources = {self._names[key]: key for key in shapes}
            written = {self._names[key]: spec for key, spec in shapes.items()}
        else:
            own = module.state_dict()
            state = library.published(module, own)
            names = {id(tensor): key for key, tensor in own.items()}
            found.sources = {key: names[id(t)] for key, t in state.items() if id(t) in names}
            written = {
                key: (tuple(t.shape), "float" if t.is_floating_point() else str(t.dtype)[6:])
                for key, t in state.items()
            }
            self._is_split |= len(found.sources) != len(own) or len(state) != len(own)
            self._names |= {key: new for new, key in found.sources.items()}
        found.shapes["published"] = written if set(written) != set(shapes) else shapes

    def influence(self, path: str) -> int:
        """How many tensors change when a leaf is moved alone."""
        own = self.first.shapes[""]
        for one in self.built():
            if list(one.moves) == [path]:
                shapes = one.shapes[""]
                return sum(own.get(k) != shapes.get(k) for k in {**own, **shapes})
        return 0

    def built(self) -> list[BuiltTensors]:
        """Every network, the base first."""
        return [one for one in self._built.values() if one is not None]


@contextlib.contextmanager
def _unfilled() -> Generator[None]:
    """Without torch's initializers: on meta they fill nothing, and are much of a network's time."""
    own = {name: f for name, f in vars(nn.init).items() if name[-1] == "_" and callable(f)}
    try:
        for name in own:
            setattr(nn.init, name, _unchanged)
        yield
    finally:
        for name, function in own.items():
            setattr(nn.init, name, function)


def _unchanged(tensor: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
    return tensor


def shrunk(name: str, config: Config) -> Config:
    """The config with fewer layers and experts: the same rules from smaller networks."""
    base = leaves_of_config(config)
    lengths = {v for p, v in base.items() if p.endswith(".#")}  # stages, each with its own rule
    counts = [
        p
        for p, v in base.items()
        if type(v) is int and 2 < v <= 512 and _COUNTED.search(p) and not p.endswith("#")
        if "layer" in leaf_name(p) or v not in lengths
    ]
    layers = [p for p in counts if "layer" in leaf_name(p) and "{}" not in p]
    experts = [p for p in counts if "expert" in leaf_name(p)]
    # A mixture of experts whose first layers are dense shows its experts in the second layer then.
    moves: Moves = {p: 1 for p, v in base.items() if "first_k_dense" in p and type(v) is int and v}
    smallest = keys_of(name, moved(config, moves))
    groups = [layers, experts, *([p] for p in counts)]
    for group in groups:
        few = 4 if group is experts else 2
        left = [p for p in group if p not in moves and base[p] != few]
        tried = {**moves, **dict.fromkeys(left, few)}
        size = keys_of(name, moved(config, tried)) if left else None
        if size is not None and (smallest is None or size < smallest or group is experts):
            moves, smallest = tried, size
    return moved(config, moves)


def lighter(name: str, config: Config) -> Config:
    """The config with smaller sizes where building takes long: a table of positions that is worked
    out in Python, say, which a smaller picture makes shorter. The same keys stay."""
    keys, seconds = _timed(name, config)
    moves: Moves = {}
    base = leaves_of_config(config)
    large = [p for p, v in base.items() if type(v) is int and v >= _LARGE and p[-1] != "#"]
    end = time.process_time() + _LOOKING
    for path in sorted(large, key=lambda p: not _LONG.search(p)):
        if seconds < _SLOW or time.process_time() > end:
            break
        for part in (4, 2):
            tried = {**moves, path: base[path] // part}  # pyright: ignore
            found, took = _timed(name, moved(config, tried))
            if found == keys and took < _LIGHTER * seconds:
                moves, seconds = tried, took
                break
    return moved(config, moves)


def _timed(name: str, config: Config) -> tuple[int | None, float]:
    start = time.process_time()
    found = keys_of(name, config)
    return found, time.process_time() - start


def keys_of(name: str, config: Config) -> int | None:
    """How many keys the class has with a config, or None where it can't be built."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return len(on_meta(library.maker(name), config, _SECONDS).state_dict())
    except Exception:  # a library refuses values in its own ways
        return None
