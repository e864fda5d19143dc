"""State dicts whose keys ask for more than the file holds: numbers that nobody counted to, prefixes
without end. The tensors have no data: what is read of them is their names and shapes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

from .case import READ, Case

Shapes = Mapping[str, tuple[int, ...]]

NUMBERS = ("99999", "999999999", str(2**31), str(2**63), "9" * 900, "007", "٣", "1" + "0" * 30)


def sparse(shapes: Shapes) -> Callable[[Path], Path]:
    """A safetensors file of these float32 tensors, whose zeros the disk doesn't store."""

    def write(folder: Path) -> Path:
        header: dict[str, object] = {}
        end = 0
        for key, shape in shapes.items():
            begin, end = end, end + 4 * prod(shape)
            header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        path = folder / "x.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + end)
        return path

    return write


def bert(layers: tuple[str, ...], width: int = 32) -> dict[str, tuple[int, ...]]:
    """A BERT with layers of these names."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (100, width),
        "embeddings.position_embeddings.weight": (512, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for name in layers:
        for layer, out, into in (
            ("attention.self.query", width, width), ("attention.self.key", width, width),
            ("attention.self.value", width, width), ("attention.output.dense", width, width),
            ("intermediate.dense", 4 * width, width), ("output.dense", width, 4 * width),
        ):  # fmt: skip
            shapes[f"encoder.layer.{name}.{layer}.weight"] = (out, into)
            shapes[f"encoder.layer.{name}.{layer}.bias"] = (out,)
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            for part in ("weight", "bias"):
                shapes[f"encoder.layer.{name}.{norm}.{part}"] = (width,)
    return shapes


def vit(blocks: tuple[str, ...], prefix: str = "", width: int = 64) -> dict[str, tuple[int, ...]]:
    """A vision transformer with blocks of these names, below a prefix."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 101, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
    }
    for name in blocks:
        for layer, out, into in (("attn.qkv", 3 * width, width), ("attn.proj", width, width),
                                 ("mlp.fc1", 3 * width, width), ("mlp.fc2", width, 3 * width)):  # fmt: skip
            shapes[f"blocks.{name}.{layer}.weight"] = (out, into)
            shapes[f"blocks.{name}.{layer}.bias"] = (out,)
        for norm in ("norm1", "norm2"):
            shapes[f"blocks.{name}.{norm}.weight"] = shapes[f"blocks.{name}.{norm}.bias"] = (width,)
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    shapes |= {"head.weight": (10, width), "head.bias": (10,)}
    return {prefix + key: shape for key, shape in shapes.items()}


def _named(number: str) -> str:
    return number if len(number) < 40 else f"{number[:8]}... ({len(number)} digits)"


def _nested(count: int, prefix: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(count):
        shapes |= vit(("0", "1", "2", "3", "4", "5"), prefix * number)
    return shapes


def _mixed(number: str) -> dict[str, tuple[int, ...]]:
    """Numbers everywhere that a key can have one: lists in lists, ends of names, experts."""
    return {
        f"layer{number}.0.conv1.weight": (8, 8, 3, 3),
        f"layers.{number}.blocks.{number}.attn.qkv.weight": (96, 32),
        f"model.layers.0.mlp.experts.{number}.up_proj.weight": (8, 8),
        f"features.{number}.0.weight": (8, 8, 1, 1),
        f"fc.{number}.weight": (8, 8),
        f"{number}.weight": (8,),
        number: (8,),
    }


KEYS: list[Case] = [
    *(
        Case(f"keys/{what} whose last is {_named(number)}", sparse(shapes), READ, "x.safetensors")
        for number in NUMBERS
        for what, shapes in (
            ("a layer", {f"encoder.layer.{number}.attention.self.query.weight": (4, 4)}),
            ("BERT", bert(("0", number))),
            ("ViT", vit(("0", "1", "2", "3", "4", number))),
            ("lists", _mixed(number)),
        )
    ),
    Case("keys/60 ViTs within each other", sparse(_nested(60, "m.")), READ, "x.safetensors"),
    Case("keys/40 ViTs in blocks", sparse(_nested(40, "blocks.0.")), READ, "x.safetensors"),
    Case(
        "keys/two layers a million apart, in each of many lists",
        sparse({f"a{a}.{b}.weight": (4, 4) for a in range(200) for b in (0, 10**6)}),
        READ,
        "x.safetensors",
    ),
    Case(
        "keys/150 dots",
        sparse({"a" + ".a" * 150: (4, 4), "b" + ".0" * 150: (4,)}),
        READ,
        "x.safetensors",
    ),
]
