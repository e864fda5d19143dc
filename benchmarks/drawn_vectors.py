"""Networks over vectors, as people write them."""

from __future__ import annotations

import random
from itertools import pairwise

import torch
from drawn_net import ACTIVATIONS, Drawn, Net, drawn_activation, drawn_end
from torch import Tensor, nn


def mlp(draw: random.Random) -> Drawn:
    """Linears with names of their own."""
    word, act = drawn_activation(draw)
    end, last = drawn_end(draw)
    wide = [draw.randint(3, 90) for _ in range(draw.randint(3, 6))]
    stem = draw.choice(("fc", "linear", "layer", "dense", "l"))
    names = [f"{stem}{n}" for n in range(1, len(wide))]

    def run(m: nn.Module, x: Tensor) -> Tensor:
        for name in names[:-1]:
            x = act(getattr(m, name)(x))
        return last(getattr(m, names[-1])(x))

    parts = {n: nn.Linear(a, b) for n, (a, b) in zip(names, pairwise(wide), strict=True)}
    return Net(run, **parts), (torch.randn(3, wide[0]),), {"activation": word, "final": end}


def mlp_sequential(draw: random.Random) -> Drawn:
    """A Sequential of Linears, with dropout or not."""
    word, _ = drawn_activation(draw)
    drops = draw.random() < 0.4
    wide = [draw.randint(3, 90) for _ in range(draw.randint(3, 5))]
    rows: list[nn.Module] = []
    for a, b in pairwise(wide[:-1]):
        rows += [nn.Linear(a, b), ACTIVATIONS[word](), *([nn.Dropout(0.3)] if drops else [])]
    rows.append(nn.Linear(wide[-2], wide[-1]))
    name = draw.choice(("net", "layers", "model", "fc", "mlp"))
    whole = Net(lambda m, x: getattr(m, name)(x), **{name: nn.Sequential(*rows)})
    return whole, (torch.randn(3, wide[0]),), {"activation": word}


def mlp_norm(draw: random.Random) -> Drawn:
    """Linears with batch norms beside them."""
    word, act = drawn_activation(draw)
    wide = [draw.randint(3, 60) for _ in range(draw.randint(3, 5))]
    parts: dict[str, nn.Module] = {}
    for n, (a, b) in enumerate(pairwise(wide[:-1]), 1):
        parts[f"fc{n}"], parts[f"bn{n}"] = nn.Linear(a, b), nn.BatchNorm1d(b)
    parts["out"] = nn.Linear(wide[-2], wide[-1])

    def run(m: nn.Module, x: Tensor) -> Tensor:
        for n in range(1, len(wide) - 1):
            x = act(getattr(m, f"bn{n}")(getattr(m, f"fc{n}")(x)))
        return m.out(x)

    return Net(run, **parts), (torch.randn(3, wide[0]),), {"activation": word}


def mlp_list(draw: random.Random) -> Drawn:
    """A ModuleList of Linears, and an output."""
    word, act = drawn_activation(draw)
    wide = [draw.randint(3, 60) for _ in range(draw.randint(3, 5))]

    def run(m: nn.Module, x: Tensor) -> Tensor:
        for layer in m.hidden:
            x = act(layer(x))
        return m.out(x)

    hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(wide))
    whole = Net(run, hidden=hidden, out=nn.Linear(wide[-1], draw.randint(1, 9)))
    return whole, (torch.randn(3, wide[0]),), {"activation": word}


def autoencoder(draw: random.Random) -> Drawn:
    """Linears down and up."""
    word, _ = drawn_activation(draw)
    act = ACTIVATIONS[word]
    wide = sorted((draw.randint(2, 90) for _ in range(3)), reverse=True)
    down = [nn.Linear(wide[0], wide[1]), act(), nn.Linear(wide[1], wide[2])]
    up = [nn.Linear(wide[2], wide[1]), act(), nn.Linear(wide[1], wide[0])]
    whole = Net(
        lambda m, x: m.decoder(m.encoder(x)),
        encoder=nn.Sequential(*down),
        decoder=nn.Sequential(*up),
    )
    return whole, (torch.randn(2, wide[0]),), {"activation": word}


