"""Which tensors of a state dict are the projections of its attentions, by the names that people
give them and by their shapes."""

from __future__ import annotations

from archfind.evidence.weights.arrays import is_readable, read
from archfind.evidence.weights.heads import Attention

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archfind.evidence.weights.arrays import Array
    from archfind.types import TensorSpec

_BYTES = 200 << 20  # that are read of a state dict's attentions
_LAYERS = 12
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
_OUTPUT = (
    "out_proj.weight",
    "o_proj.weight",
    "out_lin.weight",
    "to_out.0.weight",
    "proj.weight",
    "c_proj.weight",
    "wo.weight",
    "o.weight",
    "dense.weight",
    "linear_out.weight",
    "output.dense.weight",
)


def attentions(index: Mapping[str, TensorSpec]) -> tuple[str, list[Attention]]:
    """The attentions of the commonest form, at most a dozen spread over the layers, and the prefix
    that they share."""
    forms: dict[object, list[tuple[str, tuple[str, ...]]]] = {}
    for parent, keys in _projections(index):
        shapes = tuple(index[key].shape for key in keys)
        forms.setdefault(shapes, []).append((parent, keys))
    if not forms:
        return "", []
    places = max(forms.values(), key=len)
    sized = sum(index[key].storage.nbytes for key in places[0][1]) or 1
    wanted = max(1, min(_LAYERS, _BYTES // sized))
    spread = places[:: -(-len(places) // wanted)]
    found = [_read(index, parent, keys) for parent, keys in spread]
    return _common([parent for parent, _ in spread]), [one for one in found if one is not None]


def _projections(index: Mapping[str, TensorSpec]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each attention's prefix and its keys: three projections, or one of all three."""
    for key, spec in index.items():
        if len(spec.shape) != 2 or not is_readable(spec):
            continue
        for query, *others in _SEPARATE:
            parent = key.removesuffix(f"{query}.weight")
            if parent != key and (not parent or parent.endswith(".")):
                keys = (key, *(f"{parent}{other}.weight" for other in others))
                if all(k in index and len(index[k].shape) == 2 for k in keys):
                    yield parent, keys
        for leaf in _FUSED:
            parent = key.removesuffix(leaf)
            if parent != key and (not parent or parent.endswith(".")) and 3 in _ratio(spec.shape):
                yield parent, (key,)


def _ratio(shape: tuple[int, ...]) -> tuple[float, float]:
    return shape[0] / max(shape[1], 1), shape[1] / max(shape[0], 1)


def _read(index: Mapping[str, TensorSpec], parent: str, keys: tuple[str, ...]) -> Attention | None:
    arrays = [read(index[key]) for key in keys]
    if any(array is None for array in arrays):
        return None
    if len(arrays) == 1:
        (fused,) = arrays
        assert fused is not None
        if fused.shape[1] == 3 * fused.shape[0]:  # GPT-2 keeps the transpose
            fused = fused.T
        width = fused.shape[0] // 3
        query, key, value = fused[:width], fused[width : 2 * width], fused[2 * width :]
    else:
        query, key, value = arrays
    assert query is not None and key is not None and value is not None
    if query.shape[0] % max(key.shape[0], 1) or key.shape != value.shape:
        return None
    return Attention(query, key, value, _output(index, parent, query.shape))


def _output(index: Mapping[str, TensorSpec], parent: str, shape: tuple[int, ...]) -> Array | None:
    """The projection behind the heads, which stands beside the others or one module further up."""
    above = parent.rstrip(".").rpartition(".")[0]
    for start in (parent, f"{above}." if above else ""):
        for leaf in _OUTPUT:
            spec = index.get(f"{start}{leaf}")
            if spec is None or len(spec.shape) != 2:
                continue
            if spec.shape == (shape[1], shape[0]):
                array = read(spec)
                is_transposed = leaf == "c_proj.weight" and f"{start}c_attn.weight" in index
                return array.T if array is not None and is_transposed else array
    return None


def _common(parents: list[str]) -> str:
    """The modules that all prefixes begin with."""
    first, last = min(parents).split("."), max(parents).split(".")
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return ".".join(first[:same])
