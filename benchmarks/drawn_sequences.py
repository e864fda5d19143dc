"""Networks over words and steps, as people write them."""

from __future__ import annotations

import random

import torch
from drawn_net import Drawn, Net
from torch import Tensor, nn
from torch.nn import functional as F


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
