"""Networks over maps, as people write them."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import torch
from drawn_net import ACTIVATIONS, CONVS, NORMS, Drawn, Net, drawn_activation
from torch import Tensor, nn
from torch.nn import functional as F


def lenet(draw: random.Random) -> Drawn:
    """Convolutions, each pooled, and Linears."""
    word, act = drawn_activation(draw)
    ins, side = draw.choice(((1, 28), (3, 32))), 0
    ins, side = ins
    wide = [ins, *(draw.choice((6, 8, 16, 32, 64)) for _ in range(2))]
    bare = draw.random() < 0.3
    kernel = draw.choice((3, 5))
    parts: dict[str, nn.Module] = {}
    for n, (a, b) in enumerate(pairwise(wide), 1):
        parts[f"conv{n}"] = nn.Conv2d(a, b, kernel, padding=0 if bare else kernel // 2)
        side = (side - (kernel - 1 if bare else 0)) // 2
    parts["fc1"] = nn.Linear(wide[-1] * side * side, 50)
    parts["fc2"] = nn.Linear(50, draw.randint(2, 20))

    def run(m: nn.Module, x: Tensor) -> Tensor:
        for n in range(1, len(wide)):
            x = F.max_pool2d(act(getattr(m, f"conv{n}")(x)), 2)
        return m.fc2(act(m.fc1(x.flatten(1))))

    return (
        Net(run, **parts),
        (torch.randn(2, ins, 28 if ins == 1 else 32, 28 if ins == 1 else 32),),
        {"activation": word},
    )


def cnn_sequential(draw: random.Random) -> Drawn:
    """Features in a Sequential with norms and pools, and a classifier."""
    word, _ = drawn_activation(draw)
    ins, normed = draw.choice((1, 3)), draw.random() < 0.6
    wide = [ins, *(draw.choice((8, 16, 24, 32)) for _ in range(3))]
    rows: list[nn.Module] = []
    for a, b in pairwise(wide):
        rows += [nn.Conv2d(a, b, 3, padding=1), *([nn.BatchNorm2d(b)] if normed else [])]
        rows += [ACTIVATIONS[word](), nn.MaxPool2d(2)]
    fc = nn.Sequential(
        nn.Flatten(), nn.Linear(wide[-1] * 16, 40), ACTIVATIONS[word](), nn.Linear(40, 7)
    )
    whole = Net(
        lambda m, x: m.classifier(m.features(x)), features=nn.Sequential(*rows), classifier=fc
    )
    return whole, (torch.randn(2, ins, 32, 32),), {"activation": word}


def cnn_average(draw: random.Random) -> Drawn:
    """Blocks in a Sequential, averaged, and one Linear."""
    word, _ = drawn_activation(draw)
    dims = draw.randint(1, 2)
    ins, wide = draw.randint(1, 5), [draw.choice((8, 16, 32)) for _ in range(3)]
    rows: list[nn.Module] = []
    for a, b in pairwise([ins, *wide]):
        rows += [CONVS[dims - 1](a, b, 3, padding=1), NORMS[dims - 1](b), ACTIVATIONS[word]()]
    whole = Net(
        lambda m, x: m.head(m.body(x).flatten(2).mean(2)),
        body=nn.Sequential(*rows),
        head=nn.Linear(wide[-1], draw.randint(2, 9)),
    )
    return whole, (torch.randn(2, ins, *(12,) * dims),), {"activation": word}


def double_conv(draw: random.Random, a: int, b: int, act: Callable[[], nn.Module]) -> nn.Module:
    """Two convolutions with norms."""
    return nn.Sequential(
        nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), act(),
        nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), act(),
    )  # fmt: skip


def unet(draw: random.Random) -> Drawn:
    """A U-Net with names for each level."""
    word, _ = drawn_activation(draw)
    act, turned = ACTIVATIONS[word], draw.random() < 0.25
    wide = [draw.choice((4, 8, 16)) * 2**n for n in range(draw.randint(3, 4))]
    wide = [wide[0] * 2**n for n in range(len(wide))]
    ins, outs = draw.choice((1, 3)), draw.randint(1, 4)
    parts: dict[str, nn.Module] = {}
    for n, (a, b) in enumerate(pairwise([ins, *wide[:-1]]), 1):
        parts[f"enc{n}"] = double_conv(draw, a, b, act)
    parts["bottleneck"] = double_conv(draw, wide[-2], wide[-1], act)
    depth = len(wide) - 1
    for n in range(depth, 0, -1):
        parts[f"up{n}"] = nn.ConvTranspose2d(wide[n], wide[n - 1], 2, 2)
        parts[f"dec{n}"] = double_conv(draw, 2 * wide[n - 1], wide[n - 1], act)
    parts["final_conv"] = nn.Conv2d(wide[0], outs, 1)
    if draw.random() < 0.2:  # the output is registered first
        parts = {"final_conv": parts.pop("final_conv"), **parts}

    def run(m: nn.Module, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for n in range(1, depth + 1):
            x = getattr(m, f"enc{n}")(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = m.bottleneck(x)
        for n in range(depth, 0, -1):
            pair = [getattr(m, f"up{n}")(x), kept.pop()]
            x = getattr(m, f"dec{n}")(torch.cat(pair[::-1] if turned else pair, 1))
        return m.final_conv(x)

    order = "skip_first" if turned else "up_first"
    return (
        Net(run, **parts),
        (torch.randn(1, ins, 32, 32),),
        {"activation": word, "skip_order": order},
    )


def unet_lists(draw: random.Random) -> Drawn:
    """A U-Net in lists, its steps up without layers of their own."""
    wide, ins = [8, 16, 32], draw.choice((1, 3))
    downs = nn.ModuleList(double_conv(draw, a, b, nn.ReLU) for a, b in pairwise([ins, *wide]))
    ups = nn.ModuleList(
        double_conv(draw, a + b, b, nn.ReLU) for b, a in reversed(list(pairwise(wide)))
    )

    def run(m: nn.Module, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for n, block in enumerate(m.downs):
            x = block(F.max_pool2d(x, 2) if n else x)
            kept.append(x)
        for block, skip in zip(m.ups, kept[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return m.out(x)

    return (
        Net(run, downs=downs, ups=ups, out=nn.Conv2d(8, 2, 1)),
        (torch.randn(1, ins, 16, 16),),
        {},
    )


def residual_block(a: int, b: int, act: nn.Module, step: int) -> nn.Module:
    """torchvision's block, by another hand."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        y = m.bn2(m.conv2(act(m.bn1(m.conv1(x)))))
        return act(y + (m.shortcut(x) if hasattr(m, "shortcut") else x))

    parts = {
        "conv1": nn.Conv2d(a, b, 3, step, 1, bias=False), "bn1": nn.BatchNorm2d(b),
        "conv2": nn.Conv2d(b, b, 3, 1, 1, bias=False), "bn2": nn.BatchNorm2d(b),
    }  # fmt: skip
    if a != b:
        parts["shortcut"] = nn.Sequential(nn.Conv2d(a, b, 1, step, bias=False), nn.BatchNorm2d(b))
    return Net(run, **parts)


