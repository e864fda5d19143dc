"""What a network is known to give: arrays in files, or an .onnx of the same network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from archfind import formats
from archfind.building.from_source import build_written
from archfind.errors import BuildError
from archfind.providers.any_module import example
from archfind.providers.example import tensors_of_call
from archfind.types import Guess, Source
from archfind.values.reader import TensorReader

Tensors = tuple[Tensor, ...]


def arrays(path: str) -> Tensors:
    """The arrays of a .npy, or of any file that archfind reads, in its order. CheckpointError where
    it can't be read."""
    checkpoint = formats.open(path)
    reader = TensorReader()
    return tuple(reader.read(spec, key).clone() for key, spec in checkpoint.index.items())


def onnx_pair(path: str, source: Source, guess: Guess) -> tuple[Tensors, Tensors]:
    """Seeded inputs that the written module runs on, and what the .onnx at `path` gives for them.
    BuildError where it doesn't run on them."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        text = f"running an .onnx needs {error.name}: pip install 'archfind[onnx]'"
        raise BuildError(text) from error
    inputs = tuple(tensors_of_call(example(build_written(guess, source).module, {}).args))
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        wanted = session.get_inputs()
        if len(wanted) != len(inputs):
            raise BuildError(f"it reads {len(wanted)} inputs, the module {len(inputs)}", path)
        fixed = [
            tuple(n if isinstance(n, int) and n > 0 else m for n, m in zip(w.shape, i.shape))  # noqa: B905
            for w, i in zip(wanted, inputs, strict=True)
        ]
        drawn = tuple(_drawn(shape, one) for shape, one in zip(fixed, inputs, strict=True))
        fed = {w.name: one.numpy() for w, one in zip(wanted, drawn, strict=True)}
        given = session.run(None, fed)
    except BuildError:
        raise
    except Exception as error:  # onnxruntime has exceptions of its own
        text = " ".join(str(error).split())[:200]
        raise BuildError(f"{Path(path).name} doesn't run: {text}", path) from error
    return drawn, tuple(torch.from_numpy(one) for one in given)


def _drawn(shape: tuple[int, ...], like: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(7)
    if like.is_floating_point():
        return torch.randn(shape, generator=random)
    return torch.randint(0, int(like.max()) + 1, shape, generator=random)
