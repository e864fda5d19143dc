"""Networks as people write them, with forwards, random sizes and names: what no library has. Each
kind gives a module, inputs for it, and what no tensor shows where no module's attribute says it."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Drawn = tuple[nn.Module, tuple[Tensor, ...], dict[str, object]]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
CONVS, NORMS = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Net(nn.Module):
    """Modules by name, and a function that calls them."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_parameter(name, nn.Parameter(part))
        self.run = run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def _act(draw: random.Random) -> tuple[str, nn.Module]:
    word = draw.choices(tuple(ACTIVATIONS), (80, 6, 5, 3, 3, 3))[0]
    return word, ACTIVATIONS[word]()


def _final(draw: random.Random) -> tuple[str, Callable[[Tensor], Tensor]]:
    if draw.random() < 0.88:
        return "none", lambda x: x
    return draw.choice((("sigmoid", torch.sigmoid), ("tanh", torch.tanh)))


def _in(module: nn.Module, *parts: str) -> list[nn.Module]:
    return [getattr(module, part) for part in parts]


def mlp(draw: random.Random) -> Drawn:
    """Linears with names of their own."""
    word, act = _act(draw)
    end, last = _final(draw)
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
    word, _ = _act(draw)
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
    word, act = _act(draw)
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
    word, act = _act(draw)
    wide = [draw.randint(3, 60) for _ in range(draw.randint(3, 5))]

    def run(m: nn.Module, x: Tensor) -> Tensor:
        for layer in m.hidden:
            x = act(layer(x))
        return m.out(x)

    hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(wide))
    whole = Net(run, hidden=hidden, out=nn.Linear(wide[-1], draw.randint(1, 9)))
    return whole, (torch.randn(3, wide[0]),), {"activation": word}


def lenet(draw: random.Random) -> Drawn:
    """Convolutions, each pooled, and Linears."""
    word, act = _act(draw)
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
    word, _ = _act(draw)
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
    word, _ = _act(draw)
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
    word, _ = _act(draw)
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
    word, act = _act(draw)
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
    word, act = _act(draw)
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


def autoencoder(draw: random.Random) -> Drawn:
    """Linears down and up."""
    word, _ = _act(draw)
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


def conv_autoencoder(draw: random.Random) -> Drawn:
    """Convolutions of stride 2, and transposed ones."""
    word, _ = _act(draw)
    act, ins, a = ACTIVATIONS[word], draw.choice((1, 3)), draw.choice((8, 16))
    down = [nn.Conv2d(ins, a, 4, 2, 1), act(), nn.Conv2d(a, 2 * a, 4, 2, 1), act()]
    up = [nn.ConvTranspose2d(2 * a, a, 4, 2, 1), act(), nn.ConvTranspose2d(a, ins, 4, 2, 1)]
    whole = Net(
        lambda m, x: m.decoder(m.encoder(x)),
        encoder=nn.Sequential(*down),
        decoder=nn.Sequential(*up),
    )
    return whole, (torch.randn(2, ins, 16, 16),), {"activation": word}


def vae(draw: random.Random) -> Drawn:
    """Linears to a distribution and back, at its mean."""
    word, act = _act(draw)
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


def classifier_rnn(draw: random.Random) -> Drawn:
    """A recurrent layer over features, its last step read."""
    cls = draw.choice((nn.LSTM, nn.GRU, nn.RNN))
    ins, wide, outs = draw.randint(2, 30), draw.choice((8, 16)), draw.randint(1, 9)
    both, levels = draw.random() < 0.3, draw.randint(1, 3)
    rnn = cls(ins, wide, levels, batch_first=True, bidirectional=both)
    name = draw.choice(("lstm", "rnn", "gru"))
    whole = Net(
        lambda m, x: m.fc(getattr(m, name)(x)[0][:, -1]),
        **{name: rnn, "fc": nn.Linear(wide * (1 + both), outs)},
    )
    return whole, (torch.randn(2, 7, ins),), {"readout": "last"}


