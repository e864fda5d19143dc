"""Model-parallel files, one a rank: Meta's consolidated.NN.pth, Megatron's mp_rank_NN folders."""

from __future__ import annotations

import os

from archfind.formats.many_files.pieces import joinable, joined_along, part, tensor_of_pieces
from archfind.frozen import replace
from archfind.types import Checkpoint, Piece, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The dimension along which a weight is cut, by the end of its name; the others are copies.
_META_ROWS = ("tok_embeddings.weight", "attention.wo.weight", "feed_forward.w2.weight")
_MEGATRON_COLUMNS = (
    "word_embeddings.weight",
    "query_key_value.weight",
    "query_key_value.bias",
    "linear_qkv.weight",
    "linear_qkv.bias",
    "dense_h_to_4h.weight",
    "dense_h_to_4h.bias",
    "linear_fc1.weight",
    "linear_fc1.bias",
    "output_layer.weight",
    "lm_head.weight",
)
_MEGATRON_ROWS = (
    "attention.dense.weight",
    "dense_4h_to_h.weight",
    "linear_proj.weight",
    "linear_fc2.weight",
)
_GATED = ("dense_h_to_4h.weight", "dense_h_to_4h.bias", "linear_fc1.weight", "linear_fc1.bias")


def read_consolidated(
    folder: str, names: list[str], open_file: Callable[[str], Checkpoint]
) -> Checkpoint:
    """Every file has all keys; norms are copies, matrices are cut along rows or columns."""
    found = [open_file(os.path.join(folder, name)) for name in sorted(names)]
    width = next(
        (spec.shape[0] for key, spec in found[0].index.items() if key.endswith("norm.weight")), 0
    )
    warnings: list[str] = []
    index: dict[str, TensorSpec] = {}
    for key in found[0].index:
        specs = [one.index[key] for one in found if key in one.index]
        dim = 1 if key.endswith(_META_ROWS) else 0
        if key.endswith("tok_embeddings.weight") and specs[0].shape[-1:] == (width,):
            dim = 0  # Llama 3 cuts its vocabulary, not its width
        index[key] = _together(key, specs, dim if len(specs[0].shape) > 1 else -1, warnings)
    return _checkpoint(folder, "consolidated", found, index, warnings)


def read_megatron(
    folder: str, names: list[str], open_file: Callable[[str], Checkpoint]
) -> Checkpoint:
    """mp_rank_TT[_PPP]/model_optim_rng.pt: tensor-parallel ranks are joined, pipeline stages stand
    apart."""
    ranks: dict[str, list[str]] = {}
    for name in sorted(names):
        stage = name[len("mp_rank_") :].partition("_")[2]
        ranks.setdefault(stage, []).append(name)
    files = {
        stage: [
            open_file(os.path.join(folder, name, _megatron_file(folder, name))) for name in held
        ]
        for stage, held in ranks.items()
    }
    warnings: list[str] = []
    index: dict[str, TensorSpec] = {}
    for stage, found in files.items():
        head = f"stage{stage}/" if len(files) > 1 else ""
        gated = found[0].metadata.get("args/swiglu") is True
        for key in found[0].index:
            if "optimizer" in key.partition("/")[0]:
                if found[0] is next(iter(files.values()))[0]:
                    index[head + key] = found[0].index[key]
                continue
            specs = [one.index[key] for one in found if key in one.index]
            dim = (
                0 if key.endswith(_MEGATRON_COLUMNS) else 1 if key.endswith(_MEGATRON_ROWS) else -1
            )
            if gated and key.endswith(_GATED) and len(specs) > 1:
                index[head + key] = _gated(key, specs)
            else:
                index[head + key] = _together(key, specs, dim, warnings)
    every = [one for found in files.values() for one in found]
    version = every[0].metadata.get("checkpoint_version")
    if isinstance(version, int | float) and version < 2:
        warnings.append(
            f"Megatron checkpoint version {version}: rows of fused qkv weights are in another order"
        )
    if len(files) > 1:
        warnings.append(f"{len(files)} pipeline stages: layer numbers start anew in each")
    return _checkpoint(folder, "megatron", every, index, warnings)


def _megatron_file(folder: str, name: str) -> str:
    for file in ("model_optim_rng.pt", "model_rng.pt"):
        if os.path.isfile(os.path.join(folder, name, file)):
            return file
    return "model_optim_rng.pt"


def _gated(key: str, specs: list[TensorSpec]) -> TensorSpec:
    """Each rank has its part of the gate above its part of the rest."""
    total = sum(spec.shape[0] for spec in specs)
    pieces: list[Piece] = []
    at = 0
    for spec in specs:
        half = spec.shape[0] // 2
        rest = [0] * (len(spec.shape) - 1)
        pieces.append(Piece((at, *rest), part(spec, 0, half)))
        pieces.append(Piece((total // 2 + at, *rest), part(spec, half, spec.shape[0] - half)))
        at += half
    shape = (total, *specs[0].shape[1:])
    return tensor_of_pieces(key, specs[0].dtype, shape, pieces, specs[0].storage.file)


def _together(key: str, specs: list[TensorSpec], dim: int, warnings: list[str]) -> TensorSpec:
    if dim < 0 or len(specs) == 1:
        return specs[0]
    if joinable(specs, dim):
        return joined_along(key, specs, dim)
    warnings.append("ranks disagree about a shape; the first rank's is shown")
    return specs[0]


def _checkpoint(
    folder: str,
    kind: str,
    found: list[Checkpoint],
    index: dict[str, TensorSpec],
    warnings: list[str],
) -> Checkpoint:
    told = dict.fromkeys([*(line for one in found for line in one.warnings), *warnings])
    return replace(
        found[0],
        path=folder,
        format=kind,
        index=index,
        danger=tuple(dict.fromkeys(line for one in found for line in one.danger)),
        warnings=tuple(told),
        files=tuple(path for one in found for path in one.files),
        nbytes=sum(one.nbytes for one in found),
        container={"ranks": len(found)},
    )
