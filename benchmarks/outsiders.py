"""Networks that are in no library, hand-made under the names that people use: seeded random widths
and depths, on the meta device. `STYLES` has the function of each kind."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

# No library's network is built of these, so a hand-made one can't be one by chance.
WIDTHS = (11, 18, 22, 26, 30, 38, 44, 52, 58, 68, 76, 92)


def _named(**modules: nn.Module) -> nn.Module:
    whole = nn.Module()
    for name, module in modules.items():
        whole.add_module(name, module)
    return whole


def _widths(draw: random.Random, low: int, high: int) -> list[int]:
    return [draw.choice(WIDTHS) for _ in range(draw.randint(low, high))]


def conv_prelu(draw: random.Random) -> nn.Module:
    """Convolutions and PReLUs in a row."""
    layers: list[nn.Module] = []
    width = 3
    for out in _widths(draw, 3, 16):
        layers += [nn.Conv2d(width, out, 3), nn.PReLU(out)]
        width = out
    last = 3 * draw.choice((4, 9, 16))
    return _named(body=nn.Sequential(*layers, nn.Conv2d(width, last, 3)))


def conv_norm(draw: random.Random) -> nn.Module:
    """A plain classifier: convolutions, norms, Linear."""
    layers: list[nn.Module] = []
    width = 3
    for out in _widths(draw, 2, 9):
        layers += [nn.Conv2d(width, out, draw.choice((3, 5))), nn.BatchNorm2d(out), nn.ReLU()]
        width = out
    name = draw.choice(("features", "backbone", "conv", "layer1", "stem"))
    head = draw.choice(("fc", "classifier", "head", "linear"))
    return _named(**{name: nn.Sequential(*layers), head: nn.Linear(width, draw.randint(2, 200))})


def mlp(draw: random.Random) -> nn.Module:
    """Linears, numbered or named."""
    widths = [draw.randint(4, 900), *_widths(draw, 1, 5), draw.randint(1, 20)]
    linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
    if draw.random() < 0.5:
        return _named(**{f"fc{n}": linear for n, linear in enumerate(linears, 1)})
    layers = [module for linear in linears for module in (linear, nn.ReLU())][:-1]
    return _named(**{draw.choice(("net", "layers", "model", "head")): nn.Sequential(*layers)})


def _block(width: int, out: int, stride: bool) -> nn.Module:
    found = _named(
        conv1=nn.Conv2d(width, out, 3, bias=False),
        bn1=nn.BatchNorm2d(out),
        conv2=nn.Conv2d(out, out, 3, bias=False),
        bn2=nn.BatchNorm2d(out),
    )
    if stride or width != out:
        found.downsample = nn.Sequential(nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out))
    return found


def resnet(draw: random.Random) -> nn.Module:
    """A ResNet of another width, under torchvision's names."""
    width = draw.choice(WIDTHS)
    whole = _named(conv1=nn.Conv2d(3, width, 7, bias=False), bn1=nn.BatchNorm2d(width))
    for stage in range(1, draw.randint(3, 5)):
        out = width * 2 if stage > 1 else width
        blocks = [_block(width if n == 0 else out, out, n == 0) for n in range(draw.randint(1, 4))]
        whole.add_module(f"layer{stage}", nn.Sequential(*blocks))
        width = out
    whole.fc = nn.Linear(width, draw.randint(2, 1000))
    return whole


def vit(draw: random.Random) -> nn.Module:
    """A ViT of another width, under timm's names but for its three projections."""
    width, ratio = draw.choice(WIDTHS) * 4, draw.choice((2, 3, 4))
    whole = _named(patch_embed=_named(proj=nn.Conv2d(3, width, draw.choice((4, 8, 16)))))
    whole.cls_token = nn.Parameter(torch.empty(1, 1, width))
    whole.pos_embed = nn.Parameter(torch.empty(1, draw.choice((65, 197, 257)), width))
    whole.blocks = nn.Sequential(
        *(
            _named(
                norm1=nn.LayerNorm(width),
                attn=_named(
                    query=nn.Linear(width, width),
                    key=nn.Linear(width, width),
                    value=nn.Linear(width, width),
                    proj=nn.Linear(width, width),
                ),
                norm2=nn.LayerNorm(width),
                mlp=_named(
                    fc1=nn.Linear(width, ratio * width), fc2=nn.Linear(ratio * width, width)
                ),
            )
            for _ in range(draw.randint(2, 12))
        )
    )
    whole.norm = nn.LayerNorm(width)
    whole.head = nn.Linear(width, draw.randint(2, 1000))
    return whole


def vgg(draw: random.Random) -> nn.Module:
    """features.N and classifier.N."""
    layers: list[nn.Module] = []
    width = 3
    for out in _widths(draw, 3, 9):
        layers += [nn.Conv2d(width, out, 3), nn.ReLU()] + [nn.MaxPool2d(2)] * draw.randint(0, 1)
        width = out
    inner = draw.choice((128, 512, 4096))
    ends = [nn.Linear(width * 49, inner), nn.ReLU(), nn.Dropout(), nn.Linear(inner, 10)]
    return _named(features=nn.Sequential(*layers), classifier=nn.Sequential(*ends))


