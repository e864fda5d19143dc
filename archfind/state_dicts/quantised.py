"""Packed weights seen through: what shape the weight has that their parts stand for.

Header only. A layer that quantisation has taken apart (`qweight`, `scales`, ...) becomes the one
weight that the network knows, with the recipe and the file's keys in `Canonical.merged`; what the
recipes do is in values/quantised.py. This module is on the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.frozen import replace
from archfind.types import Step, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from archfind.types import Canonical, Storage

    Index = Mapping[str, TensorSpec]
    # the scheme, the parts' suffixes, and the weight's shape
    Found = tuple[str, tuple[str, ...], tuple[int, ...]]

# Names that belong to a packed layer and hold nothing that its weight needs.
_BESIDE = (
    "input_scale", "weight_format", "scaled_fp8", "comfy_quant", "output_scale", "weight_shape",
    "input_zero_point", "input_global_scale", "k_scale", "v_scale",
)  # fmt: skip
# Last names of packed layers' tensors. One of them is in any file that is to be seen through.
_MARKS = (
    "qweight", "SCB", "absmax", "weight_scale", "scale_weight", "weight_scale_inv",
    "weight_packed", "_blocks", "_qdata", "_int_data",
)  # fmt: skip
# torchao's classes whose numbers are (data - zero point) * scale
_AFFINE = (
    "Int8Tensor", "Float8Tensor", "IntxUnpackedToInt8Tensor", "AffineQuantizedTensor",
    "PlainAQTTensorImpl", "LinearActivationQuantizedTensor", "Float8AQTTensorImpl",
)  # fmt: skip
NOTE_BYTES = 4096  # of JSON in a tensor; bitsandbytes writes about 200
# torch's own quantised numbers, and where its packed layers keep (weight, bias), its recurrent ones
# (weight, weight, bias, bias) of each direction
INTEGERS = ("qint8", "quint8")
PACKED = "_packed_params._packed_params"
DIRECTIONS = "_all_weight_values."
_BYTES = ("int8", "uint8", "float8_e4m3fn", "float8_e5m2")


def packed_place(place: str) -> str:
    """The place of a state dict that has a packed layer's weight and bias in a tuple there."""
    above, _, last = place.rpartition("/")
    return above if last.endswith(PACKED) or is_direction(last) else place


def is_direction(key: str) -> bool:
    """Whether a key is that of the packed weights of one direction of a recurrent layer."""
    return key.endswith(".param") and DIRECTIONS in key


def is_by_torch(index: Index) -> bool:
    """Whether torch's quantisation made these tensors."""
    return any(
        spec.dtype in INTEGERS
        or key.endswith((f"{PACKED}.0", "fake_quant_enabled", "post_process.min_val"))
        or is_direction(key.rpartition(".")[0])
        for key, spec in index.items()
    )


def seen_through(canonical: Canonical) -> Canonical:
    """The state dict with every packed weight as one; itself where there is none."""
    index = canonical.index
    every = "\n".join(index) + "\n"
    if not any(f"{mark}\n" in every for mark in _MARKS):
        return canonical
    made, origin = dict(index), dict(canonical.origin)
    merged = dict(canonical.merged)
    counts: dict[str, int] = {}

    def take(weight: str, scheme: str, parts: list[str], shape: tuple[int, ...]) -> None:
        whole, place = index[parts[0]], canonical.origin[parts[0]]
        merged[weight] = (scheme, *(canonical.origin[part] for part in parts))
        for part in parts:
            made.pop(part, None)
            origin.pop(part, None)
        made[weight] = TensorSpec("float32", shape, whole.storage)
        origin[weight] = place
        counts[scheme] = counts.get(scheme, 0) + 1

    for layer in dict.fromkeys(_layer(key) for key in index):
        found = _packed(index, layer)
        if found is not None:
            scheme, suffixes, shape = found
            parts = [layer + suffix for suffix in suffixes if layer + suffix in index]
            take(f"{layer}weight", scheme, parts, shape)
    for key, spec in index.items():
        if key.endswith("_blocks") and f"{key[:-7]}_scales" in index and len(spec.shape) == 4:
            experts, rows, groups, _ = spec.shape
            parts = [key, f"{key[:-7]}_scales"]
            take(key[:-7], "mxfp4-experts", parts, (experts, 32 * groups, rows))
    gone = _of_classes(canonical, take)
    if not counts and not gone:
        return canonical
    for key in [k for k in made if k in gone or (counts and k.rpartition(".")[2] in _BESIDE)]:
        del made[key], origin[key]
    order = {key: n for n, key in enumerate(index)}
    places_of = {key: min(order.get(key, len(order)), _first(order, key)) for key in made}
    made = {key: made[key] for key in sorted(made, key=places_of.__getitem__)}
    steps = [Step("dequantise", f"{scheme} of {count} weights") for scheme, count in counts.items()]
    return replace(
        canonical, index=made, origin=origin, steps=(*canonical.steps, *steps), merged=merged
    )


