"""Head counts read from trained weights: small transformers are trained on scikit-learn's digits
and on generated text, with settings drawn at random, and their heads are counted by their values
alone.

    nice python benchmarks/weigh_heads.py --cases 60 --seed 0 --out /tmp/trained
    python benchmarks/weigh_heads.py --untrained 200 --seed 0

Each network is kept as .safetensors in --out, with its truth in the metadata, and isn't trained
again. A network counts as
    answered  a head size is given
    right     and it is the true one
Networks of one head and untrained ones must not be answered. Progress on stderr, a line for each
wrong answer on stdout; the exit code is 1 where more than 1 percent of the answers are wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from archfind.evidence.weights.attentions import attentions
from archfind.evidence.weights.heads import MARGIN, by_coupling, by_norms, head_size
from archfind.formats import open as open_checkpoint
from archfind.progress import progress
from archfind.state_dicts.canonical import networks

WORDS = 48  # of the generated text


class Block(nn.Module):
    """A transformer's block, its projections apart or in one."""

    def __init__(self, width: int, heads: int, shared: int, is_fused: bool, drop: float) -> None:
        super().__init__()
        self.heads, self.shared, self.size = heads, shared, width // heads
        rows = shared * self.size
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.Module()
        if is_fused:
            self.attn.qkv = nn.Linear(width, 3 * width)
        else:
            self.attn.q_proj = nn.Linear(width, width)
            self.attn.k_proj = nn.Linear(width, rows)
            self.attn.v_proj = nn.Linear(width, rows)
        self.attn.out_proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(drop), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor, causal: bool) -> torch.Tensor:
        batch, length, width = x.shape
        y = self.norm1(x)
        if hasattr(self.attn, "qkv"):
            parts = self.attn.qkv(y).split(width, -1)
        else:
            parts = self.attn.q_proj(y), self.attn.k_proj(y), self.attn.v_proj(y)
        q, k, v = (part.view(batch, length, -1, self.size).transpose(1, 2) for part in parts)
        group = self.heads // self.shared
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.attn.out_proj(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Net(nn.Module):
    """Tokens or patches, positions, blocks, a head."""

    def __init__(self, settings: dict) -> None:
        super().__init__()
        width, self.is_text = settings["width"], settings["task"] == "text"
        self.embed = nn.Embedding(WORDS, width) if self.is_text else nn.Linear(4, width)
        self.position = nn.Parameter(torch.randn(1, 32 if self.is_text else 16, width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(width, settings["heads"], settings["shared"], settings["fused"], settings["drop"])
            for _ in range(settings["depth"])
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, WORDS if self.is_text else 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x) + self.position
        for block in self.blocks:
            x = block(x, self.is_text)
        x = self.norm(x)
        return self.head(x if self.is_text else x.mean(1))


def drawn(draw: random.Random) -> dict:
    """Settings of one training."""
    heads = draw.choice((1, 2, 2, 3, 4, 4, 6, 8))
    size = draw.choice((8, 12, 16, 24, 32))
    while not 24 <= heads * size <= 96:
        heads, size = draw.choice((1, 2, 3, 4, 6, 8, 12)), draw.choice((8, 12, 16, 24, 32))
    shares = [n for n in range(1, heads + 1) if heads % n == 0]
    shared = draw.choice(shares) if draw.random() < 0.2 else heads
    return {
        "task": draw.choice(("digits", "text")),
        "width": heads * size,
        "heads": heads,
        "shared": shared,
        "fused": shared == heads and draw.random() < 0.5,
        "depth": draw.randint(2, 3),
        "drop": draw.choice((0.0, 0.1)),
        "optimizer": draw.choice(("adamw", "adamw", "adam", "sgd")),
        "decay": draw.choice((0.0, 0.01, 0.05, 0.1)),
        "steps": draw.choice((200, 500, 1000, 1500)),
        "half": draw.random() < 0.3,
    }


def batches(task: str, generator: torch.Generator):
    """Endless batches: digits in 16 patches and their classes, or text and its next words. The text
    is of words each of which depends on two before it."""
    if task == "digits":
        data = load_digits()
        images = torch.tensor(data.images, dtype=torch.float32) / 16
        patches = images.unfold(1, 2, 2).unfold(2, 2, 2).reshape(len(images), 16, 4)
        classes = torch.tensor(data.target)
        while True:
            some = torch.randint(len(images), (32,), generator=generator)
            yield patches[some], classes[some]
    choice = torch.randint(WORDS, (WORDS, WORDS, 4), generator=generator)
    while True:
        text = torch.randint(WORDS, (16, 33), generator=generator)
        for place in range(3, 33):
            which = torch.randint(4, (16,), generator=generator) * (torch.rand(16) < 0.3)
            text[:, place] = choice[text[:, place - 3], text[:, place - 1], which]
        yield text[:, :-1], text[:, 1:]


def trained(settings: dict, seed: int) -> dict[str, torch.Tensor]:
    """The state dict of a network that was trained so."""
    torch.manual_seed(seed)
    net = Net(settings)
    made = {
        "adamw": lambda: torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=settings["decay"]),
        "adam": lambda: torch.optim.Adam(net.parameters(), 1e-3),
        "sgd": lambda: torch.optim.SGD(
            net.parameters(), 0.1, momentum=0.9, weight_decay=settings["decay"] / 100
        ),
    }[settings["optimizer"]]()
    source = batches(settings["task"], torch.Generator().manual_seed(seed))
    for _ in range(settings["steps"]):
        inputs, targets = next(source)
        loss = functional.cross_entropy(net(inputs).flatten(0, -2), targets.flatten())
        made.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        made.step()
    state = {key: value.detach() for key, value in net.state_dict().items()}
    return {k: v.half() for k, v in state.items()} if settings["half"] else state


def written(number: int, seed: int, folder: Path, is_trained: bool) -> tuple[Path, dict]:
    """The file of a case, trained where it isn't there yet, and its settings."""
    settings = drawn(random.Random(f"heads {seed} {number}"))
    if not is_trained:
        settings["steps"] = 0
    path = folder / f"{seed}-{number}{'' if is_trained else '-untrained'}.safetensors"
    if not path.exists():
        state = trained(settings, seed * 10_000 + number)
        save_file(state, path, {key: str(value) for key, value in settings.items()})
    return path, settings


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--cases", type=int, default=0)
    options.add_argument("--untrained", type=int, default=0)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("trained"))
    options.add_argument("--verbose", action="store_true", help="both statistics of each network")
    arguments = options.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    cases = [(n, True) for n in range(arguments.cases)]
    cases += [(n, False) for n in range(arguments.untrained)]
    for number, is_trained in progress(cases, len(cases), "networks"):
        path, settings = written(number, arguments.seed, arguments.out, is_trained)
        (canonical,) = networks(open_checkpoint(str(path))).values()
        place, layers = attentions(canonical.index)
        said = head_size(layers, place)
        true = settings["width"] // settings["heads"]
        kind = (
            "untrained" if not is_trained else "one head" if settings["heads"] == 1 else "trained"
        )
        counts[kind] += 1
        if said is not None:
            counts[f"{kind}, answered"] += 1
            is_right = kind == "trained" and said.value == true
            counts[f"{kind}, right"] += is_right
            if not is_right:
                print(
                    f"{path.name}: {said.value}, not {true}; margin {said.margin:.0f}; {settings}"
                )
        if arguments.verbose:
            for name, scores in (("norms", by_norms(layers)), ("pairs", by_coupling(layers))):
                best = sorted(scores.items(), key=lambda item: -item[1])[:3]
                print(f"  {path.name} {name} true {true}: {[(d, round(s)) for d, s in best]}")
    print({key: counts[key] for key in sorted(counts)}, f"margin {MARGIN:g}")
    answered = sum(n for key, n in counts.items() if key.endswith("answered"))
    return int(answered - counts["trained, right"] > 0.01 * answered)


if __name__ == "__main__":
    sys.exit(main())
