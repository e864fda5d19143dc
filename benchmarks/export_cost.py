"""archfind's ONNX export against torch's own exporter and the same check, written out by hand.

    python benchmarks/export_cost.py --pairs 3

By hand: torch.onnx.export with the same open sizes, saved, checked by onnx, and run by onnxruntime
beside the module on the same three inputs. archfind: the built network to a checked file, its own
metadata, hashes, copies and looks at the graph included. In turn, in one process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnx_sweep import enliven
from torch import nn

import archfind
from archfind.exporters import parity
from archfind.exporters.onnx import quiet
from archfind.providers import provider
from archfind.providers.example import Example, tensors

NAMES = ("torchvision/resnet18", "timm/mobilenetv3_small_050", "timm/vit_tiny_patch16_224")


def by_hand(module: nn.Module, example: Example, sizes: bool, out: Path) -> None:
    """What a careful person would write."""
    axes = example.axes if sizes else ({},)
    hints = {0: "batch"} | dict.fromkeys(axes[0], torch.export.Dim.AUTO)
    with quiet():
        program = torch.onnx.export(
            module, example.args, dynamo=True, verbose=False, dynamic_shapes=(hints,),
            input_names=["input"], output_names=["output"],
        )  # fmt: skip
        assert program is not None
        program.save(out)
    onnx.checker.check_model(out, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(out, options, providers=["CPUExecutionProvider"])
    larger = parity.resized(example.args, axes)
    for args in (example.args, parity.other(larger, 3), parity.other(example.args, 1)):
        with torch.no_grad():
            expected = module(*args)
        (image,) = tensors(args)
        (found,) = session.run(None, {"input": image.numpy()})
        apart = (torch.from_numpy(found) - expected).abs().max()
        assert float(apart) <= 1e-5 + 1e-3 * float(expected.abs().max())


def main() -> None:
    """A line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("names", nargs="*", default=NAMES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.names:
        library, _, architecture = name.partition("/")
        torch.manual_seed(0)
        module = provider(library).create(architecture)
        example = provider(library).example(architecture, module)
        enliven(module, example.args)
        ratios: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            path, out = Path(folder, "in.pth"), Path(folder, "out.onnx")
            torch.save(module.state_dict(), path)
            built = archfind.build(path, choose=name)
            done = archfind.export(built, out)  # the first is slower: imports, caches
            assert done.notes["exporter"] == "dynamo" and "fallback" not in done.notes
            sizes = "height" in done.notes["free"]
            by_hand(built.module, example, sizes, Path(folder, "hand.onnx"))
            for _ in range(given.pairs):
                start = time.perf_counter()
                by_hand(built.module, example, sizes, Path(folder, "hand.onnx"))
                middle = time.perf_counter()
                archfind.export(built, out, force=True)
                ratios.append((time.perf_counter() - middle) / (middle - start))
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name}: {statistics.median(ratios):.2f}x (each {each}), free: {done.notes['free']}")


if __name__ == "__main__":
    main()
