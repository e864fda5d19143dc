"""Models of other frameworks are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from archfind import formats
from archfind.errors import NotACheckpoint

pytestmark = pytest.mark.light


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("flax_model.msgpack", b"\x81\xa6params\x80" + b"\x91" * 9, "Flax"),
        ("x.t7", b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1" + b"\0" * 9, "Lua Torch"),
        ("model.index", b"\0\x01" * 40 + (0xDB4775248B80FB57).to_bytes(8, "little"), "TensorFlow"),
        ("yolo.weights", b"\0\0\0\0\x02\0\0\0" + b"\x81\x92" * 40, "darknet"),
        ("x.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO"),
        ("x.pte", b"\x1c\0\0\0ET12" + b"\0" * 40, "ExecuTorch"),
        ("x.ptl", b"PTMF" + b"\0" * 40, "PyTorch Mobile"),
        ("x.ort", b"\x1c\0\0\0ORTM" + b"\0" * 40, "ONNX Runtime"),
    ],
)
def test_foreign_models_are_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(NotACheckpoint, match=words):
        formats.open(tmp_path / name)
