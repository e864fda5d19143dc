"""One class built on meta from many configs, its state dict kept in both dialects."""

from __future__ import annotations

import contextlib
import io
import random
import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

import torch
import transformers
from torch import nn

from archfind.families.text import template
from archfind.probing.config import Config, Leaf, leaves, moved
from archfind.probing.probe import Moves, Sample, Shapes, on_meta, shapes_of
from archfind.probing.proposals import COUNT, alternates, coupled, leaf_name, literals
from archfind.providers import transformers as library
from archfind.types import NOTHING

# Fields that are read by a constructor and never move a tensor: not worth the builds.
_SILENT = re.compile(
    r"dropout|_drop$|drop_path|eps$|epsilon|_prob$|_std$|initializer|init_range|token_id|theta"
    r"|_scale$|temperature|use_cache|_coef|_loss|pretraining_tp|activation|hidden_act|^act$|_act$"
    r"|model_type|_fn$|attn_implementation|jitter|momentum|_id$|mask_time|mask_feature|architectures"
)
_COUNTED = re.compile(r"layer|depth|block|expert|stage")
_WIDTH = re.compile(r"emb|hidden_size|hidden_dim|d_model|proj|width|^dim$|channels")
# The sizes that networks of one class mostly differ in.
CORE = re.compile(
    r"hidden_size|d_model|n_embd|embed_dim|hidden_dim|(^|\.)dim$|layers$|n_layer|depth|intermediate"
    r"|ffn|d_ff|d_kv|vocab|max_position|n_positions|heads|head_dim|num_labels|experts$|image_size"
    r"|patch_size|projection_dim|width"
)
_ITEMS = 16  # a list with more is held at its length and its items
_LARGEST = 3_000  # keys
_SECONDS = 20.0  # for one network
_MORE = 12.0  # ... beyond the time given, for what people change most


class Built:
    """A network's tensors: `shapes` by dialect, "" the module's own; `tied` keys -> source."""

    def __init__(self, values: dict[str, Leaf], moves: Moves) -> None:
        self.values = values
        self.moves = moves
        self.shapes: dict[str, Shapes] = {}
        self.tied: dict[str, str] = {}
        self.prefix = ""
        self.reads: set[tuple[str, str]] = set()
        self.inner: set[str] = set()  # model types of the networks inside
        self.sources: dict[str, str] = {}  # published key -> the module's key of the same tensor

    def sample(self, keys: Iterable[str], dialect: str) -> Sample:
        """What is left of one dialect's tensors when `keys` are known already."""
        known = set(keys)
        own = {k: v for k, v in self.shapes[dialect].items() if k not in known}
        return Sample(self.values, own, self.moves)


class Bench:
    """A class with a base config, and every network that was built with other fields."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        _, self.cls = library.resolve(name)
        self.config = config
        self.base = leaves(config)
        self._built: dict[frozenset[tuple[str, str]], Built | None] = {}
        self._names: dict[str, str] = {}  # the module's key -> the published one
        self._is_split = False  # whether some published tensors are parts of the module's
        self._empty: set[str] = set()  # keys whose tensors have no items by default
        first = self.build({})
        if first is None:
            raise ValueError("can't be built from its default config")
        self.first = first

    def build(self, moves: Moves) -> Built | None:
        """The network with these leaves moved, or None where the library refuses."""
        key = frozenset((path, f"{type(v).__name__} {v}") for path, v in moves.items())
        if key not in self._built:
            try:
                self._built[key] = self._build(moves)
            except Exception:  # a library refuses values in its own ways
                self._built[key] = None
        return self._built[key]

    def _build(self, moves: Moves) -> Built | None:
        arguments = moved(self.config, moves)
        found = Built(leaves(arguments), dict(moves))
        switches = arguments.pop(library.INIT, {})
        config = library.config_of(self.name.partition("/")[0], arguments)
        if moves and not library.is_divided(config):
            return None
        quiet = contextlib.redirect_stdout(io.StringIO())
        with quiet, _unfilled(), library.reads(not moves) as reads:
            module = on_meta(lambda: self.cls(config, **switches), {}, _SECONDS)
        found.reads = reads
        shapes = shapes_of(module)
        empty = {key for key, (shape, _) in shapes.items() if 0 in shape}
        if not moves:
            self._empty = empty
        if not shapes or len(shapes) > _LARGEST or empty - self._empty:
            return None
        found.shapes[""] = shapes
        self._publish(module, found)
        found.tied = {} if moves else library.tieable(module)
        found.prefix = str(getattr(module, "base_model_prefix", ""))
        found.inner = {
            str(m.config.model_type)
            for m in module.modules()
            if isinstance(m, transformers.PreTrainedModel) and m is not module
        }
        return found

    def _publish(self, module: nn.Module, found: Built) -> None:
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

    def built(self) -> list[Built]:
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
    base = leaves(config)
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


def keys_of(name: str, config: Config) -> int | None:
    """How many keys the class has with a config, or None where it can't be built."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return len(on_meta(library.maker(name), config, _SECONDS).state_dict())
    except Exception:  # a library refuses values in its own ways
        return None