def _of_classes(
    canonical: Canonical, take: Callable[[str, str, list[str], tuple[int, ...]], None]
) -> set[str]:
    """torchao's tensors of classes of their own, named as it names them in safetensors files:
    `layer._weight_qdata` is data of `layer.weight`, whose class is in the metadata. Gives the keys
    that only such a class can read, where the weight itself stands beside them, without data."""
    index = canonical.index
    left: set[str] = set()
    for key, spec in index.items():
        word = next((w for w in ("_qdata", "_int_data") if key.endswith(w)), "")
        parent, dot, leaf = key.removesuffix(word).rpartition(".")
        if not word or leaf[:1] != "_":
            continue
        stem, weight = f"{parent}{dot}{leaf}", f"{parent}{dot}{leaf[1:]}"
        named = canonical.origin[key].removesuffix(leaf + word) + leaf[1:]
        cls = _class_of(canonical.checkpoint.metadata.get(named))
        if cls in _AFFINE and spec.dtype in _BYTES and f"{stem}_scale" in index:
            parts = [key, f"{stem}_scale", f"{stem}_zero_point"]
            take(weight, "torchao-scaled", [part for part in parts if part in index], spec.shape)
        elif weight in index:
            left |= {k for k in index if k.startswith(f"{stem}_")}
    return left


def _class_of(said: object) -> str:
    """The class in torchao's note on a tensor: JSON in safetensors files, its name in pickles."""
    text = said if isinstance(said, str) else ""
    if text[:1] != "{":
        return text.rpartition(".")[2]
    return str(_noted(text).get("_type"))


def _noted(text: str | bytes) -> dict[str, object]:
    """The JSON object in a note on a tensor; an empty one where there is none."""
    from archfind.formats.side_files import object_in  # late: few files have notes

    return object_in(text)


def _first(order: dict[str, int], key: str) -> int:
    """Where a weight's parts begin."""
    parent, dot, leaf = key.rpartition(".")
    layer = parent + dot
    names = ("qweight", "weight", "scales", "weight_packed", f"{leaf}_blocks")
    names += (f"_{leaf}_qdata", f"_{leaf}_int_data")
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
    scale = index.get(f"{layer}weight_scale")
    if f"{layer}weight_packed" in index and scale is not None:
        return _compressed(index, layer, scale)
    weight = index.get(f"{layer}weight")
    if weight is None:
        return None
    if weight.dtype == "uint8" and weight.shape and scale and f"{layer}weight_scale_2" in index:
        shape = (*weight.shape[:-1], 2 * weight.shape[-1])
        return "modelopt-fp4", ("weight", "weight_scale", "weight_scale_2"), shape
    if weight.dtype == "int8" and scale is not None:
        return "int8-scaled", ("weight", "weight_scale", "weight_zero_point"), weight.shape
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


def _compressed(index: Index, layer: str, scale: TensorSpec) -> Found | None:
    """compressed-tensors packs whole numbers into words, and 4-bit floats two to a byte."""
    packed = index[f"{layer}weight_packed"]
    if not packed.shape:
        return None
    *outer, columns = packed.shape
    if packed.dtype == "uint8":
        parts = ("weight_packed", "weight_scale", "weight_global_scale")
        return "mxfp4" if scale.dtype == "uint8" else "nvfp4", parts, (*outer, 2 * columns)
    said = index.get(f"{layer}weight_shape")
    shape = _numbers_in(said) if said is not None else ()
    if packed.dtype != "int32" or not shape or shape[:-1] != tuple(outer):
        return None
    bits = next((b for b in (4, 8, *range(1, 8)) if -(-shape[-1] * b // 32) == columns), 0)
    parts = ("weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx")
    return (f"packed-{bits}", parts, shape) if bits else None


def _first_bytes(storage: Storage, size: int) -> bytes:
    """The first bytes of a storage; none where the file has gone since it was read."""
    try:
        with open(storage.file, "rb") as file:
            file.seek(storage.start)
            return file.read(size)
    except (OSError, ValueError):  # or a name that no system has
        return b""


def _numbers_in(spec: TensorSpec) -> tuple[int, ...]:
    """The values of a few 64-bit numbers; () where they can't be had without decompressing."""
    size = 8 * spec.shape[0] if len(spec.shape) == 1 and spec.shape[0] <= 4 else 0
    storage = spec.storage
    if spec.dtype != "int64" or not size or storage.start < 0 or spec.offset or spec.applied:
        return ()
    data = _first_bytes(storage, size)
    found = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in range(0, size, 8)]
    return tuple(found) if all(0 < n < 2**40 for n in found) and len(data) == size else ()


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
    if order is not None and len(order.shape) == 1 and order.shape[0] and columns == outputs:
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
    if spec.storage.start < 0 or spec.storage.nbytes > NOTE_BYTES or spec.applied:
        return None
    data = _first_bytes(spec.storage, spec.storage.nbytes)
    from archfind.formats.side_files import wholes

    return wholes(_noted(data).get("shape"))
