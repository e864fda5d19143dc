"""GGUF: keys, shapes, metadata, and values where they aren't quantised."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from layout_files import State

from archfind import formats
from archfind.errors import BuildError, CheckpointError
from archfind.values.reader import TensorReader


def gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write_gguf(path: Path, cut: int = 0) -> State:
    """As ggml's documentation has it: dimensions innermost first, data aligned to 32 bytes."""
    words = [f"w{i}" for i in range(100)]
    pairs = [
        ("general.architecture", 8, gguf_text("llama")),
        ("llama.block_count", 4, struct.pack("<I", 2)),
        ("llama.rope.freq_base", 6, struct.pack("<f", 10000.0)),
        ("general.flag", 7, b"\x01"),
        ("short", 9, struct.pack("<IQ3i", 5, 3, 1, 2, 3)),
        ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 100) + b"".join(map(gguf_text, words))),
    ]
    plain = {"token_embd.weight": torch.randn(6, 4), "blk.0.norm": torch.randn(4).half()}
    head = struct.pack("<4sIQQ", b"GGUF", 3, 3, len(pairs))
    head += b"".join(gguf_text(k) + struct.pack("<I", kind) + v for k, kind, v in pairs)
    data = b""
    for (name, value), code in zip(plain.items(), (0, 1), strict=True):
        dims = list(reversed(value.shape))
        head += gguf_text(name) + struct.pack(
            f"<I{len(dims)}QIQ", len(dims), *dims, code, len(data)
        )
        data += value.numpy().tobytes()
        data += b"\0" * (-len(data) % 32)
    head += gguf_text("blk.0.attn_q.weight") + struct.pack("<I2QIQ", 2, 64, 2, 2, len(data))
    data += b"\0" * (4 * 18)
    head += b"\0" * (-len(head) % 32)
    path.write_bytes((head + data)[: len(head + data) - cut])
    return plain


def test_gguf(tmp_path: Path) -> None:
    plain = write_gguf(tmp_path / "x.gguf")
    found = formats.open(tmp_path / "x.gguf")
    assert found.metadata["general.architecture"] == "llama"
    assert found.metadata["llama.rope.freq_base"] == 10000.0
    assert found.metadata["general.flag"] is True and found.metadata["short"] == [1, 2, 3]
    assert found.metadata["tokenizer.ggml.tokens"] == "array of 100 texts"
    assert "llama.block_count" in found.hints and found.container["version"] == 3
    packed = found.index["blk.0.attn_q.weight"]
    assert (packed.dtype, packed.shape) == ("q4_0", (2, 64))
    reader = TensorReader()
    for key, value in plain.items():
        assert torch.equal(reader.read(found.index[key]), value)
    with pytest.raises(BuildError, match="q4_0"):
        reader.read(packed)
    write_gguf(tmp_path / "cut.gguf", cut=40)
    with pytest.raises(CheckpointError, match="cut off"):
        formats.open(tmp_path / "cut.gguf")
