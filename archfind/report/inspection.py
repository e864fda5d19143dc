"""What is in a file, whatever network it belongs to: one document, shown as text or JSON."""

from __future__ import annotations

from archfind import dtypes as names_of
from archfind.database.grouping import group
from archfind.database.notation import Line
from archfind.evidence.training import counters, optimizers, random_states, schedulers
from archfind.formats.counts import numel
from archfind.formats.pickles.danger import is_dangerous
from archfind.formats.torch_files.torch_objects import CALLS
from archfind.report.uses import has_data, uses
from archfind.sourcing.outline import outline
from archfind.state_dicts.canonical import AVERAGED, networks
from archfind.types import Checkpoint, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUPED = 50_000  # tensors of one network that are drawn as a tree


def inspect_document(checkpoint: Checkpoint) -> dict[str, object]:
    """Container, wrappers, tensors grouped by repeats, training state, metadata, what loading would
    call, damage, and what the file is good for."""
    found = networks(checkpoint)
    dtypes: dict[str, int] = {}
    ties: dict[object, list[str]] = {}
    empty = 0
    for pointer, spec in checkpoint.index.items():
        dtypes[spec.dtype] = dtypes.get(spec.dtype, 0) + 1
        ties.setdefault((id(spec.storage), spec.offset, spec.shape), []).append(pointer)
        empty += not has_data(spec)
    weights = {key: spec for one in found.values() for key, spec in one.index.items()}
    made, counted = optimizers(checkpoint), counters(checkpoint)
    plans, generators = schedulers(checkpoint), random_states(checkpoint)
    acts = (" would call ", " would import ")
    calls = [line for line in checkpoint.danger if any(act in line for act in acts)]
    damage = [line for line in checkpoint.danger if line not in calls]
    if empty:
        damage.append(f"{empty} of {len(checkpoint.index)} tensors have no values in this file")
    return {
        "schema": 1,
        "path": checkpoint.path,
        "format": checkpoint.format,
        "container": dict(checkpoint.container),
        "bytes": checkpoint.nbytes,
        "tensors": len(checkpoint.index),
        "parameters": sum(numel(spec.shape) for spec in checkpoint.index.values()),
        "dtypes": dtypes,
        "wrappers": [
            {
                "place": place,
                "tensors": len(one.index),
                "parameters": sum(numel(spec.shape) for spec in one.index.values()),
                "averaged": any(word in AVERAGED for word in place.split("/")),
                "groups": _groups(one.index),
                "layers": outline(one.index),
            }
            for place, one in found.items()
        ],
        "siblings": _siblings(checkpoint, list(found)),
        "tied": [names for names in ties.values() if len(names) > 1 and _real(checkpoint, names)],
        "optimizer": {"kind": made[0]["kind"], "step": made[0]["step"]} if made else None,
        "optimizers": made,
        "counters": counted,
        "schedulers": plans,
        "random_states": generators,
        "scalars": {k: v for k, v in checkpoint.metadata.items() if k not in checkpoint.hints},
        "hints": dict(checkpoint.hints),
        "objects": dict(checkpoint.objects),
        "sources": dict(checkpoint.sources),
        "globals": _globals(checkpoint.foreign),
        "foreign": list(checkpoint.foreign),
        "uses": uses(checkpoint, weights, made, counted, plans, generators),
        "files": list(checkpoint.files),
        "danger": list(checkpoint.danger),
        "damage": damage,
        "warnings": list(checkpoint.warnings),
        "error": None,
        "report": None,
    }


def _loose(name: str, places: list[str]) -> bool:
    """Whether a tensor at the top is beside the networks: no network lives there."""
    return "" not in places and "." not in name


def _real(checkpoint: Checkpoint, names: list[str]) -> bool:
    if any("param_groups/" in name for name in names):
        return False  # a pickled optimizer holds the weights themselves
    spec = checkpoint.index[names[0]]
    return numel(spec.shape) > 0 and has_data(spec)


def _groups(index: Mapping[str, TensorSpec]) -> list[str]:
    lines: dict[str, Line] = {}
    for key, spec in index.items():
        if len(lines) >= _GROUPED:
            break
        lines[key] = Line(key, spec.shape, "float" if "float" in spec.dtype else spec.dtype)
    drawn = group(lines)
    if len(index) > len(lines):
        drawn.append(f"... and {len(index) - len(lines):,} tensors more")
    return drawn


def _globals(names: tuple[str, ...]) -> dict[str, list[str]]:
    """The names that unpickling would import: those that archfind reads as data, dangerous ones,
    and other classes and functions, which loading would run."""
    sorted_: dict[str, list[str]] = {"harmless": [], "danger": [], "other": []}
    for name in names:
        known = name in CALLS or _is_dtype(name) or name in _PLAIN
        kind = "harmless" if known else "danger" if is_dangerous(name) else "other"
        sorted_[kind].append(name)
    return sorted_


def _is_dtype(name: str) -> bool:
    return names_of.of_storage(name) is not None or names_of.of_torch(name) is not None


_PLAIN = frozenset(
    "collections.OrderedDict collections.defaultdict collections.Counter _codecs.encode "
    "builtins.dict builtins.list builtins.set builtins.frozenset builtins.bytes builtins.bytearray "
    "builtins.int builtins.float builtins.str builtins.tuple builtins.object builtins.bool "
    "__builtin__.dict __builtin__.list __builtin__.set __builtin__.object argparse.Namespace "
    "numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct numpy.ndarray "
    "torch.Tensor torch.nn.parameter.Parameter".split()
)


def _siblings(checkpoint: Checkpoint, places: list[str]) -> list[dict[str, object]]:
    """Every top-level entry with how much it holds, where the file is more than one state dict."""
    held: dict[str, list[int]] = {}
    for which, names in ((0, checkpoint.index), (1, checkpoint.metadata)):
        for pointer in names:
            top = pointer.partition("/")[0]
            if "@" not in top and ("/" in pointer or which or _loose(top, places)):
                held.setdefault(top, [0, 0])[which] += 1
    tops = {place.partition("/")[0] for place in places if place}
    return [
        {"name": name, "tensors": tensors, "values": values, "network": name in tops}
        for name, (tensors, values) in held.items()
        if name
    ]
