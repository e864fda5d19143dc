"""Random state dicts, written by the real libraries: what every reader is compared against."""

from __future__ import annotations

import random
import string
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

DTYPES = [
    getattr(torch, name)
    for name in (
        "float32 float64 float16 bfloat16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool "
        "complex32 complex64 complex128 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz "
        "float8_e8m0fnu"
    ).split()
    if hasattr(torch, name)
]
ONNX_DTYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14,
    "complex128": 15, "bfloat16": 16, "float8_e4m3fn": 17, "float8_e4m3fnuz": 18,
    "float8_e5m2": 19, "float8_e5m2fnuz": 20,
}  # fmt: skip
SAFE_DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool "
    "complex64 float8_e4m3fn float8_e5m2 float8_e8m0fnu"
).split()
# torch itself can't read back the others from this container
LEGACY_DTYPES = (
    "float32 float64 float16 bfloat16 int8 int16 int32 int64 uint8 bool complex64 complex128"
).split()
WRAPPERS = ("", "", "state_dict", "model", "model_state_dict", "params_ema", "net")

State = dict[str, torch.Tensor]


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format).flatten()


def raw(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor's elements in order, whatever its dtype."""
    return bytes(_dense(tensor).view(torch.uint8).tolist())


def tensor(draw: random.Random, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of any dtype and shape: empty ones, 0-d ones, views with strides and offsets."""
    shape = [draw.choice((0, 1, 1, 2, 3, 4, 5)) for _ in range(draw.choice((0, 1, 1, 2, 2, 3, 4)))]
    count = 8
    for size in shape:
        count *= size
    data = draw.randbytes(max(count, 8) * dtype.itemsize)
    if dtype == torch.bool:
        data = bytes(byte & 1 for byte in data)
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    whole = flat[: count // 8].reshape(shape)
    how = draw.randrange(6)
    if how == 0 and len(shape) >= 2:
        return whole.transpose(0, -1)
    if how == 1 and shape and shape[0] > 1:
        return whole[1:]
    if how == 2 and shape and shape[-1] > 1:
        return whole[..., ::2]
    if how == 3 and len(shape) >= 1:
        return whole.unsqueeze(0).expand(3, *shape)
    if how == 4:
        return (
            torch.as_strided(flat, shape, [1] * len(shape), draw.randrange(3)) if count else whole
        )
    return whole.clone() if draw.random() < 0.8 else torch.nn.Parameter(whole, requires_grad=False)


def name(draw: random.Random) -> str:
    """A key, mostly as modules have them."""
    if draw.random() < 0.1:
        odd = string.printable[:95] + "éß漢字\u202e\n\x1b😀"
        return "".join(draw.choice(odd) for _ in range(draw.randrange(1, 12)))
    words = ("layer", "conv", "blocks", "0", "1", "12", "attn", "norm", "a~b", "a/b", "weight_g")
    parts = [draw.choice(words) for _ in range(draw.randrange(0, 4))]
    return ".".join([*parts, draw.choice(("weight", "bias", "running_mean", "num_batches"))])


def state(draw: random.Random, dtypes: list[torch.dtype]) -> State:
    """A flat state dict; some of its tensors are tied, or views of one storage."""
    found: State = OrderedDict() if draw.random() < 0.5 else {}
    for _ in range(draw.choice((1, 2, 3, 5, 8, 13, 300 if draw.random() < 0.02 else 4))):
        held = list(found.values())
        if held and draw.random() < 0.15:
            value = draw.choice(held)
            value = value.detach() if draw.random() < 0.5 else value
            if value.dim() and value.shape[0] > 1 and draw.random() < 0.5:
                value = value[1:]
        else:
            value = tensor(draw, draw.choice(dtypes))
        found[name(draw)] = value
    return found


def tree(draw: random.Random, dtypes: list[torch.dtype]) -> dict[str, object]:
    """A state dict as training leaves it: wrapped, with what stands beside it."""
    inner = state(draw, dtypes)
    wrapper = draw.choice(WRAPPERS)
    if not wrapper:
        return dict(inner)
    out: dict[str, object] = {wrapper: inner}
    if draw.random() < 0.5:
        out |= {"epoch": draw.randrange(100), "arch": "resnet50", "best": draw.random()}
    if draw.random() < 0.3:
        out["optimizer"] = {
            "state": {i: {"step": i, "exp_avg": tensor(draw, dtypes[0])} for i in range(2)},
            "param_groups": [{"lr": 0.1, "params": [0, 1]}],
        }
    if draw.random() < 0.2:
        out["list"] = [tensor(draw, dtypes[0]), {"deep": (tensor(draw, dtypes[-1]), None)}]
    return out


def flat(value: object, pointer: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a tree under its JSON Pointer: the slow and plain way."""
    if isinstance(value, torch.Tensor):
        yield pointer, value
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in items:
            part = str(key).replace("~", "~0").replace("/", "~1")
            yield from flat(one, f"{pointer}/{part}" if pointer else part)


def save_zip(draw: random.Random, path: Path) -> State:
    """torch.save of today; gives what torch's own safe loader reads back."""
    return _saved(draw, path, DTYPES)


def save_legacy(draw: random.Random, path: Path) -> State:
    """torch.save as torch 0.4 to 1.5 wrote."""
    return _saved(draw, path, [one for one in DTYPES if str(one)[6:] in LEGACY_DTYPES])


def _saved(draw: random.Random, path: Path, dtypes: list[torch.dtype]) -> State:
    whole = tree(draw, dtypes)
    zipped = len(dtypes) == len(DTYPES)
    protocol = draw.choice((2, 2, 2, 3, 4, 5))
    torch.save(whole, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    # the safe loader reads protocols 2 and 3 alone; of our own file, the other may be trusted
    return dict(flat(torch.load(path, weights_only=protocol < 4)))


def save_safetensors(draw: random.Random, path: Path) -> State:
    """safetensors' own writer, and what its reader reads back."""
    import safetensors.torch

    known = [t for t in DTYPES if str(t)[6:] in SAFE_DTYPES]
    held = {key: one.detach().clone().contiguous() for key, one in state(draw, known).items()}
    held.pop("__metadata__", None)
    metadata = {"format": "pt"} if draw.random() < 0.5 else None
    safetensors.torch.save_file(held, path, metadata=metadata)
    return safetensors.torch.load_file(path)


def save_onnx(draw: random.Random, path: Path) -> State:
    """onnx's own writer; its reader has to agree about names, dims, types and raw bytes."""
    import onnx

    known = [getattr(torch, one) for one in ONNX_DTYPES if hasattr(torch, one)]
    held = {key: one.detach().clone() for key, one in state(draw, known).items()}
    tensors = [
        onnx.helper.make_tensor(
            key, ONNX_DTYPES[str(one.dtype)[6:]], list(one.shape), raw(one), raw=True
        )
        for key, one in held.items()
    ]
    graph = onnx.helper.make_graph([], "graph", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), path)
    read = {one.name: one for one in onnx.load(path).graph.initializer}
    assert {key: one.raw_data for key, one in read.items()} == {k: raw(v) for k, v in held.items()}
    return held


WRITERS: dict[str, tuple[str, Callable[[random.Random, Path], State]]] = {
    "torch zip": ("x.pt", save_zip),
    "torch legacy": ("x.pth", save_legacy),
    "safetensors": ("x.safetensors", save_safetensors),
    "onnx": ("x.onnx", save_onnx),
}