def resnet(draw: random.Random) -> Drawn:
    """A small residual network."""
    word, act = drawn_activation(draw)
    ins, wide = draw.choice((1, 3)), draw.choice((8, 16))
    parts: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(ins, wide, 3, 1, 1, bias=False), "bn1": nn.BatchNorm2d(wide)
    }  # fmt: skip
    count = draw.randint(2, 3)
    for n in range(1, count + 1):
        a = wide * 2 ** max(n - 2, 0)
        b = wide * 2 ** (n - 1)
        rows = [residual_block(a, b, act, 1 + (a != b)), residual_block(b, b, act, 1)]
        parts[f"layer{n}"] = nn.Sequential(*rows)
    parts["fc"] = nn.Linear(b, draw.randint(2, 30))

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = act(m.bn1(m.conv1(x)))
        for n in range(1, count + 1):
            x = getattr(m, f"layer{n}")(x)
        return m.fc(x.mean((2, 3)))

    return Net(run, **parts), (torch.randn(1, ins, 16, 16),), {"activation": word}


def upscaler(draw: random.Random) -> Drawn:
    """Residual blocks without norms, between convolutions."""
    word, act = drawn_activation(draw)
    ins, wide = draw.choice((1, 3)), draw.choice((8, 16))

    def block() -> nn.Module:
        return Net(
            lambda m, x: x + m.conv2(act(m.conv1(x))),
            conv1=nn.Conv2d(wide, wide, 3, padding=1),
            conv2=nn.Conv2d(wide, wide, 3, padding=1),
        )

    whole = Net(
        lambda m, x: m.tail(m.body(m.head(x))),
        head=nn.Conv2d(ins, wide, 3, padding=1),
        body=nn.Sequential(*(block() for _ in range(draw.randint(2, 5)))),
        tail=nn.Conv2d(wide, ins, 3, padding=1),
    )
    return whole, (torch.randn(1, ins, 9, 9),), {"activation": word}