def candidates(bench: Bench) -> list[str]:
    """Leaves that the constructor reads and that may move a tensor."""
    model_type = bench.name.partition("/")[0]
    with contextlib.suppress(Exception):
        made = library.config_of(model_type, {k: v for k, v in bench.config.items() if k != "init"})
        read = bench.first.reads
        names = {name for _, name in read}
        found: list[str] = []
        for path in bench.base:
            named = [p for p in path.split(".") if not p.isdigit() and p != "#"]
            owner: Any = made
            for part in named[:-1]:
                owner = getattr(owner, part, None)
            field = getattr(owner, "attribute_map", {}).get(named[-1], named[-1])
            # Some configs hand their fields on to those inside.
            is_read = (type(owner).__name__, field) in read or path.startswith("init.")
            is_read = is_read or ("." not in path and field in names)
            if path == "num_labels":
                is_read = any(name in ("num_labels", "id2label") for _, name in read)
            long = bench.base.get(f"{path.rpartition('.')[0]}.#", 0)
            too_long = isinstance(long, int) and long > _ITEMS
            if is_read and not _SILENT.search(named[-1]) and not too_long:
                found.append(path)
        return found
    return list(bench.base)


def explore(
    bench: Bench,
    paths: Iterable[str],
    wanted: int,
    end: float,
    facts: Mapping[str, list[Leaf]] = NOTHING,
    others: Mapping[str, list[Leaf]] = NOTHING,
) -> dict[str, list[Leaf]]:
    """Move every leaf alone, then `wanted` times many at random; the leaves that change a tensor,
    with the values that the class took. `facts` are values that public models have, `others` those
    that the type's other classes took: sizes among them are moved at random alone."""
    _, cls = library.resolve(bench.name)
    hints = _literals(cls)
    joint = coupled(bench.base)
    visible: dict[str, list[Leaf]] = {}
    # What people change most comes first, should the time be short.
    for path in sorted(paths, key=lambda p: not CORE.search(p)):
        if time.process_time() > end + _MORE * bool(CORE.search(path)):
            continue
        base = bench.base[path]
        if path in others and type(base) is int and base > COUNT and not path.endswith("#"):
            visible[path] = others[path]
            continue
        known: list[Leaf] = [
            *facts.get(path, ()),
            *hints.get(leaf_name(path), ()),
            *_declared(bench, path),
        ][:10]
        if type(bench.base[path]) is int:
            known = [n for n in known if type(n) is int and n > 0]
        taken = _alone(bench, path, joint, known, 1)
        if taken and type(base) is int and 1 < base <= COUNT and 1 not in taken:
            # A ratio, a group, an expert: with one alone there may be nothing to do.
            taken += [1] * (bench.build({path: 1}) is not None)
        if taken and type(base) is int and _is_optional(bench, path):
            none = bench.build({path: None})
            taken += [None] * (none is not None and none.shapes != bench.first.shapes)
        if taken:
            visible[path] = taken
    _equal(bench, visible)
    _deep(bench, visible, end)
    _paired(bench, visible, end)
    draw = random.Random(bench.name)
    made = 0
    for _ in range(3 * wanted):
        if made >= wanted or time.process_time() > end:
            break
        made += bench.build(_drawn(draw, bench, visible, joint)) is not None
    return visible


def _deep(bench: Bench, visible: Mapping[str, list[Leaf]], end: float) -> None:
    """Deep networks, and where their layers differ, such with another leaf moved, too: which layers
    a rule is for shows only there."""
    numbers = [p for p in visible if type(bench.base[p]) is int]
    counts = [p for p in numbers if bench.base[p] <= COUNT]  # pyright: ignore
    sizes = [p for p in numbers if p not in counts]
    layers = [p for p in counts if "layer" in leaf_name(p)]
    for path in layers[:3]:
        deep = bench.build({path: 7})
        if deep is None or _is_uniform(bench.first, deep):
            continue
        for other in [*counts[:6], *sizes[:10]]:
            if time.process_time() > end:
                return
            if other != path and other in counts:
                bench.build({path: 7, other: 2})
                bench.build({path: 6, other: 3})
            elif other != path:
                bench.build({path: 7, other: visible[other][0]})


def _is_uniform(base: Built, deep: Built) -> bool:
    """Whether every layer of a deep network is like the base's."""
    kinds: list[dict[str, set[object]]] = []
    counts: list[Counter[str]] = []
    for one in (base, deep):
        shapes = one.shapes[""]
        own: dict[str, set[object]] = {}
        for key, spec in shapes.items():
            own.setdefault(template(key), set()).add(spec)
        kinds.append(own)
        counts.append(Counter(template(key) for key in shapes))
    grown = {counts[1][t] / counts[0][t] for t in counts[1] if t in counts[0]} - {1.0}
    return kinds[0] == kinds[1] and len(grown) <= 1


