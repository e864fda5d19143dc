"""Networks that no library has, end to end: the file, the module that is written for it, an .onnx
of that, and onnxruntime's outputs beside those of the network that the file was saved from.

    python benchmarks/written_exports.py --seed 5 [--each 1] [KIND ...]

What the written module assumed otherwise than the network has it is told with settings.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import onnxruntime
import torch
from drawn_sources import drawn, source_of, told
from torch import Tensor

import archfind

KINDS = """mlp_norm lenet cnn_sequential unet unet_lists resnet upscaler conv_autoencoder generator
classifier_rnn words_rnn series_transformer vit language actor_critic""".split()


def difference(kind: str, seed: int, number: int, folder: Path) -> float:
    """How far the outputs of the .onnx are from the network's, of the largest of them."""
    module, inputs, truth = drawn(kind, seed, number)
    path, out = folder / "001.pth", folder / "001.onnx"
    torch.save(module.state_dict(), path)
    settings = told(source_of(module.state_dict()), module, truth)
    shapes = ["x".join(map(str, one.shape)) for one in inputs]
    dtypes = ["" if one.is_floating_point() else ":int64" for one in inputs]
    archfind.export(
        path,
        out,
        accept_likely=True,
        settings=settings,
        force=True,
        inputs=[shape + dtype for shape, dtype in zip(shapes, dtypes, strict=True)],
    )
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    given = session.run(None, dict(zip(names, (one.numpy() for one in inputs), strict=True)))
    with torch.no_grad():
        wanted = module(*inputs)
    rows = [wanted] if isinstance(wanted, Tensor) else list(wanted)
    pairs = zip(rows, map(torch.from_numpy, given), strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("kinds", nargs="*", metavar="KIND")
    arguments.add_argument("--seed", type=int, default=5)
    arguments.add_argument("--each", type=int, default=1)
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    done = right = 0
    for kind in given.kinds or KINDS:
        for number in range(given.each):
            done += 1
            with tempfile.TemporaryDirectory() as folder:
                try:
                    far = difference(kind, given.seed, number, Path(folder))
                except archfind.ArchfindError as error:
                    print(f"{kind:20}  refused: {str(error)[:160]}", flush=True)
                    continue
            right += far < 1e-4
            print(f"{kind:20}  {far:.1e}", flush=True)
    print(f"{right} of {done} agree to within 1e-4")


if __name__ == "__main__":
    main()