def words_rnn(draw: random.Random) -> Drawn:
    """Words through a recurrent layer, to a class, or a tag each."""
    words, wide, each = draw.randint(50, 500), draw.choice((8, 16)), draw.random() < 0.3
    outs = draw.randint(2, 20)

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.lstm(m.embedding(x))[0]
        return m.fc(x if each else x[:, -1])

    lstm = nn.LSTM(wide, 2 * wide, batch_first=True, bidirectional=draw.random() < 0.5)
    width = 2 * wide * (1 + lstm.bidirectional)
    whole = Net(run, embedding=nn.Embedding(words, wide), lstm=lstm, fc=nn.Linear(width, outs))
    inputs = torch.randint(0, words, (2, 6))
    return whole, (inputs,), {"readout": "none" if each else "last"}


def words_transformer(draw: random.Random) -> Drawn:
    """torch's own encoder over words and positions."""
    words, wide, count = draw.randint(50, 300), draw.choice((32, 64)), draw.choice((2, 4, 4))
    layer = nn.TransformerEncoderLayer(wide, count, 2 * wide, batch_first=True)

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.embedding(x) + m.pos_embedding(torch.arange(x.shape[1]))
        return m.fc(m.encoder(x).mean(1))

    whole = Net(
        run, embedding=nn.Embedding(words, wide), pos_embedding=nn.Embedding(40, wide),
        encoder=nn.TransformerEncoder(layer, draw.randint(1, 3), enable_nested_tensor=False),
        fc=nn.Linear(wide, draw.randint(2, 9)),
    )  # fmt: skip
    return whole, (torch.randint(0, words, (2, 9)),), {"num_heads": count, "readout": "mean"}


def series_transformer(draw: random.Random) -> Drawn:
    """torch's own encoder over rows of numbers."""
    ins, wide, count = draw.randint(2, 20), draw.choice((32, 64)), draw.choice((2, 4, 4))
    layer = nn.TransformerEncoderLayer(wide, count, 2 * wide, batch_first=True)
    whole = Net(
        lambda m, x: m.head(m.encoder(m.input_proj(x)).mean(1)),
        input_proj=nn.Linear(ins, wide),
        encoder=nn.TransformerEncoder(layer, draw.randint(1, 3), enable_nested_tensor=False),
        head=nn.Linear(wide, draw.randint(1, 5)),
    )
    return whole, (torch.randn(2, 9, ins),), {"num_heads": count, "readout": "mean"}


