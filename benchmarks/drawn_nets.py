"""Networks of many kinds with what goes in and comes out, drawn from a seed: what a description
from keys and shapes alone is measured on. Built on the meta device, in ways that people write."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import nn

from archfind.evidence.anatomy import (
    ATTENTIVE,
    CLASSIFIER,
    CRNN,
    FULLY,
    MIXED,
    MLP,
    RECURRENT,
    TRANSFORMER,
    Anatomy,
)

State = dict[str, torch.Tensor]
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
UPS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def named(**modules: nn.Module) -> nn.Module:
    """Modules under one, in this order."""
    whole = nn.Module()
    for name, module in modules.items():
        whole.add_module(name, module)
    return whole


def _wide(draw: random.Random) -> int:
    return draw.choice((12, 16, 24, 32, 40, 48, 64, 96))


def _double(dims: int, a: int, b: int, norm: bool) -> nn.Module:
    rows: list[nn.Module] = []
    for ins in (a, b):
        rows += [CONVS[dims](ins, b, 3, bias=not norm)]
        rows += [NORMS[dims](b)] * norm + [nn.ReLU()]
    return nn.Sequential(*rows)


def stack(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Convolutions in a row, then a Linear or a convolution."""
    dims, ins, outs = draw.choice((1, 2, 2, 3)), draw.choice((1, 2, 3, 4, 12)), draw.randint(1, 90)
    widths = [ins, *(_wide(draw) for _ in range(draw.randint(2, 6)))]
    norm, ends = draw.random() < 0.6, draw.random() < 0.6
    rows = [_double(dims, a, b, norm) for a, b in pairwise(widths)]
    places = draw.choice(("features", "conv", "layers", "backbone"))
    last = nn.Linear(widths[-1] * 4, outs) if ends else CONVS[dims](widths[-1], outs, 1)
    whole = named(**{places: nn.Sequential(*rows), draw.choice(("fc", "head", "out")): last})
    return whole, Anatomy(CLASSIFIER if ends else FULLY, dims, "channels", ins, outs)


