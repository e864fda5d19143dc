"""Networks that make maps, and those that judge them, as people write them."""

from __future__ import annotations

import random
from itertools import pairwise

import torch
from drawn_net import ACTIVATIONS, Drawn, Net, drawn_activation
from torch import nn


def conv_autoencoder(draw: random.Random) -> Drawn:
    """Convolutions of stride 2, and transposed ones."""
    word, _ = drawn_activation(draw)
    act, ins, a = ACTIVATIONS[word], draw.choice((1, 3)), draw.choice((8, 16))
    down = [nn.Conv2d(ins, a, 4, 2, 1), act(), nn.Conv2d(a, 2 * a, 4, 2, 1), act()]
    up = [nn.ConvTranspose2d(2 * a, a, 4, 2, 1), act(), nn.ConvTranspose2d(a, ins, 4, 2, 1)]
    whole = Net(
        lambda m, x: m.decoder(m.encoder(x)),
        encoder=nn.Sequential(*down),
        decoder=nn.Sequential(*up),
    )
    return whole, (torch.randn(2, ins, 16, 16),), {"activation": word}


def generator(draw: random.Random) -> Drawn:
    """Transposed convolutions from a vector of noise, as maps of one place."""
    latent, a, outs = draw.choice((16, 32, 100)), draw.choice((4, 8)), draw.choice((1, 3))
    rows: list[nn.Module] = [nn.ConvTranspose2d(latent, 4 * a, 4, 1, 0, bias=False)]
    for x, y in pairwise((4 * a, 2 * a, a)):
        rows += [nn.BatchNorm2d(x), nn.ReLU(), nn.ConvTranspose2d(x, y, 4, 2, 1, bias=False)]
    rows += [
        nn.BatchNorm2d(a),
        nn.ReLU(),
        nn.ConvTranspose2d(a, outs, 4, 2, 1, bias=False),
        nn.Tanh(),
    ]
    whole = Net(lambda m, x: m.main(x), main=nn.Sequential(*rows))
    return whole, (torch.randn(2, latent, 1, 1),), {"final": "tanh"}


def discriminator(draw: random.Random) -> Drawn:
    """Convolutions of stride 2 to one number."""
    a, ins = draw.choice((4, 8)), draw.choice((1, 3))
    rows: list[nn.Module] = [nn.Conv2d(ins, a, 4, 2, 1), nn.LeakyReLU(0.2)]
    for x, y in pairwise((a, 2 * a, 4 * a)):
        rows += [nn.Conv2d(x, y, 4, 2, 1, bias=False), nn.BatchNorm2d(y), nn.LeakyReLU(0.2)]
    rows += [nn.Conv2d(4 * a, 1, 4, 1, 0)]
    whole = Net(lambda m, x: m.main(x), main=nn.Sequential(*rows))
    return whole, (torch.randn(2, ins, 32, 32),), {"activation": "leaky_relu_0.2"}
