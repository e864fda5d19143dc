"""The projections of a state dict's attentions, as arrays."""

from __future__ import annotations

from archfind.evidence.weights.arrays import read
from archfind.evidence.weights.heads import Attention
from archfind.evidence.weights.projections import projections

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.evidence.weights.arrays import Array
    from archfind.types import TensorSpec

_BYTES = 200 << 20  # that are read of a state dict's attentions
_LAYERS = 12
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
    for parent, keys in projections(index):
        shapes = tuple(index[key].shape for key in keys)
        forms.setdefault(shapes, []).append((parent, keys))
    if not forms:
        return "", []
    places = max(forms.values(), key=len)
    sized = sum(index[key].storage.nbytes for key in places[0][1]) or 1
    wanted = max(1, min(_LAYERS, _BYTES // sized))
    spread = places[:: -(-len(places) // wanted)]
    read_layers = [_read(index, parent, keys) for parent, keys in spread]
    layers = [layer for layer in read_layers if layer is not None]
    return _common([parent for parent, _ in spread]), layers


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
