"""Files that are no checkpoints, and paths that are no files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

from .build import entry, safetensors, torch_zip
from .case import READ, REFUSED, Case, holding

_TEXTS: tuple[tuple[str, bytes, str], ...] = (
    ("nothing", b"", "is empty (0 bytes)"),
    ("one byte", b"\x80", "not a checkpoint"),
    ("zeros", b"\0" * 70_000, "all zeros: an unfinished download"),
    ("zeros, then data", b"\0" * 5_000 + b"x" * 5_000, "starts with zeros"),
    ("noise", bytes(range(255, 100, -1)) * 9, "not a checkpoint of a known format"),
    ("a login page", b"<!DOCTYPE html>\n<html>", 'a web page (starts with "<!DOCTYPE html>")'),
    ("a page behind spaces", b"\xef\xbb\xbf\n  <HTML>", "a web page"),
    ("a page of Google Drive", b"<html><title>Google Drive - Virus scan warning", "Google Drive"),
    ("an XML error", b"<?xml version='1.0'?><Error>", "an XML text"),
    ("an LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 98000000\n",
     "the real file is 98 MB. Run: git lfs pull"),
    ("an LFS pointer that lies", b"version https://git-lfs.github.com/spec/v1\nsize "
     + b"9" * 4000 + b"\n", "a Git LFS pointer"),
    ("a JSON error", b'{"error":"Repository \\u001b[31m not found"}', "an error message"),
    ("a JSON text", b'{"hidden_size": 768}', "a JSON text"),
    ("a JSON text with escapes", b'{"a\x1b[31m": 1}', "not a checkpoint"),
    ("a note", b"just some notes\n", 'a text file (starts with "just some notes")'),
    ("a note with bidi characters", "hi \u202e there\u2066".encode(), "hi \\u202e there\\u2066"),
    ("a note with C1 controls", "hi \x9b31m there".encode(), "\\x9b31m"),
    ("a line of 4,000 characters", b"x" * 4_000, 'starts with "xxxx'),
    ("a Python path file", b"import os; os.system('true')\n", "a Python path file"),
    ("a shell script", b"#!/bin/sh\ntouch x\n", "a text file"),
    ("a Python program", b"import os\nos.system('true')\n", "not a checkpoint"),
    ("gzip", gzip.compress(torch_zip()), "is gzip-compressed; unpack it first"),
    ("a gzip bomb", gzip.compress(b"\0" * 10_000_000), "is gzip-compressed; unpack it first"),
    ("bzip2", bz2.compress(b"x"), "is bzip2-compressed"),
    ("xz", lzma.compress(b"x"), "is xz-compressed"),
    ("zstd", b"\x28\xb5\x2f\xfd" + b"\0" * 40, "is zstd-compressed"),
    ("7z, as nullifAI's", b"7z\xbc\xaf\x27\x1c" + b"\0" * 90, "a 7z archive"),
    ("RAR", b"Rar!\x1a\x07\1\0" + b"\0" * 90, "a RAR archive"),
    ("HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "an HDF5 file"),
    ("PNG", b"\x89PNG\r\n\x1a\n" + b"\0" * 90, "an image (PNG)"),
    ("JPEG", b"\xff\xd8\xff\xe0" + b"\0" * 90, "an image (JPEG)"),
    ("PDF", b"%PDF-1.7\n" + b"\0" * 90, "a PDF document"),
    ("ELF", b"\x7fELF\x02\x01\x01" + b"\0" * 90, "(ELF)"),
    ("a Windows program", b"MZ" + b"\0" * 90, "a Windows program"),
    ("a Java class", b"\xca\xfe\xba\xbe" + b"\0" * 90, "a Java class"),
    ("Parquet", b"PAR1" + b"\0" * 90, "a Parquet file"),
    ("SQLite", b"SQLite format 3\0" + b"\0" * 90, "an SQLite database"),
    ("TFLite", b"\x1c\0\0\0TFL3" + b"\0" * 90, "a TFLite model"),
    ("a polyglot: PDF, then zip", b"%PDF-1.7\n" + torch_zip(), "a PDF document"),
    ("a polyglot: GIF, then zip", b"GIF89a" + torch_zip(), "an image (GIF)"),
    ("a polyglot: program, then zip", b"\x7fELF\x02\x01\x01\0" + torch_zip(), "(ELF)"),
)  # fmt: skip

_NASTY = (
    "\x1b[2J\x1b]0;gone\x07.pth",
    "two\nlines.pth",
    "\u202egnp.pth",
    "-rf.pth",
    "$(touch x).pth",
    "a b'c\"d.pth",
    "%s%n.pth",
    "\u200b\u2066.pth",
    "x" * 200 + ".pth",
    os.fsdecode(b"\xff\xfe.pth"),
)


def _loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop"


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def _socket(folder: Path) -> Path:
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "socket"))
    return folder / "socket"


def _linked_device(folder: Path) -> Path:
    (folder / "x.pth").symlink_to("/dev/zero")
    return folder / "x.pth"


def _linked(folder: Path) -> Path:
    (folder / "real.bin").write_bytes(torch_zip())
    (folder / "x.pth").symlink_to("real.bin")
    return folder / "x.pth"


def _sparse(folder: Path) -> Path:
    """A terabyte that takes no room: only its header may be read."""
    size = 1 << 40
    data = safetensors({"w": entry((size // 4,), 0, size)}, b"")
    path = folder / "x.safetensors"
    path.write_bytes(data)
    os.truncate(path, len(data) + size)
    return path


def _sparse_zeros(folder: Path) -> Path:
    path = folder / "x.pth"
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)
    return path


OTHERS: list[Case] = [
    *(Case(f"other/{name}", holding(data), REFUSED, says) for name, data, says in _TEXTS),
    *(Case(f"name/{i} good file", holding(torch_zip(), n), READ, "") for i, n in enumerate(_NASTY)),
    *(
        Case(f"name/{i} no checkpoint", holding(b"hi", n), REFUSED, "a text file")
        for i, n in enumerate(_NASTY)
    ),
    *(
        Case(f"name/{i} no file", lambda folder, n=n: folder / n, REFUSED, "no such file")
        for i, n in enumerate(_NASTY)
    ),
    Case("path/a folder", lambda folder: folder, REFUSED, "is a folder"),
    Case("path/a loop of links", _loop, REFUSED, "symbolic links"),
    Case("path/a FIFO", _fifo, REFUSED, "is not a regular file"),
    Case("path/a socket", _socket, REFUSED, "can't be opened"),
    Case("path/a device", lambda _: Path("/dev/zero"), REFUSED, "is not a regular file"),
    Case("path/a link to a device", _linked_device, REFUSED, "is not a regular file"),
    Case("path/a link to a file", _linked, READ, "torch-zip"),
    Case("path/a name too long", lambda folder: folder / ("x" * 300), REFUSED, "too long"),
    Case("path/a file as a folder", lambda _: Path("/etc/hostname/x"), REFUSED, "error"),
    Case("size/a terabyte of tensor", _sparse, READ, "274877.91 M"),
    Case("size/a terabyte of zeros", _sparse_zeros, REFUSED, "all zeros"),
]