def lenet(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """conv1, conv2, fc1, fc2: the tutorial's."""
    ins, outs, a, b = draw.choice((1, 3)), draw.randint(2, 100), _wide(draw), _wide(draw)
    whole = named(
        conv1=nn.Conv2d(ins, a, 5),
        conv2=nn.Conv2d(a, b, 5),
        fc1=nn.Linear(b * 16, 120),
        fc2=nn.Linear(120, 84),
        fc3=nn.Linear(84, outs),
    )
    return whole, Anatomy(CLASSIFIER, 2, "channels", ins, outs)


def mlp(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Linears, numbered, named or in a Sequential, with or without norms."""
    ins, outs = draw.randint(2, 800), draw.randint(1, 30)
    widths = [ins, *(draw.choice((32, 64, 100, 256)) for _ in range(draw.randint(1, 5))), outs]
    linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
    answer = Anatomy(MLP, 0, "features", ins, outs)
    if draw.random() < 0.4:
        names = [f"fc{n}" for n in range(1, len(linears))] + [
            draw.choice(("out", "fc_out", "head"))
        ]
        return named(**dict(zip(names, linears, strict=True))), answer
    rows: list[nn.Module] = []
    for linear in linears:
        rows += [linear, nn.ReLU()]
        if draw.random() < 0.3 and linear is not linears[-1]:
            rows.append(nn.BatchNorm1d(linear.out_features))
    return draw.choice((nn.Sequential(*rows), named(net=nn.Sequential(*rows)))), answer


def recurrent(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Features or words through a GRU, LSTM or plain RNN."""
    cls, cell = draw.choice(((nn.LSTM, "LSTM"), (nn.GRU, "GRU"), (nn.RNN, "RNN")))
    ins, width, depth = draw.randint(1, 120), draw.choice((24, 64, 128)), draw.randint(1, 3)
    both, outs = draw.random() < 0.5, draw.randint(1, 60)
    parts: dict[str, nn.Module] = {}
    takes = "features"
    rnn = cls(ins, width, depth, bidirectional=both)
    if draw.random() < 0.4:
        words = draw.randint(300, 30_000)
        parts[draw.choice(("embedding", "embed", "word_embeddings"))] = nn.Embedding(words, ins)
        takes, ins = "tokens", words
    parts[draw.choice(("rnn", "lstm", "encoder"))] = rnn
    out = width * (2 if both else 1)
    if draw.random() < 0.8:
        parts[draw.choice(("fc", "linear", "out"))] = nn.Linear(out, outs)
    else:
        outs = out
    return named(**parts), Anatomy(RECURRENT, 0, takes, ins, outs, cell, both, depth, width)


def cells(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """A cell, stepped by hand."""
    cls, cell = draw.choice(((nn.LSTMCell, "LSTM"), (nn.GRUCell, "GRU"), (nn.RNNCell, "RNN")))
    ins, width, outs = draw.randint(2, 90), draw.choice((16, 64, 100)), draw.randint(1, 9)
    whole = named(cell=cls(ins, width), out=nn.Linear(width, outs))
    return whole, Anatomy(RECURRENT, 0, "features", ins, outs, cell, False, 1, width)


def crnn(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Text in pictures: convolutions, then LSTMs."""
    ins, outs, a = draw.choice((1, 3)), draw.randint(11, 99), _wide(draw)
    cnn = nn.Sequential(*(_double(2, x, y, True) for x, y in pairwise((ins, a, 2 * a, 2 * a))))
    rnn = nn.LSTM(2 * a, 128, 2, bidirectional=True)
    whole = named(cnn=cnn, rnn=rnn, fc=nn.Linear(256, outs))
    return whole, Anatomy(CRNN, 2, "channels", ins, outs, "LSTM", True, 2, 128)


def unet(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """A U-Net of 2 or 3 dimensions."""
    dims, ins, outs = draw.choice((2, 2, 3)), draw.choice((1, 3, 4)), draw.randint(1, 12)
    width, depth, norm = draw.choice((8, 16, 32, 64)), draw.randint(2, 4), draw.random() < 0.7
    wide = [width * 2**n for n in range(depth + 1)]
    down = [_double(dims, a, b, norm) for a, b in pairwise([ins, *wide[:-1]])]
    up: list[nn.Module] = []
    for n in range(depth - 1, -1, -1):
        up += [UPS[dims](wide[n + 1], wide[n], 2, 2), _double(dims, 2 * wide[n], wide[n], norm)]
    names = draw.choice((("encoder", "decoder"), ("downs", "ups"), ("down_path", "up_path")))
    whole = named(
        **{names[0]: nn.ModuleList(down)},
        bottleneck=_double(dims, wide[-2], wide[-1], norm),
        **{
            names[1]: nn.ModuleList(up),
            draw.choice(("final", "outc", "out_conv")): CONVS[dims](width, outs, 1),
        },
    )
    return whole, Anatomy(FULLY, dims, "channels", ins, outs)


def diffusion(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """A small DDPM U-Net: a time embedding first, residual blocks, attention in some of them."""
    width, ins = draw.choice((16, 32, 64)), draw.choice((1, 3, 4))
    attends = draw.random() < 0.5

    def block(a: int, b: int) -> nn.Module:
        rows = {
            "norm1": nn.GroupNorm(4, a),
            "conv1": nn.Conv2d(a, b, 3),
            "time_proj": nn.Linear(width * 4, b),
            "norm2": nn.GroupNorm(4, b),
            "conv2": nn.Conv2d(b, b, 3),
        }
        if a != b:
            rows["shortcut"] = nn.Conv2d(a, b, 1)
        return named(**rows)

    middle: dict[str, nn.Module] = {"a": block(2 * width, 2 * width)}
    if attends:
        middle["attn"] = named(
            norm=nn.GroupNorm(4, 2 * width),
            qkv=nn.Conv1d(2 * width, 6 * width, 1),
            proj=nn.Conv1d(2 * width, 2 * width, 1),
        )
    whole = named(
        time_mlp=nn.Sequential(
            nn.Linear(width, width * 4), nn.SiLU(), nn.Linear(width * 4, width * 4)
        ),
        init_conv=nn.Conv2d(ins, width, 3),
        downs=nn.ModuleList([block(width, width), block(width, 2 * width)]),
        mid=named(**middle),
        ups=nn.ModuleList([block(4 * width, width), block(2 * width, width)]),
        final_norm=nn.GroupNorm(4, width),
        final_conv=nn.Conv2d(width, ins, 3),
    )
    return whole, Anatomy(ATTENTIVE if attends else FULLY, 2, "channels", ins, ins)


def generator(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """DCGAN's: transposed convolutions without biases."""
    latent, width, outs = draw.choice((64, 100, 128)), draw.choice((32, 64)), draw.choice((1, 3))
    rows: list[nn.Module] = [nn.ConvTranspose2d(latent, width * 4, 4, bias=False)]
    for a, b in pairwise((width * 4, width * 2, width)):
        rows += [nn.BatchNorm2d(a), nn.ReLU(), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)]
    rows += [nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, outs, 4, 2, 1, bias=False)]
    return named(main=nn.Sequential(*rows)), Anatomy(FULLY, 2, "channels", latent, outs)


def critic(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Its discriminator, or a PatchGAN."""
    width, ins = draw.choice((32, 64)), draw.choice((1, 3, 6))
    rows: list[nn.Module] = [nn.Conv2d(ins, width, 4, 2, 1), nn.LeakyReLU()]
    for a, b in pairwise((width, width * 2, width * 4)):
        rows += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU()]
    rows += [nn.Conv2d(width * 4, 1, 4)]
    return named(model=nn.Sequential(*rows)), Anatomy(FULLY, 2, "channels", ins, 1)


def vae(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Convolutions, two Linears for the distribution, and transposed convolutions."""
    ins, width, code = draw.choice((1, 3)), draw.choice((16, 32)), draw.choice((16, 64, 128))
    whole = named(
        encoder=nn.Sequential(
            nn.Conv2d(ins, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 4, 2, 1)
        ),
        fc_mu=nn.Linear(2 * width * 49, code),
        fc_var=nn.Linear(2 * width * 49, code),
        decoder_input=nn.Linear(code, 2 * width * 49),
        decoder=nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, ins, 4, 2, 1),
        ),
    )
    return whole, Anatomy(MIXED, 2, "channels", ins, ins)


def residual(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """A residual classifier of 1 to 3 dimensions, with squeeze and excitation or not."""
    dims, ins, outs = draw.choice((1, 2, 3)), draw.choice((1, 2, 3, 12)), draw.randint(2, 400)
    width, excited = draw.choice((16, 32, 64)), draw.random() < 0.4
    conv, norm = CONVS[dims], NORMS[dims]
    whole = named(conv1=conv(ins, width, 7, bias=False), bn1=norm(width))
    for stage in range(1, draw.randint(3, 5)):
        out = width * 2 if stage > 1 else width
        rows = {
            "conv1": conv(width, out, 3, bias=False),
            "bn1": norm(out),
            "conv2": conv(out, out, 3, bias=False),
            "bn2": norm(out),
        }
        if excited:
            rows["se"] = named(fc1=nn.Linear(out, out // 4), fc2=nn.Linear(out // 4, out))
        if width != out:
            rows["downsample"] = nn.Sequential(conv(width, out, 1, bias=False), norm(out))
        whole.add_module(f"layer{stage}", nn.Sequential(named(**rows)))
        width = out
    whole.fc = nn.Linear(width, outs)
    return whole, Anatomy(CLASSIFIER, dims, "channels", ins, outs)


def depthwise(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Separable convolutions."""
    ins, outs, width = draw.choice((1, 3)), draw.randint(2, 300), draw.choice((16, 32))
    rows = [nn.Sequential(nn.Conv2d(ins, width, 3, bias=False), nn.BatchNorm2d(width))]
    for out in (width * 2, width * 2, width * 4):
        rows.append(
            nn.Sequential(
                nn.Conv2d(width, width, 3, groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.Conv2d(width, out, 1, bias=False),
                nn.BatchNorm2d(out),
            )
        )
        width = out
    whole = named(features=nn.Sequential(*rows), classifier=nn.Linear(width, outs))
    return whole, Anatomy(CLASSIFIER, 2, "channels", ins, outs)


def upscaler(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Residual blocks between convolutions."""
    ins, width = draw.choice((1, 3)), draw.choice((32, 48, 64))
    body = [
        named(conv1=nn.Conv2d(width, width, 3), conv2=nn.Conv2d(width, width, 3))
        for _ in range(draw.randint(2, 8))
    ]
    whole = named(
        conv_first=nn.Conv2d(ins, width, 3),
        body=nn.Sequential(*body),
        conv_up=nn.Conv2d(width, 4 * width, 3),
        conv_last=nn.Conv2d(width, ins, 3),
    )
    return whole, Anatomy(FULLY, 2, "channels", ins, ins)


def vit(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Attention over patches, with names of many codes."""
    ins, outs, width = draw.choice((1, 3, 4)), draw.randint(2, 1000), draw.choice((64, 96, 192))
    depth, style = draw.randint(2, 8), draw.choice(("qkv", "split", "torch", "lucid"))

    def attention() -> nn.Module:
        if style == "torch":
            return named(attn=nn.MultiheadAttention(width, 4))
        if style == "lucid":
            return named(
                to_qkv=nn.Linear(width, 3 * width, bias=False), to_out=nn.Linear(width, width)
            )
        if style == "qkv":
            return named(qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width))
        return named(**{n: nn.Linear(width, width) for n in ("query", "key", "value", "out")})

    blocks = [
        named(
            norm1=nn.LayerNorm(width),
            attn=attention(),
            norm2=nn.LayerNorm(width),
            mlp=nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
        )
        for _ in range(depth)
    ]
    patch = nn.Conv2d(ins, width, 8)
    whole = named(
        patch_embed=draw.choice((patch, named(proj=patch))),
        blocks=nn.Sequential(*blocks),
        norm=nn.LayerNorm(width),
        head=nn.Linear(width, outs),
    )
    whole.register_parameter("pos_embed", nn.Parameter(torch.empty(1, 65, width)))
    whole.register_parameter("cls_token", nn.Parameter(torch.empty(1, 1, width)))
    return whole, Anatomy(TRANSFORMER, 2, "channels", ins, outs, depth=depth, width=width)


def language(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Words through attention: to words again, or to classes."""
    words, width, depth = draw.randint(200, 30_000), draw.choice((64, 128, 256)), draw.randint(1, 6)
    outs = draw.choice((words, draw.randint(2, 40)))
    layer = nn.TransformerEncoderLayer(width, 4, width * 4)
    blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    if draw.random() < 0.5:
        blocks = nn.ModuleList(
            named(
                ln_1=nn.LayerNorm(width),
                attn=named(
                    q_proj=nn.Linear(width, width, bias=False),
                    k_proj=nn.Linear(width, width // 2, bias=False),
                    v_proj=nn.Linear(width, width // 2, bias=False),
                    o_proj=nn.Linear(width, width, bias=False),
                ),
                ln_2=nn.LayerNorm(width),
                mlp=named(
                    up=nn.Linear(width, width * 3, bias=False),
                    down=nn.Linear(width * 3, width, bias=False),
                ),
            )
            for _ in range(depth)
        )
    names = draw.choice(
        (("tok_emb", "pos_emb"), ("wte", "wpe"), ("embedding", "position_embedding"))
    )
    whole = named(
        **{names[0]: nn.Embedding(words, width), names[1]: nn.Embedding(128, width)},
        layers=blocks,
        ln_f=nn.LayerNorm(width),
        **{draw.choice(("lm_head", "head", "fc")): nn.Linear(width, outs)},
    )
    return whole, Anatomy(TRANSFORMER, 0, "tokens", words, outs, depth=depth, width=width)


def series(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Attention over rows of numbers."""
    ins, width, depth, outs = draw.randint(1, 60), 64, draw.randint(1, 5), draw.randint(1, 20)
    layer = nn.TransformerEncoderLayer(width, 4, width * 2)
    whole = named(
        input_proj=nn.Linear(ins, width),
        encoder=nn.TransformerEncoder(layer, depth, enable_nested_tensor=False),
        head=nn.Linear(width, outs),
    )
    return whole, Anatomy(TRANSFORMER, 0, "features", ins, outs, depth=depth, width=width)


def wavenet(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Dilated convolutions over a signal, gated, with skips."""
    ins, width, outs = draw.choice((1, 80, 256)), draw.choice((32, 64)), draw.choice((1, 30, 256))
    blocks = [
        named(
            filter=nn.Conv1d(width, width, 2),
            gate=nn.Conv1d(width, width, 2),
            res=nn.Conv1d(width, width, 1),
            skip=nn.Conv1d(width, 2 * width, 1),
        )
        for _ in range(draw.randint(3, 9))
    ]
    whole = named(
        start=nn.Conv1d(ins, width, 1),
        blocks=nn.ModuleList(blocks),
        end1=nn.Conv1d(2 * width, 2 * width, 1),
        end2=nn.Conv1d(2 * width, outs, 1),
    )
    return whole, Anatomy(FULLY, 1, "channels", ins, outs)


def agent(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """DQN on frames, or a policy on numbers."""
    outs = draw.randint(2, 18)
    if draw.random() < 0.5:
        ins = draw.choice((1, 4, 12))
        convs = nn.Sequential(
            nn.Conv2d(ins, 32, 8, 4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
        )
        ends = nn.Sequential(nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, outs))
        return named(conv=convs, fc=ends), Anatomy(CLASSIFIER, 2, "channels", ins, outs)
    ins = draw.randint(3, 60)
    rows = nn.Sequential(
        nn.Linear(ins, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, outs)
    )
    whole = named(actor=rows)
    whole.register_parameter("log_std", nn.Parameter(torch.empty(outs)))
    return whole, Anatomy(MLP, 0, "features", ins, outs)


def points(draw: random.Random) -> tuple[nn.Module, Anatomy]:
    """Clouds of points: convolutions of one place, then Linears."""
    ins, outs = draw.choice((3, 6, 9)), draw.randint(2, 50)
    rows: dict[str, nn.Module] = {}
    for number, (a, b) in enumerate(pairwise((ins, 64, 128, 512)), 1):
        rows[f"conv{number}"], rows[f"bn{number}"] = nn.Conv1d(a, b, 1), nn.BatchNorm1d(b)
    rows |= {"fc1": nn.Linear(512, 256), "fc2": nn.Linear(256, outs)}
    return named(**rows), Anatomy(CLASSIFIER, 1, "channels", ins, outs)


KINDS: dict[str, Callable[[random.Random], tuple[nn.Module, Anatomy]]] = {
    kind.__name__: kind
    for kind in (
        stack,
        lenet,
        mlp,
        recurrent,
        cells,
        crnn,
        unet,
        diffusion,
        generator,
        critic,
        vae,
        residual,
        depthwise,
        upscaler,
        vit,
        language,
        series,
        wavenet,
        agent,
        points,
    )
}


def drawn(seed: int, each: int) -> Iterator[tuple[str, State, Anatomy]]:
    """(kind, state dict, the right answer), `each` of every kind; every second one with its keys
    sorted, as safetensors files have them, a third below a prefix."""
    draw = random.Random(seed)
    for number in range(each):
        for name, kind in KINDS.items():
            with torch.device("meta"):
                module, answer = kind(draw)
            prefix = draw.choice(("", "", "model."))
            state = {prefix + key: tensor for key, tensor in module.state_dict().items()}
            yield name, dict(sorted(state.items())) if number % 2 else state, answer