def _equal(bench: Bench, visible: Mapping[str, list[Leaf]]) -> None:
    """Widths that differ by default are tried the same: a projection between them may go then."""
    widths = [p for p in visible if type(bench.base[p]) is int and _WIDTH.search(leaf_name(p))]
    for one in widths[:4]:
        for other in widths[:4]:
            if bench.base[one] != bench.base[other]:
                bench.build({one: bench.base[other]})


def _paired(bench: Bench, visible: Mapping[str, list[Leaf]], end: float) -> None:
    """Keys that one leaf brings are seen to depend on the sizes with that leaf moved."""
    seen = set(bench.first.shapes[""])
    sizes = [p for p, v in bench.base.items() if p in visible and type(v) is int and v > COUNT]
    for path, values in visible.items():
        base = bench.base[path]
        counts = type(base) is int and base <= COUNT
        for value in values:
            brought = bench.build({path: value})
            if brought is None or counts or path.endswith("#"):
                continue
            if not set(brought.shapes[""]) - seen or time.process_time() > end:
                continue
            seen |= set(brought.shapes[""])
            if type(base) is int:
                bench.build({path: base * 3})
            for other in sizes:
                if other != path:
                    bench.build({path: value, other: visible[other][0]})
                    bench.build({path: value, other: bench.base[other] * 3})  # pyright: ignore


_read: dict[str, dict[str, list[Leaf]]] = {}


def _literals(cls: type) -> dict[str, list[Leaf]]:
    """What a class's module compares names with, read once for all of its classes."""
    if cls.__module__ not in _read:
        _read[cls.__module__] = literals(cls)
    return _read[cls.__module__]


def _declared(bench: Bench, path: str) -> list[Leaf]:
    """A switch that is None by default: an optional size would be a rule with two cases."""
    if bench.base[path] is not None or "." in path:
        return []
    config, _ = library.resolve(bench.name)
    words = next((str(f.type) for f in dataclass_fields(config) if f.name == path), "")
    return [True] * ("bool" in words)


def _is_optional(bench: Bench, path: str) -> bool:
    """Whether a number may be none at all."""
    config, _ = library.resolve(bench.name)
    return any(f.name == path and "None" in str(f.type) for f in dataclass_fields(config))


def _alone(
    bench: Bench, path: str, joint: Mapping[str, tuple[str, ...]], known: list[Leaf], most: int
) -> list[Leaf]:
    taken: list[Leaf] = []
    base = bench.base[path]
    most += type(base) is int and base <= COUNT
    most += 3 * isinstance(base, str)
    silent = 0
    for tries, value in enumerate(alternates(path, base, known)):
        if len(taken) >= most or tries >= 6 + 4 * isinstance(base, str) or silent >= 2:
            break
        found = bench.build({path: value})
        if found is None:
            found = bench.build(_joined(bench, path, value, joint))
        if found is not None and found.shapes != bench.first.shapes:
            taken.append(value)
        elif found is not None and not isinstance(base, str):
            silent += 1  # taken, and nothing moves
    return taken


def _joined(bench: Bench, path: str, value: Leaf, joint: Mapping[str, tuple[str, ...]]) -> Moves:
    """A move with those that go with it: lists of one length, or as long as a count says."""
    moves: Moves = {path: value, **dict.fromkeys(joint.get(path, ()), value)}
    above = path.rpartition(".")[0]
    base = bench.base[path]
    if type(base) is int and not path.endswith("#"):
        for other, length in bench.base.items():
            beside = other[:-2].rpartition(".")[0] == above
            if other.endswith(".#") and length == base and beside:
                moves[other] = value
    return moves


def _drawn(
    draw: random.Random,
    bench: Bench,
    visible: Mapping[str, list[Leaf]],
    joint: Mapping[str, tuple[str, ...]],
) -> Moves:
    share = draw.choice((0.2, 0.4, 0.7))
    moves: Moves = {}
    for path, values in visible.items():
        if path in moves or draw.random() > share:
            continue
        base = bench.base[path]
        value = draw.choice(values)
        if type(base) is int and not path.endswith("#") and draw.random() < 0.5:
            value = draw.randint(1, 7) if base <= COUNT else max(1, base * draw.randint(2, 14) // 8)
            if "head" in leaf_name(path):
                value = max(1, draw.choice((base // 4, base // 2, base * 2)))
        # Widths that are the same by default often have to stay so.
        alike = [p for p in visible if bench.base[p] == base and type(base) is int and base > COUNT]
        if len(alike) > 1 and draw.random() < 0.4:
            moves |= dict.fromkeys(alike, value)
        elif draw.random() < 0.5:
            moves |= {p: v for p, v in _joined(bench, path, value, joint).items() if p in visible}
        moves[path] = value
    return moves
