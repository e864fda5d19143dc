"""Which of a config's fields move a class's tensors: each moved alone, then many at random."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

from archfind.classes.notation import numbered_template
from archfind.learning.configs.bench import Bench, BuiltTensors
from archfind.probing.config import Leaf
from archfind.probing.probe import Moves
from archfind.probing.proposals import COUNT, alternates, coupled, leaf_name, literals
from archfind.providers import transformers as library
from archfind.types import NOTHING

# Fields that are read by a constructor and never move a tensor: not worth the builds.
_SILENT = re.compile(
    r"dropout|_drop$|drop_path|eps$|epsilon|_prob$|_std$|initializer|init_range|token_id|theta"
    r"|_scale$|temperature|use_cache|_coef|_loss|pretraining_tp|activation|hidden_act|^act$|_act$"
    r"|model_type|_fn$|attn_implementation|jitter|momentum|_id$|mask_time|mask_feature|architectures"
)
WIDTH = re.compile(r"emb|hidden_size|hidden_dim|d_model|proj|width|^dim$|channels")
# The sizes that networks of one class mostly differ in.
CORE = re.compile(
    r"hidden_size|d_model|n_embd|embed_dim|hidden_dim|(^|\.)dim$|layers$|n_layer|depth|intermediate"
    r"|ffn|d_ff|d_kv|vocab|max_position|n_positions|heads|head_dim|num_labels|experts$|image_size"
    r"|patch_size|projection_dim|width"
)
_ITEMS = 16  # a list with more is held at its length and its items
_SWITCHED = 2  # values of a switch
_TRIED = 3  # ... of what is read behind it
_SIZES = 8  # moved together with that
_MORE = 0.5  # ... of the time given, beyond it, for what people change most


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
            is_read = is_read or field in library.derived_from(type(owner))
            is_read = is_read or field in library.undeclared(type(owner))
            is_read = is_read or ("." not in path and field in names)
            if path == "num_labels":
                is_read = any(name in ("num_labels", "id2label") for _, name in read)
            long = bench.base.get(f"{path.rpartition('.')[0]}.#", 0)
            too_long = isinstance(long, int) and long > _ITEMS
            if is_read and not _SILENT.search(named[-1]) and not too_long:
                found.append(path)
        return found
    return list(bench.base)


def explore_fields(
    bench: Bench,
    paths: Iterable[str],
    wanted: int,
    end: float,
    facts: Mapping[str, list[Leaf]] = NOTHING,
    others: Mapping[str, list[Leaf]] = NOTHING,
    inner: Mapping[str, list[Leaf]] = NOTHING,
) -> dict[str, list[Leaf]]:
    """Move every leaf alone, then `wanted` times many at random; the leaves that change a tensor,
    with the values that the class took. `facts` are values that public models have, `others` those
    that the type's other classes took: sizes among them are moved at random alone. `inner` are
    those of the networks inside, whose rules are known: only sizes, which what holds them may read,
    are moved alone."""
    _, cls = library.resolve_class(bench.name)
    hints = _literals(cls)
    joint = coupled(bench.base)
    visible: dict[str, list[Leaf]] = {}
    more = _MORE * (end - time.process_time())
    # What people change most comes first, should the time be short.
    for path in sorted(paths, key=lambda p: not CORE.search(p)):
        if time.process_time() > end + more * bool(CORE.search(path)):
            continue
        base = bench.base[path]
        if path in others and type(base) is int and base > COUNT and not path.endswith("#"):
            visible[path] = others[path]
            continue
        if path in inner and (type(base) is not int or base <= COUNT):
            visible[path] = inner[path]
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
    own = {path: values for path, values in visible.items() if path not in inner}
    _behind(bench, own, visible, facts, end)
    _equal(bench, visible)
    _deep(bench, visible, end)
    _paired(bench, own, visible, end)
    draw = random.Random(bench.name)
    made = 0
    for _ in range(3 * wanted):
        if made >= wanted or time.process_time() > end:
            break
        made += bench.build(_drawn(draw, bench, visible, joint)) is not None
    return visible


def _behind(
    bench: Bench,
    switches: Mapping[str, list[Leaf]],
    visible: dict[str, list[Leaf]],
    facts: Mapping[str, list[Leaf]],
    end: float,
) -> None:
    """Leaves that are read, and move something, once a switch is moved: buckets of positions, where
    attention is relative. What one of them is to the others, and to sizes, is seen in pairs."""
    sizes = [p for p, v in bench.base.items() if p in visible and type(v) is int and v > COUNT]
    for switch, values in switches.items():
        base = bench.base[switch]
        if type(base) is int and base > 0:
            continue
        for value in values[:_SWITCHED]:
            brought = bench.build({switch: value})
            if brought is None or time.process_time() > end:
                continue
            read = {name for _, name in brought.reads - bench.first.reads}
            found: list[Moves] = []
            for path in bench.base:
                if path in visible or leaf_name(path) not in read or _SILENT.search(path):
                    continue
                if time.process_time() > end:
                    break
                for other in alternates(path, bench.base[path], facts.get(path, ()))[:_TRIED]:
                    built = bench.build({switch: value, path: other})
                    if built is not None and built.shapes != brought.shapes:
                        found.append({path: other})
            for one in found:
                for other in (*found, *({p: visible[p][0]} for p in sizes[:_SIZES])):
                    if not one.keys() & other.keys() and time.process_time() < end:
                        bench.build({switch: value, **one, **other})
            for one in found:
                for path, other in one.items():
                    visible.setdefault(path, []).append(other)


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


def _is_uniform(base: BuiltTensors, deep: BuiltTensors) -> bool:
    """Whether every layer of a deep network is like the base's."""
    kinds: list[dict[str, set[object]]] = []
    counts: list[Counter[str]] = []
    for one in (base, deep):
        shapes = one.shapes[""]
        own: dict[str, set[object]] = {}
        for key, spec in shapes.items():
            own.setdefault(numbered_template(key), set()).add(spec)
        kinds.append(own)
        counts.append(Counter(numbered_template(key) for key in shapes))
    grown = {counts[1][t] / counts[0][t] for t in counts[1] if t in counts[0]} - {1.0}
    return kinds[0] == kinds[1] and len(grown) <= 1


