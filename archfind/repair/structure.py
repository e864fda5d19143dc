"""Tensors that are one in the network and several in the file, or the other way round."""

from __future__ import annotations

from archfind.repair.edits import Edit
from archfind.repair.work import RepairWork

# Names of query, key and value apart, and together.
_APART = (
    ("q", "k", "v"),
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("to_q", "to_k", "to_v"),
    ("wq", "wk", "wv"),
    ("q_lin", "k_lin", "v_lin"),
    ("q_linear", "k_linear", "v_linear"),
    ("query_proj", "key_proj", "value_proj"),
    ("linear_q", "linear_k", "linear_v"),
    ("k", "v"),
    ("key", "value"),
    ("k_proj", "v_proj"),
    ("to_k", "to_v"),
)
_TOGETHER = ("qkv", "Wqkv", "qkv_proj", "to_qkv", "in_proj", "c_attn", "kv", "kv_proj", "to_kv")


def rearranged(work: RepairWork) -> None:
    """Append fusions and splits of attention projections, and undo merged parametrisations."""
    for key in work.missing():
        _fused(work, key)
    for key in work.extra():
        _split(work, key)
    _parametrised(work)


def _cut(key: str) -> tuple[str, str, str] | None:
    """The parent, the layer and the tensor: "a.attn.", "qkv", "weight"; MultiheadAttention joins
    the last two by an underscore."""
    head, _, leaf = key.rpartition(".")
    for name in ("in_proj_weight", "in_proj_bias"):
        if leaf == name:
            return f"{head}." if head else "", "in_proj", name.removeprefix("in_proj_")
    parent, _, layer = head.rpartition(".")
    return (f"{parent}." if parent else "", layer, leaf) if layer else None


def _places(parent: str) -> list[str]:
    """Where the parts of a layer may stand: with it, or a level higher or lower."""
    higher = parent[:-1].rpartition(".")[0]
    return list(dict.fromkeys([parent, f"{higher}." if higher else ""]))


def _fused(work: RepairWork, key: str) -> None:
    found = _cut(key)
    if found is None or found[1] not in _TOGETHER:
        return
    parent, layer, leaf = found
    want = work.want[key].shape
    for names in _APART:
        if (len(names) == 2) != (layer in ("kv", "kv_proj", "to_kv")):
            continue
        inner = ("", "self.", "attention.")
        for place in [f"{p}{i}" for p in _places(parent) for i in inner]:
            keys = [f"{place}{name}.{leaf}" for name in names]
            if all(k in work.have and k not in work.want for k in keys):
                shapes = [work.have[k].shape for k in keys]
                rows = sum(shape[0] for shape in shapes)
                if {shape[1:] for shape in shapes} == {want[1:]} and rows == want[0]:
                    note = f"{', '.join(names)} are one here"
                    edit = Edit("fuse", tuple(keys), (key,), {"axis": 0}, note=note)
                    work.become(edit, {key: want})
                    return


def _split(work: RepairWork, key: str) -> None:
    found = _cut(key)
    if found is None or found[1] not in _TOGETHER:
        return
    parent, _, leaf = found
    shape = work.have[key].shape
    for names in _APART:
        for place in [f"{p}{i}" for p in _places(parent) for i in ("", "self.", "attention.")]:
            keys = [f"{place}{name}.{leaf}" for name in names]
            if all(k in work.want and k not in work.have for k in keys):
                sizes = [work.want[k].shape[0] for k in keys]
                if sum(sizes) == shape[0] and {work.want[k].shape[1:] for k in keys} == {shape[1:]}:
                    options = {"axis": 0, "sizes": sizes}
                    edit = Edit("split", (key,), tuple(keys), options, note="in this order")
                    work.become(edit, {k: work.want[k].shape for k in keys})
                    return


_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def _parametrised(work: RepairWork) -> None:
    """A plain weight where the network has weight_norm: v is the weight, g its length."""
    for g_name, v_name in _NORMS:
        for key in [k for k in work.missing() if k.endswith(f".{g_name}")]:
            base = key[: -len(g_name)]
            plain, other = f"{base}weight", f"{base}{v_name}"
            if plain not in work.have or other not in work.want or other in work.have:
                continue
            v, g = work.want[other].shape, work.want[key].shape
            if work.have[plain].shape != v:
                continue
            options = {"how": "weight_norm", "g": list(g)}
            edit = Edit("split", (plain,), (key, other), options, note="weight_norm")
            work.become(edit, {key: g, other: v})
