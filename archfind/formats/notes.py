"""What a file is that isn't a checkpoint, in words that say what to do about it."""

from __future__ import annotations

from archfind.errors import CheckpointError, NotACheckpoint
from archfind.escape import escape
from archfind.formats.source import ByteSource

_ZLIB = (b"\x01", b"\x5e", b"\x9c", b"\xda")
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "is gzip-compressed; unpack it first"),
    (b"BZh", "is bzip2-compressed; unpack it first"),
    (b"\xfd7zXZ\0", "is xz-compressed; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed; unpack it first"),
    (b"\x5d\0\0", "is lzma-compressed; unpack it first"),
    *((b"x" + level, "is zlib-compressed, as joblib does; unpack it first") for level in _ZLIB),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5), which is not supported"),
    (b"ggml", "a GGML file, which is not supported: give the weights it was made from"),
    (b"lmgg", "a GGML file, which is not supported: give the weights it was made from"),
    (b"tjgg", "a GGML file, which is not supported: give the weights it was made from"),
    (b"PTMF", "a PyTorch Mobile file, which is not supported: give the weights it was made from"),
    (b"\x89PNG\r\n\x1a\n", "an image (PNG), not a checkpoint"),
    (b"\xff\xd8\xff", "an image (JPEG), not a checkpoint"),
    (b"GIF8", "an image (GIF), not a checkpoint"),
    (b"BM", "an image (BMP), not a checkpoint"),
    (b"%PDF-", "a PDF document, not a checkpoint"),
    (b"\x7fELF", "a Linux program or library (ELF), not a checkpoint"),
    (b"MZ", "a Windows program or library, not a checkpoint"),
    (b"\xcf\xfa\xed\xfe", "a macOS program or library, not a checkpoint"),
    (b"\xca\xfe\xba\xbe", "a Java class or macOS program, not a checkpoint"),
    (b"ARROW1", "an Arrow file, not a checkpoint"),
    (b"PAR1", "a Parquet file, not a checkpoint"),
    (b"SQLite format 3\0", "an SQLite database, not a checkpoint"),
    (b"!<arch>\n", "a static library or Debian package, not a checkpoint"),
)
_PLACED: tuple[tuple[int, bytes, str], ...] = (
    (4, b"TFL3", "a TFLite model, which is not supported"),
    (4, b"ORTM", "an ONNX Runtime model (.ort), which is not supported: give the .onnx"),
    (4, b"ET12", "an ExecuTorch program, which is not supported"),
    (8, b"WEBP", "an image (WebP), not a checkpoint"),
    (8, b"WAVE", "a sound file (WAV), not a checkpoint"),
    (4, b"ftyp", "a video, not a checkpoint"),
)
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script")


def not_a_checkpoint(head: bytes, source: ByteSource) -> CheckpointError:
    """The error for a file that no reader claims."""
    return NotACheckpoint(_describe(head, source), source.path)


def _describe(head: bytes, source: ByteSource) -> str:
    if not source.size:
        return "is empty (0 bytes)"
    if not head.strip(b"\0"):
        tail = source.tail(4096)
        middle = source.read(source.size // 2, min(4096, source.size - source.size // 2))
        if not tail.strip(b"\0") and not middle.strip(b"\0"):
            return "all zeros: an unfinished download. Download it again."
        return "starts with zeros: a damaged or unfinished download. Download it again."
    for magic, words in _MAGIC:
        if head.startswith(magic) and (magic not in (b"BM", b"MZ") or b"\0" in head[:64]):
            return words
    for at, magic, words in _PLACED:
        if head[at : at + len(magic)] == magic:
            return words
    if head.startswith(b"version https://git-lfs"):
        return _pointer(head, source)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:20].lower().startswith(_HTML):
        return _page(text)
    if text.startswith(b"<?xml") and b"<net name=" in text[:2000]:
        return "an OpenVINO model (.xml), which is not supported: give the weights it came from"
    if text.startswith(b"<?xml") or text.startswith(b"<Error>"):
        return (
            f"an XML text ({_quote(text)}), not a checkpoint: the download failed or needs a "
            "login. Download it again."
        )
    if _is_text(head):
        return _text(text, source)
    return _by_end(head, source) or "not a checkpoint of a known format"


# what has no magic number of its own, by the suffix that its writers give
_ENDINGS = {
    ".msgpack": "a Flax checkpoint (msgpack)",
    ".caffemodel": "a Caffe model",
    ".weights": "weights of darknet",
    ".t7": "a file of Lua Torch (.t7)",
    ".engine": "a TensorRT engine",
    ".plan": "a TensorRT engine",
    ".mlmodel": "a Core ML model",
    ".pdmodel": "a Paddle program",
    ".pb": "a TensorFlow graph",
}


def _by_end(head: bytes, source: ByteSource) -> str:
    """Foreign models, by where they keep what gives them away."""
    if head[8:15] == b"\x03\0\0\0V 1":
        return "a file of Lua Torch (.t7), which is not supported"
    if source.size >= 48 and source.tail(8) == _TABLE:
        return "the index of a TensorFlow checkpoint, which is not supported"
    suffix = next((end for end in _ENDINGS if source.path.lower().endswith(end)), "")
    return f"{_ENDINGS[suffix]}, by its name, which is not supported" if suffix else ""


_TABLE = (0xDB4775248B80FB57).to_bytes(8, "little")  # LevelDB's, at the end of a table


def _pointer(head: bytes, source: ByteSource) -> str:
    size = ""
    for line in head.split(b"\n"):
        if line.startswith(b"size ") and line[5:].isdigit() and len(line) < 30:
            size = f"; the real file is {_megabytes(int(line[5:]))}"
    return f"a Git LFS pointer ({source.size} bytes){size}. Run: git lfs pull"


def _page(text: bytes) -> str:
    quoted = _quote(text)
    lower = text.lower()
    if b"google drive" in lower or b"drive.google" in lower:
        return (
            f"a web page (starts with {quoted}), not a checkpoint: Google Drive asks for a "
            "confirmation before large downloads. Download it in a browser or with gdown."
        )
    return (
        f"a web page (starts with {quoted}), not a checkpoint: the download failed or needs a "
        "login. Download it again."
    )


def _text(text: bytes, source: ByteSource) -> str:
    quoted = _quote(text)
    if text.startswith(b"{") and b'"error"' in text[:40]:
        return f"an error message ({quoted}), not a checkpoint: the download failed."
    if text.startswith((b"{", b"[")):
        return f"a JSON text ({quoted}), not a checkpoint"
    if source.path.endswith(".pth") and text.startswith((b"import ", b"/", b"./")):
        return "a Python path file (site-packages .pth), not a checkpoint"
    if text.startswith((b"Entry not found", b"Invalid username", b"Access to model", b"404")):
        return f"an error message ({quoted}), not a checkpoint: the download failed."
    return f"a text file (starts with {quoted}), not a checkpoint"


def _quote(text: bytes) -> str:
    line = text[:200].splitlines()[0] if text[:200].strip() else b""
    return f'"{escape(line.decode("utf-8", "replace").strip(), 60)}"'


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # a character cut by the end of the look is no reason
            return False
        text = head[: error.start].decode()
    return not any(code < 9 or 13 < code < 27 for code in map(ord, text))


def _megabytes(size: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            value = size / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{size} bytes"
