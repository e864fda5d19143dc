"""One function a reader: it reads bytes from memory, past the net that `archfind.open` has."""

from __future__ import annotations

import json
from collections.abc import Callable

from archfind import formats
from archfind.errors import ArchfindError
from archfind.escape import escape
from archfind.formats import gguf, onnx, safetensors
from archfind.formats.many_files import sharded
from archfind.formats.pickles import machine
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.formats.torch_files import bare_pickle, torch_legacy, torch_tar, torch_zip
from archfind.report.inspection import inspect_document
from archfind.report.inspection_text import inspect_lines
from archfind.types import Checkpoint

_DIGITS = str.maketrans("", "", "0123456789")
PATH = "/nonexistent/folder/x.pth"


class Memory(ByteSource):
    """A file in memory: its `read` checks as the real one's does."""

    __slots__ = ("data",)

    def __init__(self, data: bytes, path: str = PATH) -> None:
        self.data = data
        self.path = path
        self.fd = -1
        self.size = len(data)

    def _read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


def _of(read: Callable[[ByteSource, Report], Checkpoint]) -> Callable[[bytes], str]:
    def target(data: bytes) -> str:
        report = Report()
        try:
            found = read(Memory(data), report)
        except ArchfindError as error:
            report.danger()
            return refusal(error)
        return checked(found)

    return target


def _sniffed(data: bytes) -> str:
    try:
        found = formats._read(Memory(data))
    except ArchfindError as error:
        return refusal(error)
    return checked(found)


def _shown(data: bytes) -> str:
    """The whole of `archfind inspect`, but for opening the file and printing."""
    try:
        found = formats._read(Memory(data))
    except ArchfindError as error:
        return refusal(error)
    document = inspect_document(found)
    for line in inspect_lines(document):
        assert escape(line, 1 << 20) == line, line
    json.dumps(document)
    return checked(found)


def _quick_and_slow(data: bytes) -> str:
    """A long pickle is read by runs of opcodes: whatever the bytes, that changes no answer."""
    was = machine.LONG
    answers: list[object] = []
    try:
        for machine.LONG in (0, 1 << 60):
            try:
                found = formats._read(Memory(data))
            except ArchfindError as error:
                answers.append(error.message)
            else:
                answers.append((found.index, found.metadata, found.danger, found.warnings))
    finally:
        machine.LONG = was
    assert answers[0] == answers[1], answers
    return _sniffed(data)


def refusal(error: ArchfindError) -> str:
    """What an error said, less its numbers; it must be a clean line."""
    assert escape(error.message, 1 << 20) == error.message, error.message
    return type(error).__name__ + error.message[:80].translate(_DIGITS)


def checked(found: Checkpoint) -> str:
    """What was read, roughly; every spec must be of the types that it promises."""
    for key, spec in found.index.items():
        assert type(key) is str and type(spec.dtype) is str
        assert all(type(size) is int for size in spec.shape)
        assert type(spec.offset) is int and spec.offset >= 0
        assert all(type(step) is int and step >= 0 for step in spec.stride or ())
        storage = spec.storage
        assert type(storage.start) is int and type(storage.nbytes) is int
        assert storage.start >= -1 and (storage.nbytes >= 0 or found.danger)
    for line in (*found.danger, *found.warnings):
        assert escape(line, 1 << 20) == line, line
    return f"{found.format} {len(found.index)} {len(found.danger)} {len(found.warnings)}"


TARGETS: dict[str, Callable[[bytes], str]] = {
    "pickle": _of(bare_pickle.read),
    "zip": _of(torch_zip.read),
    "legacy": _of(torch_legacy.read),
    "tar": _of(torch_tar.read),
    "safetensors": _of(safetensors.read),
    "index": _of(sharded.read),
    "onnx": _of(onnx.read),
    "gguf": _of(gguf.read),
    "numpy": _sniffed,
    "nested": _sniffed,
    "runs": _quick_and_slow,
    "any": _sniffed,
    "inspect": _shown,
}
