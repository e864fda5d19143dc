"""Networks that torch quantised, or whose layers were pruned: named, loaded, and their outputs
compared.

    nice python benchmarks/quantised_and_pruned.py --cases 60 --seed 0

Each case draws a network of torchvision or timm, other classes, and one of these ways:
    fx          static quantisation by torch.fx         fx-qat      training for it, by torch.fx
    eager       static, of torchvision's quantisable    eager-qat   training for it, the same
    dynamic     Linears quantised as they run           mask        torch.nn.utils.prune
    widths      layers of other sizes, as a state dict  module      the same, as a whole module
    recurrent   dynamic, with LSTMs                     whole       fx, eager, dynamic, recurrent,
                                                                    as a whole module
Weights are randomised; what is quantised has seen one batch. It counts as
    named    the network stands out, or another that computes the same
    loaded   the file loads strictly
    equal    and computes what the original does, to the last bit
    wrong    exact, and not equal
Progress on stderr, a line for each miss on stdout. The exit code is 1 with any that is wrong.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.ao import quantization as ao
from torch.ao.quantization import quantize_fx
from torch.nn.utils import prune

import archfind
from archfind.errors import ArchfindError
from archfind.learning.twins import randomise_seeded
from archfind.progress import progress

SIDE = 96
PLAIN = (
    "torchvision/resnet18 torchvision/resnet50 torchvision/vgg11_bn torchvision/vgg13 "
    "torchvision/mobilenet_v2 torchvision/mnasnet0_5 torchvision/squeezenet1_1 torchvision/alexnet "
    "timm/resnet18 timm/resnet26 timm/regnetx_002 timm/mobilenetv2_050 timm/test_resnet "
    "timm/hardcorenas_a timm/lcnet_050 timm/repvgg_a0 timm/efficientnet_lite0"
).split()
TRANSFORMERS = (
    "timm/vit_tiny_patch16_224 timm/deit_small_patch16_224 timm/convnext_atto "
    "timm/mixer_s32_224 torchvision/swin_t timm/test_vit"
).split()
QUANTISABLE = (
    "resnet18 resnet50 mobilenet_v2 mobilenet_v3_large shufflenet_v2_x0_5 shufflenet_v2_x1_0 "
    "googlenet"
).split()
WIDTHS = 6  # places whose width is tried to be changed
Ways = dict[str, Callable[[random.Random], tuple[str, nn.Module]]]


def made(name: str, classes: int) -> nn.Module:
    library, _, entry = name.partition("/")
    if library == "timm":
        module = timm.create_model(entry, pretrained=False, num_classes=classes)
    else:
        module = torchvision.models.get_model(entry, weights=None, num_classes=classes)
    randomise_seeded(module)
    return module.eval()


def image(name: str = "", batch: int = 1) -> torch.Tensor:
    fixed = "224" in name or "swin" in name
    side = 160 if "test_vit" in name else 224 if fixed else SIDE
    return torch.rand(batch, 3, side, side)


def fx(draw: random.Random) -> tuple[str, nn.Module]:
    name = draw.choice(PLAIN)
    inputs = image(name, 2)
    backend = draw.choice(("x86", "fbgemm", "qnnpack"))
    mapping = ao.get_default_qconfig_mapping(backend)
    module = quantize_fx.prepare_fx(made(name, draw.randint(2, 30)), mapping, (inputs,))
    module(inputs)
    return name, quantize_fx.convert_fx(module)


def fx_qat(draw: random.Random) -> tuple[str, nn.Module]:
    name = draw.choice(PLAIN)
    inputs = image(name, 4)
    mapping = ao.get_default_qat_qconfig_mapping("x86")
    module = made(name, draw.randint(2, 30)).train()
    module = quantize_fx.prepare_qat_fx(module, mapping, (inputs,))
    module(inputs)
    return name, module.eval().apply(ao.disable_observer)


def quantisable(draw: random.Random, training: bool) -> tuple[str, Any]:
    name = draw.choice(QUANTISABLE)
    module: Any = torchvision.models.get_model(
        f"quantized_{name}", weights=None, quantize=False, num_classes=draw.randint(2, 30)
    )
    randomise_seeded(module)
    module.train(training)
    module.fuse_model(is_qat=training)
    return f"torchvision/{name}", module


def eager(draw: random.Random) -> tuple[str, nn.Module]:
    name, module = quantisable(draw, training=False)
    module.qconfig = ao.get_default_qconfig(draw.choice(("x86", "qnnpack")))
    module = ao.prepare(module)
    module(image())
    return name, ao.convert(module)


def eager_qat(draw: random.Random) -> tuple[str, nn.Module]:
    name, module = quantisable(draw, training=True)
    module.qconfig = ao.get_default_qat_qconfig("x86")
    module = ao.prepare_qat(module)
    module(image(batch=4))
    return name, module.eval().apply(ao.disable_observer)


def dynamic(draw: random.Random) -> tuple[str, nn.Module]:
    name = draw.choice(TRANSFORMERS + PLAIN[:3])
    return name, ao.quantize_dynamic(made(name, draw.randint(2, 30)), {nn.Linear})


def recurrent(draw: random.Random) -> tuple[str, nn.Module]:
    name = "timm/sequencer2d_s"
    kinds = {nn.LSTM} if draw.random() < 0.5 else {nn.LSTM, nn.Linear}
    dtype = draw.choice((torch.qint8, torch.float16))
    return name, ao.quantize_dynamic(made(name, draw.randint(2, 30)), kinds, dtype=dtype)


def whole(draw: random.Random) -> tuple[str, nn.Module]:
    return draw.choice((fx, eager, dynamic, recurrent))(draw)


def mask(draw: random.Random) -> tuple[str, nn.Module]:
    name = draw.choice(PLAIN)
    module = made(name, draw.randint(2, 30))
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and draw.random() < 0.7:
            prune.l1_unstructured(layer, "weight", 0.4)
    return name, module


def widths(draw: random.Random) -> tuple[str, nn.Module]:
    """Channels between one layer and the next cut, wherever the network still runs then."""
    name = draw.choice([*PLAIN, *TRANSFORMERS[:3]])
    module = made(name, draw.randint(2, 30))
    layers = list(module.named_modules())
    plain = [at for at, (_, one) in enumerate(layers) if isinstance(one, nn.Conv2d | nn.Linear)]
    cut = 0
    for at in draw.sample(plain[:-1], min(WIDTHS, len(plain) - 1)):
        after = [n for n in plain if n > at][:2]
        other = copy.deepcopy(module)
        if cut_between(other, [path for path, _ in layers[at : after[-1] + 1]], draw) and runs(
            other, image(name)
        ):
            module, cut = other, cut + 1
    return (name, module) if cut else widths(draw)


def cut_between(module: nn.Module, paths: list[str], draw: random.Random) -> bool:
    """Cut what the first layer gives and the last takes, and what stands between; a depthwise
    convolution on the way is as wide."""
    first: Any = module.get_submodule(paths[0])
    old = first.weight.shape[0]
    new = max(2, int(old * draw.uniform(0.3, 0.95)))
    if getattr(first, "groups", 1) > 1:
        return False
    resize(first, out=new)
    for path in paths[1:]:
        layer: Any = module.get_submodule(path)
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == old:
            resize(layer, out=new, deep=True)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            if layer.weight.shape[1] != old or getattr(layer, "groups", 1) > 1:
                return False
            resize(layer, ins=new)
            return True
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.num_features == old:
            layer.num_features = new
            for held in (layer._parameters, layer._buffers):
                for key, tensor in held.items():
                    if tensor is not None and tensor.dim():
                        cut = tensor.detach()[:new].clone()
                        held[key] = nn.Parameter(cut) if held is layer._parameters else cut
    return False


def resize(layer: Any, out: int = 0, ins: int = 0, deep: bool = False) -> None:
    weight = layer.weight.detach()
    weight = weight[: out or None, : ins or None] if not deep else weight[:out]
    layer.weight = nn.Parameter(weight.clone())
    if out and layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[:out].clone())
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    else:
        layer.out_channels = weight.shape[0]
        layer.in_channels = out if deep else weight.shape[1]
        layer.groups = out if deep else layer.groups


def runs(module: nn.Module, inputs: torch.Tensor) -> bool:
    try:
        with torch.inference_mode():
            module(inputs)
    except Exception:  # what doesn't fit together fails in any layer
        return False
    return True


WAYS: Ways = {
    "fx": fx,
    "fx-qat": fx_qat,
    "eager": eager,
    "eager-qat": eager_qat,
    "dynamic": dynamic,
    "mask": mask,
    "widths": widths,
    "module": widths,
    "recurrent": recurrent,
    "whole": whole,
}


def judged(way: str, draw: random.Random, counts: Counter[str]) -> str:
    """Count one case; what's wrong with it, if anything."""
    name, module = WAYS[way](draw)
    inputs = image(name)
    with torch.inference_mode():
        expected = module(inputs)
    counts["cases"] += 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.pth")
        torch.save(module if way in ("module", "whole") else module.state_dict(), path)
        found = archfind.guess(path)
        counts[found.status] += 1
        first = found.matches[0] if found.matches else None
        known = (
            [first.entry.id, *(f"{t.provider}/{t.architecture}" for t in first.twins)]
            if (first is not None)
            else []
        )
        right = found.status in ("exact", "ambiguous") and name in known
        counts["named"] += right
        if not right:
            return f"{way} {name}: {found.status} {known[:1]}"
        try:
            loaded = archfind.load(path, choose=name)
            counts["loaded"] += 1
            with torch.inference_mode():
                same = torch.equal(loaded(inputs), expected)
        except (ArchfindError, RuntimeError) as error:
            counts["wrong"] += found.status == "exact"
            return f"{way} {name}: {error}"
    counts["equal"] += same
    counts["wrong"] += found.status == "exact" and not same
    return "" if same else f"{way} {name}: other outputs"


def main() -> int:
    parser = argparse.ArgumentParser(description="networks that torch quantised, or were pruned")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    draw = random.Random(options.seed)
    torch.manual_seed(options.seed)
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    for number in progress(range(options.cases), options.cases, "quantised and pruned"):
        why = judged(options.ways[number % len(options.ways)], draw, counts)
        if why:
            print(why, flush=True)
    print(", ".join(f"{name} {count}" for name, count in counts.items()), file=sys.stderr)
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