def _equal(bench: Bench, visible: Mapping[str, list[Leaf]]) -> None:
    """Widths that differ by default are tried the same: a projection between them may go then.
    Those of other names come first, then an item of a list as its neighbour."""
    widths = [p for p in visible if type(bench.base[p]) is int and WIDTH.search(leaf_name(p))]
    widths = [p for p in widths if not p.endswith("#")]
    names = dict.fromkeys(map(leaf_name, widths))
    firsts = [next(p for p in widths if leaf_name(p) == name) for name in names]
    pairs = [(one, other) for one in firsts[:4] for other in firsts[:4]]
    pairs += [(a, b) for a, b in itertools.pairwise(widths) if leaf_name(a) == leaf_name(b)][:4]
    for one, other in pairs:
        if bench.base[one] != bench.base[other]:
            bench.build({one: bench.base[other]})


def _paired(
    bench: Bench,
    leaves: Mapping[str, list[Leaf]],
    visible: Mapping[str, list[Leaf]],
    end: float,
) -> None:
    """Keys that one leaf brings are seen to depend on the sizes with that leaf moved."""
    seen = set(bench.first.shapes[""])
    sizes = [p for p, v in bench.base.items() if p in visible and type(v) is int and v > COUNT]
    for path, values in leaves.items():
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
    config, _ = library.resolve_class(bench.name)
    words = next((str(f.type) for f in dataclass_fields(config) if f.name == path), "")
    return [True] * ("bool" in words)


def _is_optional(bench: Bench, path: str) -> bool:
    """Whether a number may be none at all."""
    config, _ = library.resolve_class(bench.name)
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
