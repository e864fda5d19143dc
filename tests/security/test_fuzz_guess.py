"""The fuzzer of `guess`, for a moment, and what it found: what millions of runs came to is in
docs/security.md."""

from __future__ import annotations

import sys
from functools import cache
from types import FrameType

import pytest
from fuzz.described import File, Tensor, seeds, shapes_of
from fuzz.guess import fuzz_guess
from fuzz.guessing import STATUSES, Folder, answered

from archfind.database import entries

RUNS, STEP = 1_500, 5
CALLS, CALLS_EACH = 1_000_000, 20_000  # of Python functions, for a file and for each tensor


def _alike(head: str, shapes: dict[str, tuple[int, ...]], dtype: str = "float32") -> File:
    return File([(f"{head}{key}", shape, dtype) for key, shape in shapes.items()])


def _packed(order: tuple[int, ...]) -> File:
    shapes = {"qweight": (8, 64), "qzeros": (1, 8), "scales": (1, 64), "g_idx": order}
    return File([(f"fc.{key}", shape, "int32") for key, shape in shapes.items()])


@cache
def _vgg() -> list[Tensor]:
    known = entries.default()
    shapes = shapes_of(known.signature(known.named("torchvision/vgg11")[0]))
    return [(key, shape, dtype) for key, (shape, dtype) in shapes.items()]


def _musicgen() -> list[Tensor]:
    """The first layer of a decoder beside the last quantizers of an audio encoder."""
    book, layers = (1024, 128), "audio_encoder.quantizer.layers"
    last = f"{layers}.239.codebook"
    made = [(f"{layers}.238.codebook.embed_avg", book), (f"{last}.inited", (1,))]
    made += [(f"{last}.cluster_size", book[:1]), (f"{last}.embed", book)]
    made += [(f"{last}.embed_avg", book)]
    made += [(f"decoder.model.decoder.embed_tokens.{n}.weight", (100, 64)) for n in range(4)]
    layer = "decoder.model.decoder.layers.0"
    for attention in ("self_attn", "encoder_attn"):
        made += [(f"{layer}.{attention}.{n}_proj.weight", (64, 64)) for n in ("k", "v", "q", "out")]
        made += [(f"{layer}.{attention}_layer_norm.{leaf}", (64,)) for leaf in ("weight", "bias")]
    return [(key, shape, "float32") for key, shape in (*made, (f"{layer}.fc1.weight", (64, 64)))]


def _with_head(place: str) -> File:
    """A VGG whose head has a layer at this number."""
    body = [tensor for tensor in _vgg() if tensor[0].startswith("features.")]
    return File([*body, (f"classifier.{place}.weight", (10, 25088), "float32")])


def _children() -> dict[str, tuple[int, ...]]:
    """A small network whose modules have numbers for names: its implementation is assumed."""
    return {f"0.{key.partition('.')[2]}": shape for key, shape, _ in _vgg()}


LLAMA = ("tok_embeddings.weight", "layers.0.attention.wq.weight", "layers.0.attention.wk.weight")
FOUND: dict[str, File] = {
    "sizes whose product no float holds": _alike("a.", {"weight": (2**62,) * 20}, "f99"),
    "a size of 400 digits": _alike("a.", {"weight": (10**400, 3)}, "f99"),
    "a packed layer whose order is one number": _packed(()),
    "a packed layer without inputs": _packed((0,)),
    "a layer of a head at a place beyond any range": _with_head("9" * 30),
    "a layer of a head at a place of 1,900 digits": _with_head("9" * 1900),
    "LLaMA's names on single numbers": _alike("", dict.fromkeys(LLAMA, ())),
    "LLaMA's names on a million million heads": _alike(
        "", dict.fromkeys((*LLAMA, "rope.freqs"), (2**40, 1)) | {"rope.freqs": (1,)}
    ),
    "nanoGPT's names on a vector": _alike("transformer.h.0.attn.c_attn.", {"weight": (9,)}),
    "CLIP's names on single numbers": _alike(
        "",
        {"visual.transformer.resblocks.0.attn.in_proj_weight": (), "token_embedding.weight": ()},
    ),
    "a norm of two widths, of which rules of powers make numbers of any length": File(
        [("layernorm.weight", (768,), "float32"), ("layernorm.bias", (769,), "float32")],
        config={"model_type": "timesformer", "architectures": ["TimesformerModel"]},
    ),
    "a codec of 240 quantizers, of which a rule makes a power of two": File(_musicgen()),
    "a packed layer whose note is in a file that has gone": File(
        [
            ("fc.weight", (2048, 1), "uint8"),
            ("fc.weight.absmax", (64,), "float32"),
            ("fc.weight.quant_state.bitsandbytes__nf4", (90,), "uint8"),
        ],
        is_header=True,
    ),
    "a part that is asked for beside names that no terminal shows": File(
        [(f"\x07\ud800{n}/orig.{k}", (4, 4), "float32") for n in range(3) for k in "ab"],
        part="model",
    ),
    "a norm whose mean is a single number": File(
        [
            ("a.norm.running_mean", (), "int64"),
            ("a.norm.running_var", (9, 24), "float32"),
            ("b.conv.weight", (4, 4, 1, 1), "float32"),
        ]
    ),
    "a name with half of a pair, to be pasted": File(
        [(f"1.{key}", shape, "float32") for key, shape in _children().items()],
        name="a\ud800.pth",
    ),
    "a shard with a number of no decimal system": File(
        [("a.weight", (3, 3), "float32")], name="model-²-of-³.safetensors"
    ),
    "a shard with a number of 200 digits": File(
        [("a.weight", (3, 3), "float32")], name=f"model-1-of-{'9' * 200}.bin"
    ),
}


def test_nothing_but_archfinds_own_errors_escapes() -> None:
    outcome = fuzz_guess(RUNS, seed=1, step=STEP, whole=5)
    assert outcome.crashes == {}
    assert outcome.runs == RUNS
    assert outcome.statuses.keys() >= STATUSES
    ways = {word for way in outcome.ways for word in way.split()[1:]}
    assert ways >= {"variant", "pretrained", "registered", "parts", "strip", "unwrap", "merged"}


@pytest.mark.parametrize("name", FOUND)
def test_what_the_fuzzer_found(name: str) -> None:
    assert answered(FOUND[name], Folder(), inspected=True)


@pytest.mark.skipif(not hasattr(sys, "setprofile"), reason="calls are counted by CPython alone")
def test_work_is_bounded_by_the_tensors() -> None:
    """Counted in calls of functions, so that any machine counts the same."""
    folder = Folder()
    for file in seeds(STEP * 4):
        count = 0

        def counted(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(counted)
        try:
            answered(file, folder)
        finally:
            sys.setprofile(None)
        assert count <= CALLS + CALLS_EACH * len(file.tensors)
