""".pth, .safetensors and .onnx into each other, for 30 networks of libraries and of nobody's.

    python benchmarks/nine_cells.py --into docs/formats.md
    python benchmarks/nine_cells.py --only timm/test_vit own/mlp

A cell passes if what was written gives the outputs of the network that everything began with: a
state dict loaded strictly into it, an .onnx run by onnxruntime. Networks of nobody's have the cells
that need no network; from .onnx, their graph's tensors must come through bit for bit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import Tensor, nn

import archfind
from archfind.errors import ArchfindError
from archfind.exporters import parity
from archfind.exporters.job import Job
from archfind.exporters.onnx import quiet_exporters, write_module
from archfind.probing.config import leaves_of_config
from archfind.providers import provider
from archfind.providers.example import tensors_of_call

sys.path.insert(0, str(Path(__file__).parent))
import repair_sweep
import small_configs

NAMES = (
    "timm/test_vit", "timm/test_resnet", "timm/resnet18", "timm/vit_tiny_patch16_224",
    "timm/mobilenetv3_small_050", "timm/convnext_atto", "timm/efficientnet_b0",
    "timm/swin_tiny_patch4_window7_224", "timm/deit_tiny_patch16_224", "timm/regnetx_002",
    "timm/levit_128s", "timm/mixer_s32_224", "timm/ghostnet_050", "timm/xcit_nano_12_p8_224",
    "timm/repvit_m1", "timm/edgenext_xx_small",
    "torchvision/resnet18", "torchvision/mobilenet_v2", "torchvision/shufflenet_v2_x0_5",
    "torchvision/squeezenet1_1", "torchvision/densenet121", "torchvision/mnasnet0_5",
    "torchvision/regnet_y_400mf", "torchvision/alexnet", "torchvision/googlenet",
    "transformers/bert", "transformers/vit", "transformers/gpt2", "transformers/t5",
    "transformers/llama", "transformers/swin",
    "own/mlp", "own/convolutions", "own/recurrent", "own/attention", "own/tied",
)  # fmt: skip
SUFFIXES = (".pth", ".safetensors", ".onnx")
MARK = "<!-- below: written by benchmarks/nine_cells.py -->"


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.LSTM(12, 20, 2, batch_first=True), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cells(x)[0][:, -1])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(12, 12), nn.Linear(12, 12)
        self.down.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())


def start(name: str) -> tuple[nn.Module, tuple[object, ...]]:
    """The network, and what it runs on."""
    library, _, architecture = name.partition("/")
    if library == "transformers":
        _, module = small_configs.small(architecture)
        repair_sweep.enliven(module)
        return module.eval(), provider(library).example(architecture, module).args
    if library != "own":
        module = repair_sweep.lively(name, 1)
        return module, provider(library).example(architecture, module).args
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
    module, args = {
        "mlp": (nn.Sequential(nn.Linear(12, 30), nn.GELU(), nn.Linear(30, 5)), torch.randn(2, 12)),
        "convolutions": (
            nn.Sequential(nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9), nn.ReLU(), nn.Conv2d(9, 4, 3)),
            torch.randn(2, 3, 16, 16),
        ),
        "recurrent": (Recurrent(), torch.randn(2, 7, 12)),
        "attention": (
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            torch.randn(2, 7, 12),
        ),
        "tied": (Tied(), torch.randn(2, 12)),
    }[architecture]
    return module.eval(), (args,)


def cells(name: str, folder: Path) -> dict[tuple[str, str], str]:
    """The largest difference in each cell as text, or why it failed."""
    module, args = start(name)
    own = name.startswith("own/")
    choose = "" if own else name
    expected = parity.case(module, args).outputs
    torch.save(module.state_dict(), folder / "in.pth")
    settings: dict[str, object] = {}
    if name.startswith("transformers/"):
        choose, settings = told(folder / "in.pth", module)
        example = provider("transformers").example(choose, module)
        written = write_module(module, Job(folder / "in.onnx", {}, example))
        written.path.rename(folder / "in.onnx")
    else:
        with quiet_exporters():
            torch.onnx.export(module, args, folder / "in.onnx", dynamo=False, verbose=False)
    found: dict[tuple[str, str], str] = {}
    archfind.export(folder / "in.pth", folder / "in.safetensors", choose=choose)
    for source in SUFFIXES:
        for target in SUFFIXES:
            if own and target == ".onnx" and source != ".onnx":
                continue  # needs the network
            out = folder / f"out{source[1:]}{target}"
            try:
                given = settings if target == ".onnx" != source else {}
                archfind.export(folder / f"in{source}", out, choose=choose, settings=given)
                if own and source == ".onnx" and target != ".onnx":
                    word = "0" if bits(folder / "in.onnx", out) else "other tensors"
                elif target == ".onnx":
                    word = compared(expected, run(out, args))
                else:
                    module.load_state_dict(state_of(out, module), strict=True)
                    word = compared(expected, list(parity.case(module, args).outputs.values()))
            except (ArchfindError, RuntimeError) as error:
                word = f"{type(error).__name__}: {str(error)[:160]}"
            found[source, target] = word
    return found


def told(path: Path, module: nn.Module) -> tuple[str, dict[str, object]]:
    """The class that a file is of, and the settings that no shape shows, from the network's own
    config; from a graph they must be found."""
    match = archfind.guess(path).matches[0]
    shown = {field for field, setting in match.config.items() if setting.source == "shape"}
    own, usual = (
        leaves_of_config(module.config.to_dict()),
        leaves_of_config(type(module.config)().to_dict()),
    )
    settings: dict[str, object] = {
        field: value
        for field, value in own.items()
        if field not in shown
        and (field in match.config or usual.get(field, value) != value)
        and not field.endswith(("use_cache", "#"))
    }
    return match.entry.id, settings


def state_of(path: Path, module: nn.Module) -> Mapping[str, Tensor]:
    """What its library reads. safetensors has no place for layers' versions, without which
    torchvision's MNASNet loads nothing."""
    if path.suffix == ".pth":
        return torch.load(path, weights_only=True)
    state = OrderedDict(load_file(path))
    state._metadata = module.state_dict()._metadata  # pyright: ignore
    return state


