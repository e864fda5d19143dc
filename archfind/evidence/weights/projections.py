"""Which tensors of a state dict are the projections of its attentions, by the names that people
give them and by their shapes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archfind.types import TensorSpec

_SEPARATE = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("to_q", "to_k", "to_v"),
    ("q", "k", "v"),
    ("wq", "wk", "wv"),
    ("query_proj", "key_proj", "value_proj"),
    ("linear_q", "linear_k", "linear_v"),
)
_FUSED = ("qkv.weight", "in_proj_weight", "c_attn.weight", "qkv_proj.weight", "Wqkv.weight")


def projections(index: Mapping[str, TensorSpec]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each attention's prefix and its keys: three projections, or one of all three."""
    for key, spec in index.items():
        if len(spec.shape) != 2 or not key.endswith(_ENDS):
            continue
        for query, *others in _SEPARATE:
            parent = key.removesuffix(f"{query}.weight")
            if parent != key and (not parent or parent.endswith(".")):
                keys = (key, *(f"{parent}{other}.weight" for other in others))
                if all(k in index and len(index[k].shape) == 2 for k in keys):
                    yield parent, keys
        for leaf in _FUSED:
            parent = key.removesuffix(leaf)
            if parent != key and (not parent or parent.endswith(".")) and _is_triple(spec.shape):
                yield parent, (key,)


def _is_triple(shape: tuple[int, ...]) -> bool:
    """Whether one side is three times the other."""
    return min(shape) > 0 and max(shape) == 3 * min(shape)


_ENDS = tuple(f"{names[0]}.weight" for names in _SEPARATE) + _FUSED