def _double(width: int, out: int) -> nn.Module:
    layers = [nn.Conv2d(width, out, 3), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(out, out, 3), nn.BatchNorm2d(out), nn.ReLU())


def unet(draw: random.Random) -> nn.Module:
    """An encoder and a decoder with skips."""
    width, depth = draw.choice((16, 32, 64, *WIDTHS)), draw.randint(2, 4)
    names = draw.choice((("encoder", "decoder"), ("downs", "ups"), ("down", "up")))
    wide = [width * 2**n for n in range(depth + 1)]
    down = [_double(a, b) for a, b in zip([3, *wide[:-2]], wide[:-1], strict=True)]
    up: list[nn.Module] = []
    for n in range(depth - 1, -1, -1):
        up += [nn.ConvTranspose2d(wide[n + 1], wide[n], 2), _double(2 * wide[n], wide[n])]
    parts = {names[0]: nn.ModuleList(down), names[1]: nn.ModuleList(up)}
    middle, out = _double(wide[-2], wide[-1]), nn.Conv2d(width, draw.randint(1, 21), 1)
    return _named(**parts, bottleneck=middle, final_conv=out)


def recurrent(draw: random.Random) -> nn.Module:
    """Words or features through a GRU or LSTM."""
    width, inner = draw.choice(WIDTHS), draw.choice((64, 128, 256))
    cls = draw.choice((nn.GRU, nn.LSTM))
    rnn = cls(width, inner, draw.randint(1, 3), bidirectional=draw.random() < 0.5)
    embedding = nn.Embedding(draw.randint(50, 30_000), width)
    return _named(embedding=embedding, rnn=rnn, fc=nn.Linear(inner, draw.randint(2, 50)))


def conv1d(draw: random.Random) -> nn.Module:
    """A signal's encoder."""
    layers: list[nn.Module] = []
    width = draw.choice((1, 2, 12, 80))
    for out in _widths(draw, 2, 8):
        layers += [nn.Conv1d(width, out, draw.choice((3, 7, 15))), nn.BatchNorm1d(out), nn.ReLU()]
        width = out
    return _named(encoder=nn.Sequential(*layers), fc=nn.Linear(width, draw.randint(1, 35)))


def conv3d(draw: random.Random) -> nn.Module:
    """A video's or a volume's encoder."""
    layers: list[nn.Module] = []
    width = draw.choice((1, 3))
    for out in _widths(draw, 2, 6):
        layers += [nn.Conv3d(width, out, 3), nn.BatchNorm3d(out), nn.ReLU()]
        width = out
    return _named(stem=nn.Sequential(*layers), fc=nn.Linear(width, draw.randint(2, 400)))


def gan(draw: random.Random) -> nn.Module:
    """A generator, its critic, or both in one file."""
    width, depth = draw.choice((64, *WIDTHS)), draw.randint(2, 4)
    up: list[nn.Module] = [nn.ConvTranspose2d(100, width * 2**depth, 4, bias=False)]
    down: list[nn.Module] = [nn.Conv2d(3, width, 4, bias=False)]
    for n in range(depth, 0, -1):
        a, b = width * 2**n, width * 2 ** (n - 1)
        up += [nn.BatchNorm2d(a), nn.ReLU(), nn.ConvTranspose2d(a, b, 4, bias=False)]
        other = [nn.Conv2d(b, a, 4, bias=False), nn.BatchNorm2d(a), nn.LeakyReLU()]
        down[1:1] = [nn.LeakyReLU(), *other[:2]]
    parts = {"generator": nn.Sequential(*up), "discriminator": nn.Sequential(*down)}
    kept = draw.choice((["generator"], ["discriminator"], ["generator", "discriminator"]))
    return _named(**{name: _named(main=parts[name]) for name in kept})


def transformer(draw: random.Random) -> nn.Module:
    """torch's own encoder layers over words."""
    width = draw.choice((2, 4, 6)) * draw.choice((16, 22))
    layer = nn.TransformerEncoderLayer(width, 2, width * draw.choice((2, 4)))
    return _named(
        embed=nn.Embedding(draw.randint(100, 30_000), width),
        encoder=nn.TransformerEncoder(layer, draw.randint(1, 6), enable_nested_tensor=False),
        decoder=nn.Linear(width, draw.randint(2, 500)),
    )


def autoencoder(draw: random.Random) -> nn.Module:
    """Linears down to a code and up again, with or without a distribution between."""
    widths = [784, *sorted(_widths(draw, 1, 4), reverse=True)]
    down = [nn.Linear(a, b) for a, b in pairwise(widths)]
    up = [nn.Linear(b, a) for a, b in pairwise(widths)][::-1]
    rows = {"encoder": down, "decoder": up}
    parts = {k: nn.Sequential(*(m for one in v for m in (one, nn.ReLU()))) for k, v in rows.items()}
    if draw.random() < 0.5:
        parts |= {f"fc_{name}": nn.Linear(widths[-1], widths[-1]) for name in ("mu", "var")}
    return _named(**parts)


