"""DeepSpeed's folders: ZeRO's flat fp32 partitions put back into weights, and pipeline layers.

The order of a partition is that of deepspeed's own zero_to_fp32.py: stages 1 and 2 cut each group's
concatenated parameters into equal runs, stage 3 cuts every parameter into equal runs.
"""

from __future__ import annotations

import os
from math import prod

from archfind.errors import CheckpointError
from archfind.formats.many_files.pieces import absent, part, tensor_of_pieces
from archfind.frozen import replace
from archfind.types import Checkpoint, Piece, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SHAPES = "param_shapes/"
_FLAT = ("single_partition_of_fp32_groups", "fp32_flat_groups")


def shapes(metadata: Mapping[str, object]) -> list[dict[str, tuple[int, ...]]]:
    """Name -> shape of each parameter group, from a model_states file's metadata."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for pointer, value in metadata.items():
        if not pointer.startswith(_SHAPES) or type(value) is not list:
            continue
        group, _, name = pointer[len(_SHAPES) :].partition("/")
        if not name:  # one group, not in a list
            group, name = "0", group
        if all(type(one) is int and one >= 0 for one in value):
            groups.setdefault(group, {})[name] = tuple(value)
    return [groups[key] for key in groups]


def add_shapes(
    index: dict[str, TensorSpec], metadata: dict[str, object], path: str, warnings: list[str]
) -> None:
    """Adds the shapes that a model_states file knows, where the weights are elsewhere."""
    added = 0
    for group in shapes(metadata):
        for name, shape in group.items():
            key = f"module/{name}"
            held = index.get(key)
            if held is None or (prod(held.shape) == 0 and prod(shape)):
                index[key] = absent(name, "float32", shape, path)
                added += 1
    if added:
        warnings.append(
            f"{added} weights are in the zero_pp_rank_* files beside it (DeepSpeed ZeRO); "
            "give the folder to read them"
        )


def read(folder: str, names: list[str], open_file: Callable[[str], Checkpoint]) -> Checkpoint:
    """A folder of ZeRO's model states and optimizer states."""
    models = sorted(name for name in names if name.endswith("model_states.pt"))
    optims = sorted((name for name in names if name.endswith("optim_states.pt")), key=_rank)
    first = open_file(os.path.join(folder, models[0]))
    warnings = [one for one in first.warnings if "zero_pp_rank_" not in one]
    index = dict(first.index)
    if len({name.partition("mp_rank_")[2][:2] for name in models}) > 1:
        warnings.append(f"{len(models)} model-parallel ranks; only the first is read")
        optims = [name for name in optims if "mp_rank_00" in name]
    states = [open_file(os.path.join(folder, name)) for name in optims]
    danger = [*first.danger]
    for one in states:
        danger += one.danger
    metadata = dict(first.metadata)
    if states:
        groups = shapes(first.metadata)
        stage = states[0].metadata.get("optimizer_state_dict/zero_stage")
        merged = _merged(folder, groups, states, stage)
        index.update(merged)
        left = {
            key: spec
            for key, spec in states[0].index.items()
            if not any(word in key for word in _FLAT)
        }
        index.update((f"optimizer/rank0/{key}", spec) for key, spec in left.items())
        metadata.update(
            (f"optimizer/rank0/{key}", value) for key, value in states[0].metadata.items()
        )
        metadata["zero_stage"] = stage
    files = (*first.files, *(path for one in states for path in one.files))
    return replace(
        first,
        path=folder,
        format="deepspeed-zero",
        index=index,
        metadata=metadata,
        danger=tuple(dict.fromkeys(danger)),
        warnings=tuple(warnings),
        files=files,
        nbytes=first.nbytes + sum(one.nbytes for one in states),
        container={"ranks": max(len(states), 1), "stage": metadata.get("zero_stage")},
    )


def _rank(name: str) -> tuple[int, str]:
    digits = name.partition("zero_pp_rank_")[2].partition("_")[0]
    return (int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 9 else 0), name


def _merged(
    folder: str,
    groups: list[dict[str, tuple[int, ...]]],
    states: list[Checkpoint],
    stage: object,
) -> dict[str, TensorSpec]:
    flats = [_flat_groups(state) for state in states]
    if stage == 3:
        together = {name: shape for group in groups for name, shape in group.items()}
        return _split_each(folder, together, flats)
    merged: dict[str, TensorSpec] = {}
    for number, group in enumerate(groups):
        runs = [flat[number] for flat in flats if number < len(flat)]
        merged.update(_split_runs(folder, group, runs))
    return merged


