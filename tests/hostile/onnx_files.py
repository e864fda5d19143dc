"""ONNX files that lie, and damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .build import FLOATS, initializer, onnx, outside, part, varint
from .case import READ, REFUSED, Case, beside, holding

GOOD = onnx(initializer())
_START = part(1, 8) + part(2, "test")


def _outside(location: str, **entries: str) -> bytes:
    return onnx(initializer(raw=None, more=outside(location, **entries)), initializer("v"))


def _graph(body: bytes) -> bytes:
    return _START + part(7, body) + part(8, part(2, 17))


def _nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph in an attribute ..."""
    body = part(5, initializer())
    for _ in range(depth):
        body = part(1, part(5, part(6, body)))
    return _graph(body + part(5, initializer()))


FILES: tuple[tuple[str, bytes | Callable[[], bytes], int, str], ...] = (
    ("honest", GOOD, READ, "onnx"),
    ("no initializers", onnx(), REFUSED, "without initializers"),
    ("cut off", GOOD[:40], REFUSED, "cut off"),
    ("a graph of 2**62 bytes", _START + varint(7 << 3 | 2) + varint(1 << 62) + b"x" * 80, REFUSED,
     "cut off"),
    ("a varint of 11 bytes", _graph(b"\x80" * 11), REFUSED, "makes no sense"),
    ("field number 0", _graph(b"\x02\x01x"), REFUSED, "makes no sense"),
    ("a group", _graph(b"\x0b\x0c"), REFUSED, "makes no sense"),
    ("wire type 7", _graph(b"\x0f"), REFUSED, "makes no sense"),
    ("a fixed number cut off", _graph(b"\x0d\x01"), REFUSED, "makes no sense"),
    ("an initializer longer than its graph", _graph(varint(5 << 3 | 2) + varint(99)), REFUSED,
     "makes no sense"),
    ("a tensor longer than its initializer", onnx(varint(9 << 3 | 2) + varint(99)), REFUSED,
     "makes no sense"),
    ("packed sizes cut off", onnx(part(1, b"\x80\x80") + part(8, "w")), REFUSED, "makes no sense"),
    ("1,000 dimensions", onnx(initializer(dims=(1,) * 1000)), REFUSED, "makes no sense"),
    ("1,000 packed dimensions", onnx(part(1, b"\1" * 1000) + part(8, "w")), REFUSED,
     "makes no sense"),
    ("a negative shape", onnx(initializer(dims=(-2, -3))), READ, "has an impossible shape"),
    ("a shape that overflows", onnx(initializer(dims=(1 << 62, 1 << 62))), READ,
     "takes 24 bytes, its shape"),
    ("another shape", onnx(initializer(dims=(2, 4))), READ, "takes 24 bytes, its shape 32"),
    ("two initializers of one name", onnx(initializer(), initializer()), READ, "stands twice"),
    ("an unknown dtype", onnx(initializer(dtype=99)), READ, "onnx_type_99"),
    ("no name", onnx(initializer("")), READ, "1 tensors"),
    ("a name with control characters", onnx(initializer("w\x1b[31m\n\u202e")), READ,
     "w\\x1b[31m\\x0a\\u202e"),
    ("a name that is no UTF-8", onnx(part(1, 6) + part(2, 1) + part(8, b"\xff\xfe") + part(9,
     FLOATS)), READ, "\\xff\\xfe"),
    ("a name of 2 MB", onnx(initializer("w" * 2_000_000)), REFUSED, "a text of 2,000,000 bytes"),
    ("a producer of 2 MB", onnx(initializer(), more=part(2, "p" * 2_000_000)), REFUSED,
     "a text of 2,000,000 bytes"),
    ("control characters in metadata", onnx(initializer(), more=part(14, part(1, "\x1b[2J")
     + part(2, "\x07\u202e"))), READ, "metadata_props/\\x1b[2J = \\x07\\u202e"),
    ("100,001 inputs", onnx(initializer(), graph=b"".join(
        part(11, part(1, str(i))) for i in range(100_001))), REFUSED, "more metadata"),
    ("3,000,000 fields", lambda: _graph(b"\x08\x01" * 3_000_000), REFUSED, "more than 2,000,000 fields"),
    ("graphs nested 500 deep", _nested(500), READ, "onnx"),
    ("data at ../secret", _outside("../secret"), READ, 'in "../secret", outside the folder'),
    ("data at a/../../b", _outside("a/../../b"), READ, "outside the folder"),
    ("data at /etc/passwd", _outside("/etc/passwd"), READ, 'in "/etc/passwd", outside'),
    ("data at c:\\x", _outside("c:\\x"), READ, "outside the folder"),
    ("data at nowhere", _outside(""), READ, "outside the folder"),
    ("data at a null byte", _outside("a\0b"), READ, "outside the folder"),
    ("data at a URL", _outside("http://localhost:9/x"), READ, "outside the folder"),
    ("data at control characters", _outside("a\x1b[31m\nb"), READ, "a\\x1b[31m\\x0ab"),
    ("data at ..\\secret", _outside("..\\secret"), READ, "outside the folder"),
    ("data that isn't there", _outside("w.data"), READ, '"w.data" is missing'),
)  # fmt: skip


def _links_out(folder: Path) -> Path:
    """The data file is a link to what lies above the folder."""
    (folder / "model").mkdir()
    (folder / "secret").write_bytes(FLOATS)
    (folder / "model" / "w.data").symlink_to("../secret")
    path = folder / "model" / "x.onnx"
    path.write_bytes(_outside("w.data"))
    return path


_LIES = ("impossible", "its shape", "twice", "outside")

ONNX: list[Case] = [
    *(
        Case(
            f"onnx/{name}",
            holding(data, "x.onnx"),
            code,
            says,
            code == READ and any(word in says for word in _LIES),
        )
        for name, data, code, says in FILES
    ),
    Case("onnx/data behind a link", _links_out, READ, "behind a link, which is not followed"),
    Case(
        "onnx/data that is too short",
        beside("x.onnx", {"x.onnx": _outside("w.data", offset="8"), "w.data": FLOATS}),
        READ,
        "reaches beyond",
        True,
    ),
    Case(
        "onnx/data at an offset of 2**70",
        beside("x.onnx", {"x.onnx": _outside("w.data", offset=str(1 << 70)), "w.data": FLOATS}),
        READ,
        "makes no sense",
        True,
    ),
    Case(
        "onnx/data of a negative length",
        beside("x.onnx", {"x.onnx": _outside("w.data", length="-5"), "w.data": FLOATS}),
        READ,
        "makes no sense",
        True,
    ),
]