def vae(draw: random.Random) -> Drawn:
    """Linears to a distribution and back, at its mean."""
    word, act = drawn_activation(draw)
    ins, wide, code = draw.randint(20, 90), draw.randint(8, 30), draw.randint(2, 9)

    def run(m: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        x = act(m.fc1(x))
        mu, spread = m.fc_mu(x), m.fc_logvar(x)
        return m.fc4(act(m.fc3(mu))), mu, spread

    whole = Net(
        run, fc1=nn.Linear(ins, wide), fc_mu=nn.Linear(wide, code), fc_logvar=nn.Linear(wide, code),
        fc3=nn.Linear(code, wide), fc4=nn.Linear(wide, ins),
    )  # fmt: skip
    return whole, (torch.randn(2, ins),), {"activation": word}


def actor_critic(draw: random.Random) -> Drawn:
    """A trunk with a policy and a value."""
    word, act = drawn_activation(draw)
    ins, wide, outs = draw.randint(3, 40), draw.choice((32, 64)), draw.randint(2, 9)
    names = draw.choice((("actor", "critic"), ("policy_head", "value_head"), ("pi", "v")))

    def run(m: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        x = act(m.fc2(act(m.fc1(x))))
        return getattr(m, names[0])(x), getattr(m, names[1])(x)

    parts = {"fc1": nn.Linear(ins, wide), "fc2": nn.Linear(wide, wide)}
    parts |= {names[0]: nn.Linear(wide, outs), names[1]: nn.Linear(wide, 1)}
    return Net(run, **parts), (torch.randn(2, ins),), {"activation": word}


def two_networks(draw: random.Random) -> Drawn:
    """An actor and a critic that share nothing."""
    word, _ = drawn_activation(draw)
    act, ins, outs = ACTIVATIONS[word], draw.randint(3, 40), draw.randint(2, 9)
    rows = [
        nn.Sequential(nn.Linear(ins, 32), act(), nn.Linear(32, 32), act(), nn.Linear(32, n))
        for n in (outs, 1)
    ]
    whole = Net(lambda m, x: (m.actor(x), m.critic(x)), actor=rows[0], critic=rows[1])
    return whole, (torch.randn(2, ins),), {"activation": word}


def two_inputs(draw: random.Random) -> Drawn:
    """A branch for each of two inputs, put together."""
    word, _ = drawn_activation(draw)
    act, a, b = ACTIVATIONS[word], draw.randint(3, 20), draw.randint(21, 50)
    sides = [nn.Sequential(nn.Linear(n, 16), act(), nn.Linear(16, 8), act()) for n in (a, b)]
    names = draw.choice((("user", "item"), ("left", "right"), ("text", "tabular")))
    fused = nn.Sequential(nn.Linear(16, 12), act(), nn.Linear(12, 3))

    def run(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return m.fusion(torch.cat([getattr(m, names[0])(x), getattr(m, names[1])(y)], 1))

    whole = Net(run, **dict(zip(names, sides, strict=True)), fusion=fused)
    return whole, (torch.randn(2, a), torch.randn(2, b)), {"activation": word}


def out_of_order(draw: random.Random) -> Drawn:
    """An MLP whose output is registered first."""
    word, act = drawn_activation(draw)
    wide = draw.sample(range(3, 90), 4)
    whole = Net(
        lambda m, x: m.out(act(m.hidden(act(m.inp(x))))),
        out=nn.Linear(wide[2], wide[3]), inp=nn.Linear(wide[0], wide[1]),
        hidden=nn.Linear(wide[1], wide[2]),
    )  # fmt: skip
    return whole, (torch.randn(2, wide[0]),), {"activation": word}