def is_number(word: str) -> bool:
    try:
        return float(word) >= 0
    except ValueError:
        return False


def compared(expected: Mapping[str, Tensor], found: list[Tensor]) -> str:
    difference = parity.compare(dict(expected), found)
    return difference.why or f"{difference.largest:.1e}"


def bits(graph: Path, out: Path) -> bool:
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load(graph).graph.initializer}
    state = torch.load(out, weights_only=True) if out.suffix == ".pth" else load_file(out)
    return set(held) == set(state) and all(
        np.array_equal(value, state[key].numpy()) for key, value in held.items()
    )


def run(path: Path, args: tuple[object, ...]) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    fed = {n: t.numpy() for n, t in zip(names, tensors_of_call(args), strict=True)}
    return [torch.from_numpy(np.asarray(value)) for value in session.run(None, fed)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(NAMES))
    parser.add_argument("--into", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| network | " + " | ".join(f"{a} to {b}" for a in SUFFIXES for b in SUFFIXES) + " |"]
    lines.append("|---" * 10 + "|")
    passed = total = 0
    reasons: list[str] = []
    for name in arguments.only:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as place:
            found = cells(name, Path(place))
        row: list[str] = []
        for source in SUFFIXES:
            for target in SUFFIXES:
                word = found.get((source, target))
                good = word is not None and is_number(word)
                row.append("" if word is None else word if good else "fails")
                passed, total = passed + good, total + (word is not None)
                if word is not None and not good:
                    reasons.append(f"- {name}, {source} to {target}: {word}")
        lines.append(f"| {name} | " + " | ".join(row) + " |")
        print(
            lines[-1], f"{time.perf_counter() - begun:.0f} s", *reasons[-9:], sep="\n", flush=True
        )
    text = f"{passed} of {total} cells pass ({passed / total:.0%})."
    print(text)
    if arguments.into:
        before = arguments.into.read_text().partition(MARK)[0]
        parts = [before + MARK, text, "\n".join(lines), "\n".join(reasons)]
        arguments.into.write_text("\n\n".join(filter(None, parts)) + "\n")


if __name__ == "__main__":
    main()