def _flat_groups(state: Checkpoint) -> list[TensorSpec]:
    """A rank's flat fp32 tensors, in the order of their groups."""
    found = [
        (key, spec)
        for key, spec in state.index.items()
        if any(f"/{word}/" in f"/{key}/" for word in _FLAT) and len(spec.shape) == 1
    ]
    return [spec for _, spec in found]


def _split_runs(
    folder: str, group: dict[str, tuple[int, ...]], runs: list[TensorSpec]
) -> dict[str, TensorSpec]:
    """Stages 1 and 2: the parameters one behind the other over all ranks' runs."""
    total = sum(run.shape[0] for run in runs)
    if sum(map(prod, group.values())) > total:
        raise CheckpointError("damaged: its ZeRO partitions are smaller than its weights", folder)
    made: dict[str, TensorSpec] = {}
    at = 0
    for name, shape in group.items():
        count = prod(shape)
        pieces = [
            Piece((max(start, at) - at,), part(run, max(start, at) - start, end - max(start, at)))
            for run, start, end in _overlaps(runs, at, at + count)
        ]
        made[f"module/{name}"] = tensor_of_pieces(name, "float32", shape, pieces, folder)
        at += count
    return made


def _overlaps(runs: list[TensorSpec], first: int, last: int) -> list[tuple[TensorSpec, int, int]]:
    """The runs that meet [first, last), each with its start and where the meeting ends."""
    found: list[tuple[TensorSpec, int, int]] = []
    start = 0
    for run in runs:
        end = start + run.shape[0]
        if start < last and first < end:
            found.append((run, start, min(end, last)))
        start = end
    return found


def _split_each(
    folder: str, named: dict[str, tuple[int, ...]], flats: list[list[TensorSpec]]
) -> dict[str, TensorSpec]:
    """Stage 3: each rank has an equal part of every parameter; the last one's is padded."""
    made: dict[str, TensorSpec] = {}
    ranks, at = len(flats), 0
    for name, shape in named.items():
        count = prod(shape)
        share = -(-count // ranks)
        pieces: list[Piece] = []
        for rank, flat in enumerate(flats):
            begin, end = rank * share, min((rank + 1) * share, count)
            if begin >= end:
                continue  # a rank behind the last has padding only
            for run, start, stop in _overlaps(flat, at, at + end - begin):
                low = max(start, at)
                pieces.append(Piece((begin + low - at,), part(run, low - start, stop - low)))
        if sum(piece.spec.shape[0] for piece in pieces) != count:
            raise CheckpointError(
                "damaged: its ZeRO partitions are smaller than its weights", folder
            )
        made[f"module/{name}"] = tensor_of_pieces(name, "float32", shape, pieces, folder)
        at += share
    return made


def read_pipeline(
    folder: str, names: list[str], open_file: Callable[[str], Checkpoint]
) -> Checkpoint:
    """`layer_NN-model_00-model_states.pt`: one file a layer."""
    layers = sorted(name for name in names if name.startswith("layer_") and "-model_00-" in name)
    found = {name[6:].partition("-")[0]: open_file(os.path.join(folder, name)) for name in layers}
    index: dict[str, TensorSpec] = {}
    for number, one in found.items():
        head = str(int(number)) if number.isascii() and number.isdecimal() else number
        index.update((f"{head}.{key}", spec) for key, spec in one.index.items())
    ranks = {name.partition("-model_")[2][:2] for name in names if name.startswith("layer_")}
    warnings = [line for one in found.values() for line in one.warnings]
    if len(ranks) > 1:
        warnings.append(f"{len(ranks)} model-parallel ranks; only the first is read")
    first = next(iter(found.values()))
    return replace(
        first,
        path=folder,
        format="deepspeed-pipeline",
        index=index,
        danger=tuple(line for one in found.values() for line in one.danger),
        warnings=tuple(warnings),
        files=tuple(path for one in found.values() for path in one.files),
        nbytes=sum(one.nbytes for one in found.values()),
        container={"layers": len(found)},
    )