def frames(draw: random.Random) -> Drawn:
    """Q-values from frames of a game."""
    ins, outs = draw.choice((1, 4)), draw.randint(2, 18)
    conv = nn.Sequential(
        nn.Conv2d(ins, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
        nn.Conv2d(64, 64, 3), nn.ReLU(),
    )  # fmt: skip
    fc = nn.Sequential(nn.Linear(3136, 64), nn.ReLU(), nn.Linear(64, outs))
    whole = Net(lambda m, x: m.fc(m.conv(x).flatten(1)), conv=conv, fc=fc)
    return whole, (torch.randn(1, ins, 84, 84),), {}


def inception(draw: random.Random) -> Drawn:
    """Branches of several kernels over one map, put together."""
    ins, a = draw.choice((1, 3)), draw.choice((4, 8))
    sides = {
        f"branch{k}": nn.Sequential(
            nn.Conv2d(ins, a, k, padding=k // 2), nn.BatchNorm2d(a), nn.ReLU()
        )
        for k in (1, 3, 5)
    }

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = torch.cat([m.branch1(x), m.branch3(x), m.branch5(x)], 1)
        return m.out(x)

    return Net(run, **sides, out=nn.Conv2d(3 * a, 2, 1)), (torch.randn(1, ins, 8, 8),), {}


def depthwise(draw: random.Random) -> Drawn:
    """Separable convolutions."""
    ins, wide = draw.choice((1, 3)), draw.choice((8, 16))
    rows: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(ins, wide, 3, 1, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
    ]
    for a, b in pairwise((wide, 2 * wide, 4 * wide)):
        rows.append(
            nn.Sequential(
                nn.Conv2d(a, a, 3, 1, 1, groups=a, bias=False), nn.BatchNorm2d(a), nn.ReLU(),
                nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            )
        )  # fmt: skip
    whole = Net(
        lambda m, x: m.classifier(m.features(x).mean((2, 3))),
        features=nn.Sequential(*rows),
        classifier=nn.Linear(4 * wide, 5),
    )
    return whole, (torch.randn(1, ins, 12, 12),), {}


def gated(draw: random.Random) -> Drawn:
    """Gated convolutions with skips: what no pattern explains."""
    wide, count = draw.choice((8, 16)), draw.randint(2, 4)

    def step(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.tanh(m.filter(x)) * torch.sigmoid(m.gate(x))
        return x + m.res(y), m.skip(y)

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x, total = m.start(x), 0
        for block in m.blocks:
            x, skip = block(x)
            total = total + skip
        return m.end(F.relu(total))

    def block() -> nn.Module:
        pair = {n: nn.Conv1d(wide, wide, 3, padding=1) for n in ("filter", "gate")}
        return Net(step, **pair, res=nn.Conv1d(wide, wide, 1), skip=nn.Conv1d(wide, wide, 1))

    blocks = nn.ModuleList(block() for _ in range(count))
    whole = Net(run, start=nn.Conv1d(1, wide, 1), blocks=blocks, end=nn.Conv1d(wide, 4, 1))
    return whole, (torch.randn(1, 1, 20),), {}
