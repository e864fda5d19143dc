"""Packed weights seen through: what shape the weight has that their parts stand for.

Header only. A layer that quantisation has taken apart (`qweight`, `scales`, ...) becomes the one
weight that the network knows, with the recipe and the file's keys in `Canonical.merged`; what the
recipes do is in quantised_values.py. This module is on the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.frozen import replace
from archfind.types import Step, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import Canonical

    Index = Mapping[str, TensorSpec]
    # the scheme, the parts' suffixes, and the weight's shape
    Found = tuple[str, tuple[str, ...], tuple[int, ...]]

# Names that belong to a packed layer and hold nothing that its weight needs.
_BESIDE = ("input_scale", "weight_format", "scaled_fp8", "comfy_quant", "output_scale")


def seen_through(canonical: Canonical) -> Canonical:
    """The state dict with every packed weight as one; itself where there is none."""
    index = canonical.index
    marks = ("qweight", "SCB", "absmax", "weight_scale", "scale_weight", "weight_scale_inv")
    every = "\n".join(index) + "\n"
    if not any(f"{mark}\n" in every for mark in marks):
        return canonical
    layers = dict.fromkeys(_layer(key) for key in index)
    made, origin = dict(index), dict(canonical.origin)
    merged = dict(canonical.merged)
    counts: dict[str, int] = {}
    for layer in layers:
        found = _packed(index, layer)
        if found is None:
            continue
        scheme, suffixes, shape = found
        parts = [layer + suffix for suffix in suffixes if layer + suffix in index]
        weight = f"{layer}weight"
        whole = index[parts[0]]
        places = origin[parts[0]]
        merged[weight] = (scheme, *(origin[part] for part in parts))
        for part in {*parts, *(layer + word for word in _BESIDE)}:
            made.pop(part, None)
            origin.pop(part, None)
        made[weight] = TensorSpec("float32", shape, whole.storage)
        origin[weight] = places
        counts[scheme] = counts.get(scheme, 0) + 1
    if not counts:
        return canonical
    for key in [k for k in made if k.rpartition(".")[2] in _BESIDE]:
        del made[key], origin[key]
    order = {key: n for n, key in enumerate(index)}
    places_of = {key: min(order.get(key, len(order)), _first(order, key)) for key in made}
    made = {key: made[key] for key in sorted(made, key=places_of.__getitem__)}
    steps = [Step("dequantise", f"{scheme} of {count} weights") for scheme, count in counts.items()]
    return replace(
        canonical, index=made, origin=origin, steps=(*canonical.steps, *steps), merged=merged
    )


def _first(order: dict[str, int], key: str) -> int:
    layer = key.removesuffix("weight")
    names = ("qweight", "weight", "scales")
    return min((order[layer + n] for n in names if layer + n in order), default=len(order))


def _layer(key: str) -> str:
    """A key less its tensor's name: "blocks.0.fc1."."""
    head, _, _ = key.partition(".weight.")
    if head != key:
        return f"{head}."
    parent, dot, _ = key.rpartition(".")
    return parent + dot


def _packed(index: Index, layer: str) -> Found | None:
    packed, scales = index.get(f"{layer}qweight"), index.get(f"{layer}scales")
    zeros = index.get(f"{layer}qzeros")
    if packed is not None and scales is not None and zeros is not None:
        return _grouped(index, layer, packed, scales, zeros)
    weight = index.get(f"{layer}weight")
    if weight is None:
        return None
    scb = index.get(f"{layer}SCB")
    if weight.dtype == "int8" and scb is not None:
        return "bitsandbytes-int8", ("weight", "SCB"), weight.shape
    for kind in ("nf4", "fp4"):
        state = index.get(f"{layer}weight.quant_state.bitsandbytes__{kind}")
        if state is not None and weight.dtype == "uint8":
            shape = _shape_in(state)
            names = ("absmax", "quant_map", f"quant_state.bitsandbytes__{kind}")
            names += ("nested_absmax", "nested_quant_map")
            if shape is not None:
                return f"bitsandbytes-{kind}", ("weight", *(f"weight.{n}" for n in names)), shape
    if weight.dtype.startswith("float8"):
        for name in ("weight_scale", "scale_weight", "weight_scale_inv"):
            if f"{layer}{name}" in index:
                return "fp8-scaled", ("weight", name), weight.shape
    return None


def _grouped(
    index: Index, layer: str, packed: TensorSpec, scales: TensorSpec, zeros: TensorSpec
) -> Found | None:
    """GPTQ packs the inputs, eight to a word, and has them in any order (`g_idx`); AWQ packs the
    outputs."""
    if packed.dtype != "int32" or len(packed.shape) != 2 or len(scales.shape) != 2:
        return None
    groups, outputs = scales.shape
    rows, columns = packed.shape
    order = index.get(f"{layer}g_idx")
    if order is not None and columns == outputs:
        inputs = order.shape[0]
        bits = rows * 32 // inputs
        if bits in (2, 4, 8) and bits * inputs == rows * 32:
            parts = ("qweight", "qzeros", "scales", "g_idx")
            return f"gptq-{bits}", parts, (outputs, inputs)
    if columns * 8 == outputs and zeros.shape == (groups, columns):
        return "awq-4", ("qweight", "qzeros", "scales"), (outputs, rows)
    return None


def _shape_in(spec: TensorSpec) -> tuple[int, ...] | None:
    """The shape in bitsandbytes' own note, JSON in a tensor of bytes."""
    import json

    if spec.storage.start < 0 or spec.storage.nbytes > 4096:
        return None
    with open(spec.storage.file, "rb") as file:
        file.seek(spec.storage.start)
        data = file.read(spec.storage.nbytes)
    try:
        shape = json.loads(data)["shape"]
    except (ValueError, KeyError, TypeError):
        return None
    plain = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    return tuple(shape) if plain else None