def attention_block(wide: int, count: int, causal: bool) -> nn.Module:
    """A block with norms first, its attention by hand."""

    def attend(m: nn.Module, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = m.qkv(x).view(n, t, 3, count, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return m.proj(x.transpose(1, 2).reshape(n, t, -1))

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = x + m.attn(m.norm1(x))
        return x + m.mlp(m.norm2(x))

    return Net(
        run, norm1=nn.LayerNorm(wide),
        attn=Net(attend, qkv=nn.Linear(wide, 3 * wide), proj=nn.Linear(wide, wide)),
        norm2=nn.LayerNorm(wide),
        mlp=nn.Sequential(nn.Linear(wide, 4 * wide), nn.GELU(), nn.Linear(4 * wide, wide)),
    )  # fmt: skip


def vit(draw: random.Random) -> Drawn:
    """Patches, a class token, positions, blocks, a norm, a head."""
    ins, wide, count = draw.choice((1, 3)), draw.choice((32, 64)), draw.choice((2, 4, 4))
    depth = draw.randint(1, 4)

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([m.cls_token.expand(x.shape[0], -1, -1), x], 1) + m.pos_embed
        for block in m.blocks:
            x = block(x)
        return m.head(m.norm(x)[:, 0])

    whole = Net(
        run, cls_token=torch.randn(1, 1, wide), pos_embed=torch.randn(1, 17, wide),
        patch_embed=nn.Conv2d(ins, wide, 4, 4),
        blocks=nn.ModuleList(attention_block(wide, count, False) for _ in range(depth)),
        norm=nn.LayerNorm(wide), head=nn.Linear(wide, draw.randint(2, 9)),
    )  # fmt: skip
    return whole, (torch.randn(1, ins, 16, 16),), {"num_heads": count, "readout": "first"}


def language(draw: random.Random) -> Drawn:
    """A small GPT."""
    words, wide, count = draw.randint(40, 200), draw.choice((32, 64)), draw.choice((2, 4, 4))

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.tok_emb(x) + m.pos_emb(torch.arange(x.shape[1]))
        for block in m.blocks:
            x = block(x)
        return m.lm_head(m.ln_f(x))

    whole = Net(
        run, tok_emb=nn.Embedding(words, wide), pos_emb=nn.Embedding(32, wide),
        blocks=nn.ModuleList(attention_block(wide, count, True) for _ in range(draw.randint(1, 3))),
        ln_f=nn.LayerNorm(wide), lm_head=nn.Linear(wide, words, bias=False),
    )  # fmt: skip
    return whole, (torch.randint(0, words, (1, 8)),), {"num_heads": count, "causal": True}


def actor_critic(draw: random.Random) -> Drawn:
    """A trunk with a policy and a value."""
    word, act = _act(draw)
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
    word, _ = _act(draw)
    act, ins, outs = ACTIVATIONS[word], draw.randint(3, 40), draw.randint(2, 9)
    rows = [
        nn.Sequential(nn.Linear(ins, 32), act(), nn.Linear(32, 32), act(), nn.Linear(32, n))
        for n in (outs, 1)
    ]
    whole = Net(lambda m, x: (m.actor(x), m.critic(x)), actor=rows[0], critic=rows[1])
    return whole, (torch.randn(2, ins),), {"activation": word}


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


def two_inputs(draw: random.Random) -> Drawn:
    """A branch for each of two inputs, put together."""
    word, _ = _act(draw)
    act, a, b = ACTIVATIONS[word], draw.randint(3, 20), draw.randint(21, 50)
    sides = [nn.Sequential(nn.Linear(n, 16), act(), nn.Linear(16, 8), act()) for n in (a, b)]
    names = draw.choice((("user", "item"), ("left", "right"), ("text", "tabular")))
    fused = nn.Sequential(nn.Linear(16, 12), act(), nn.Linear(12, 3))

    def run(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return m.fusion(torch.cat([getattr(m, names[0])(x), getattr(m, names[1])(y)], 1))

    whole = Net(run, **dict(zip(names, sides, strict=True)), fusion=fused)
    return whole, (torch.randn(2, a), torch.randn(2, b)), {"activation": word}


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


def out_of_order(draw: random.Random) -> Drawn:
    """An MLP whose output is registered first."""
    word, act = _act(draw)
    wide = draw.sample(range(3, 90), 4)
    whole = Net(
        lambda m, x: m.out(act(m.hidden(act(m.inp(x))))),
        out=nn.Linear(wide[2], wide[3]), inp=nn.Linear(wide[0], wide[1]),
        hidden=nn.Linear(wide[1], wide[2]),
    )  # fmt: skip
    return whole, (torch.randn(2, wide[0]),), {"activation": word}


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


KINDS: dict[str, Callable[[random.Random], Drawn]] = {
    kind.__name__: kind
    for kind in (
        mlp, mlp_sequential, mlp_norm, mlp_list, lenet, cnn_sequential, cnn_average, unet,
        unet_lists, resnet, upscaler, autoencoder, conv_autoencoder, vae, generator, discriminator,
        classifier_rnn, words_rnn, words_transformer, series_transformer, vit, language,
        actor_critic, two_networks, frames, two_inputs, inception, depthwise, out_of_order, gated,
    )
}  # fmt: skip
