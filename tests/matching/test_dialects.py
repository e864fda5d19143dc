"""Networks under their authors' own names, written down here as they compute, against the library's
class that is found for their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import archfind


class Attention(nn.Module):
    """Whisper's: keys without a bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, over: torch.Tensor, causal: bool = False) -> torch.Tensor:
        q, k, v = (
            one(of).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for one, of in ((self.query, x), (self.key, over), (self.value, over))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class WhisperBlock(nn.Module):
    def __init__(self, width: int, heads: int, crossed: bool) -> None:
        super().__init__()
        self.attn, self.attn_ln = Attention(width, heads), nn.LayerNorm(width)
        self.cross_attn = Attention(width, heads) if crossed else None
        self.cross_attn_ln = nn.LayerNorm(width) if crossed else None
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, audio: torch.Tensor | None = None) -> torch.Tensor:
        own = self.attn_ln(x)
        x = x + self.attn(own, own, causal=audio is not None)
        if self.cross_attn is not None and self.cross_attn_ln is not None:
            assert audio is not None
            x = x + self.cross_attn(self.cross_attn_ln(x), audio)
        return x + self.mlp(self.mlp_ln(x))


class Encoder(nn.Module):
    def __init__(self, mels: int, width: int, heads: int, depth: int, length: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", torch.randn(length, width))
        self.blocks = nn.ModuleList(WhisperBlock(width, heads, False) for _ in range(depth))
        self.ln_post = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.conv2(F.gelu(self.conv1(x)))).transpose(1, 2)
        x = x + self.get_buffer("positional_embedding")
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x)


class Decoder(nn.Module):
    def __init__(self, words: int, width: int, heads: int, depth: int, length: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.randn(length, width))
        self.blocks = nn.ModuleList(WhisperBlock(width, heads, True) for _ in range(depth))
        self.ln = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, audio)
        return self.ln(x) @ self.token_embedding.weight.T


class Whisper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(80, 48, 3, 2, 30)
        self.decoder = Decoder(101, 48, 3, 2, 12)

    def forward(self, mel: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.decoder(ids, self.encoder(mel))


class ClipBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        own = self.ln_1(x)
        x = x + self.attn(own, own, own, need_weights=False, attn_mask=mask)[0]
        inner = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](inner * torch.sigmoid(1.702 * inner))