def mobilenet(draw: random.Random) -> nn.Module:
    """Inverted residuals of other widths, under torchvision's names."""

    def row(a: int, b: int, kernel: int, groups: int = 1) -> nn.Module:
        layers = [nn.Conv2d(a, b, kernel, groups=groups, bias=False), nn.BatchNorm2d(b)]
        return nn.Sequential(*layers, nn.ReLU6())

    width = draw.choice(WIDTHS)
    features = [row(3, width, 3)]
    for out in _widths(draw, 2, 12):
        inner = width * draw.choice((2, 3, 6))
        inside = [row(width, inner, 1), row(inner, inner, 3, inner)]
        conv = nn.Sequential(*inside, nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out))
        features.append(_named(conv=conv))
        width = out
    ends = nn.Sequential(nn.Dropout(), nn.Linear(width, draw.randint(2, 1000)))
    return _named(features=nn.Sequential(*features), classifier=ends)


def upscaler(draw: random.Random) -> nn.Module:
    """head, body of residual blocks, tail."""
    width = draw.choice((32, 64, *WIDTHS))

    def conv(out: int = width) -> nn.Module:
        return nn.Conv2d(width, out, 3)

    blocks = [
        _named(body=nn.Sequential(conv(), nn.ReLU(), conv())) for _ in range(draw.randint(2, 16))
    ]
    up = nn.Sequential(conv(4 * width), nn.PixelShuffle(2))
    return _named(
        head=nn.Sequential(nn.Conv2d(3, width, 3)),
        body=nn.Sequential(*blocks, conv()),
        tail=nn.Sequential(up, conv(3)),
    )


def actor_critic(draw: random.Random) -> nn.Module:
    """A shared trunk and two heads, on pictures or numbers."""
    seen, inner = draw.randint(3, 60), draw.choice((64, 256, 512))
    trunk = [nn.Linear(seen, inner), nn.Tanh(), nn.Linear(inner, inner), nn.Tanh()]
    if draw.random() < 0.5:
        convs = [nn.Conv2d(4, 32, 8), nn.ReLU(), nn.Conv2d(32, 64, 4), nn.ReLU()]
        trunk = [*convs, nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(3136, inner)]
    heads = {"actor": nn.Linear(inner, draw.randint(2, 18)), "critic": nn.Linear(inner, 1)}
    return _named(**{draw.choice(("shared", "features", "base")): nn.Sequential(*trunk)}, **heads)


def mixer(draw: random.Random) -> nn.Module:
    """MLPs over places and channels, under timm's names, with a norm after each."""
    width, places = draw.choice(WIDTHS) * 4, draw.choice((64, 196))

    def mlp_of(size: int, inner: int) -> nn.Module:
        return _named(fc1=nn.Linear(size, inner), fc2=nn.Linear(inner, size))

    blocks = [
        _named(
            norm1=nn.LayerNorm(width),
            mlp_tokens=mlp_of(places, width // 2),
            norm2=nn.LayerNorm(width),
            mlp_channels=mlp_of(width, 4 * width),
            norm3=nn.LayerNorm(width),
        )
        for _ in range(draw.randint(2, 10))
    ]
    stem = _named(proj=nn.Conv2d(3, width, 16))
    ends = {"norm": nn.LayerNorm(width), "head": nn.Linear(width, draw.randint(2, 1000))}
    return _named(stem=stem, blocks=nn.Sequential(*blocks), **ends)


def unnamed(draw: random.Random) -> nn.Module:
    """A bare Sequential: 0.weight, 3.weight."""
    layers: list[nn.Module] = []
    width = draw.choice((1, 3))
    for out in _widths(draw, 1, 6):
        layers += [nn.Conv2d(width, out, 3), nn.ReLU(), nn.MaxPool2d(2)]
        width = out
    row = [*layers, nn.Flatten(), nn.Linear(width * 4, draw.randint(2, 100))]
    return nn.Sequential(OrderedDict((str(n), layer) for n, layer in enumerate(row)))


STYLES: dict[str, Callable[[random.Random], nn.Module]] = {
    "conv + PReLU": conv_prelu,
    "conv + norm": conv_norm,
    "MLP": mlp,
    "ResNet-like": resnet,
    "ViT-like": vit,
    "VGG-like": vgg,
    "MobileNet-like": mobilenet,
    "Mixer-like": mixer,
    "U-Net": unet,
    "upscaler": upscaler,
    "GRU, LSTM": recurrent,
    "1d convolutions": conv1d,
    "3d convolutions": conv3d,
    "GAN": gan,
    "Transformer of words": transformer,
    "autoencoder": autoencoder,
    "actor and critic": actor_critic,
    "bare Sequential": unnamed,
}