class Tower(nn.Module):
    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ClipBlock(width, heads) for _ in range(depth))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, width: int, shared: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.conv1 = nn.Conv2d(3, width, 8, 8, bias=False)
        self.positional_embedding = nn.Parameter(torch.randn(17, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Tower(width, width // 64, 2)
        self.proj = nn.Parameter(torch.randn(width, shared) * 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj


class Clip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Visual(128, 40)
        self.transformer = Tower(64, 1, 2)
        self.token_embedding = nn.Embedding(99, 64)
        self.positional_embedding = nn.Parameter(torch.randn(10, 64))
        self.ln_final = nn.LayerNorm(64)
        self.text_projection = nn.Parameter(torch.randn(64, 40) * 0.1)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def text(self, ids: torch.Tensor) -> torch.Tensor:
        mask = torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        x = self.ln_final(self.transformer(x, mask))
        return x[torch.arange(len(x)), ids.argmax(-1)] @ self.text_projection


class LlamaBlock(nn.Module):
    def __init__(self, width: int, heads: int, groups: int, inner: int) -> None:
        super().__init__()
        size = width // heads
        self.size = size
        self.attention = nn.ModuleDict(
            {
                "wq": nn.Linear(width, width, bias=False),
                "wk": nn.Linear(width, groups * size, bias=False),
                "wv": nn.Linear(width, groups * size, bias=False),
                "wo": nn.Linear(width, width, bias=False),
            }
        )
        self.feed_forward = nn.ModuleDict(
            {
                "w1": nn.Linear(width, inner, bias=False),
                "w2": nn.Linear(inner, width, bias=False),
                "w3": nn.Linear(width, inner, bias=False),
            }
        )
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.ffn_norm = nn.RMSNorm(width, eps=1e-6)

    def forward(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        own = self.attention_norm(x)
        q, k, v = (
            self.attention[name](own).unflatten(-1, (-1, self.size)) for name in ("wq", "wk", "wv")
        )

        def turned(part: torch.Tensor) -> torch.Tensor:
            pairs = torch.view_as_complex(part.unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(pairs * turns[:, None]).flatten(-2)

        q, k, v = (part.transpose(1, 2) for part in (turned(q), turned(k), v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.attention["wo"](mixed.transpose(1, 2).flatten(2))
        own = self.ffn_norm(x)
        gate = F.silu(self.feed_forward["w1"](own)) * self.feed_forward["w3"](own)
        return x + self.feed_forward["w2"](gate)


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(90, 96)
        self.layers = nn.ModuleList(LlamaBlock(96, 6, 3, 112) for _ in range(2))
        self.norm = nn.RMSNorm(96, eps=1e-6)
        self.output = nn.Linear(96, 90, bias=False)
        self.rope = nn.Module()
        self.rope.register_buffer("freqs", 10000.0 ** -(torch.arange(0, 16, 2) / 16))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(ids.shape[1])[:, None] * self.rope.get_buffer("freqs")
        turns = torch.polar(torch.ones_like(angles), angles)
        x = self.tok_embeddings(ids)
        for layer in self.layers:
            x = layer(x, turns)
        return self.output(self.norm(x))


class NanoBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.attn["c_attn"](self.ln_1(x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](mixed.transpose(1, 2).flatten(2))
        inner = F.gelu(self.mlp["c_fc"](self.ln_2(x)))
        return x + self.mlp["c_proj"](inner)


class NanoGpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(95, 64),
                "wpe": nn.Embedding(24, 64),
                "h": nn.ModuleList(NanoBlock(64, 4) for _ in range(3)),
                "ln_f": nn.LayerNorm(64),
            }
        )
        self.lm_head = nn.Linear(64, 95, bias=False)
        self.lm_head.weight = self.get_parameter("transformer.wte.weight")

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.transformer["wte"](ids) + self.transformer["wpe"](torch.arange(ids.shape[1]))
        for block in self.transformer["h"].children():
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


IDS = torch.tensor([[5, 17, 80, 3, 44, 61, 2, 89]])


def saved(network: nn.Module, path: Path, wrap: str = "") -> Path:
    torch.manual_seed(3)
    state = network.state_dict()
    torch.save({wrap: state} if wrap else state, path)
    return path


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=2e-5, rtol=1e-4)


def test_whisper(tmp_path: Path) -> None:
    network = Whisper().eval()
    path = saved(network, tmp_path / "small.pt", "model_state_dict")
    guess = archfind.guess(path)
    assert guess.matches[0].entry.name == "WhisperForConditionalGeneration"
    assert any("OpenAI Whisper" in step.detail for step in guess.canonical.steps)
    heads = {"encoder_attention_heads": 3, "decoder_attention_heads": 3}
    found = archfind.load(path, settings=heads, accept_ambiguous=True)
    mel = torch.randn(1, 80, 60)
    with torch.no_grad():
        own = network(mel, IDS)
        theirs = found(input_features=mel, decoder_input_ids=IDS).logits
    assert close(own, theirs)


def test_clip(tmp_path: Path) -> None:
    network = Clip().eval()
    path = saved(network, tmp_path / "clip.pt")
    guess = archfind.guess(path)
    assert guess.matches[0].entry.name == "CLIPModel"
    heads = {"text_config.num_attention_heads": 1, "vision_config.num_attention_heads": 2}
    # The text's last token is told by the greatest id, as with the first vocabulary.
    settings = {**heads, "text_config.eos_token_id": 2}
    found = archfind.load(path, settings=settings, accept_ambiguous=True)
    picture = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        given = found(input_ids=IDS, pixel_values=picture)
        images, texts = network.visual(picture), network.text(IDS)
    assert close(F.normalize(images, dim=-1), given.image_embeds)
    assert close(F.normalize(texts, dim=-1), given.text_embeds)


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_llama(form: str, tmp_path: Path) -> None:
    network = Llama().eval()
    path = saved(network, tmp_path / "consolidated.00.pth")
    if form == "safetensors":
        archfind.export(path, tmp_path / "own.safetensors")
        path = tmp_path / "own.safetensors"
    guess = archfind.guess(path)
    assert guess.matches[0].entry.name == "LlamaForCausalLM"
    heads = {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 16}
    found = archfind.load(path, settings=heads, accept_ambiguous=True)
    with torch.no_grad():
        assert close(network(IDS), found(IDS).logits)


def test_nanogpt(tmp_path: Path) -> None:
    network = NanoGpt().eval()
    path = saved(network, tmp_path / "ckpt.pt", "model")
    guess = archfind.guess(path)
    assert guess.matches[0].entry.name == "GPT2LMHeadModel"
    assert archfind.guess(path).status in ("exact", "ambiguous")
    found = archfind.load(path, settings={"n_head": 4}, accept_ambiguous=True)
    with torch.no_grad():
        assert close(network(IDS), found(IDS).logits)
