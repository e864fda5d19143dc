"""The target: a File through all of `archfind guess`, from the checkpoint to the printed lines."""

from __future__ import annotations

import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

from archfind import formats
from archfind.database import entries
from archfind.errors import ArchfindError
from archfind.escape import escape
from archfind.formats import limits, safetensors
from archfind.formats.report import Report
from archfind.matching.identify import guess_checkpoint
from archfind.report.answer import guess_document, guess_lines
from archfind.report.inspection import inspect_document
from archfind.report.inspection_text import inspect_lines
from archfind.types import Checkpoint, Guess, Storage, TensorSpec

from .described import File
from .targets import Memory, refusal

STATUSES = frozenset(("exact", "ambiguous", "close", "unknown"))
CONTRACT = frozenset(
    "schema path format status provider architecture class build config keys chosen_by twins steps "
    "candidates tensors parameters dtype warnings danger error".split()
)
_LONGEST = 1 << 20
_CODES = {dtype: code for code, dtype in safetensors.DTYPES.items()}
# What the few tensors hold whose values `guess` looks at.
_VALUES = (
    b'{"shape": [64, 64]}',
    b'{"shape": [0, "x", -1]}',
    b"[" * 4000,
    (64).to_bytes(8, "little") * 2,
    b"\xff" * 80,
)


class Folder:
    """Where the file would be, with a config.json beside it where one is claimed."""

    def __init__(self) -> None:
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # a disk would be slow
        self._folder = tempfile.TemporaryDirectory(dir=memory)
        self._config = Path(self._folder.name, "config.json")
        self.values = Path(self._folder.name, "values.bin")
        self._spans: list[tuple[int, int]] = []
        with self.values.open("wb") as file:
            for value in _VALUES:
                self._spans.append((file.tell(), len(value)))
                file.write(value)
        self._claimed: object = None

    def claim(self, config: object) -> None:
        """Have this config.json, or none."""
        if config is not None:
            self._config.write_text(json.dumps(config))
        elif self._claimed is not None:
            self._config.unlink()
        self._claimed = config

    def path(self, name: str) -> str:
        return os.path.join(self._folder.name, name)

    def storage(self, number: int) -> Storage:
        start, length = self._spans[number % len(self._spans)]
        return Storage(str(self.values), "values", start, length)


def checkpoint(file: File, folder: Folder) -> Checkpoint:
    """The file as a reader gives it."""
    if file.is_header:
        return _read(file, folder)
    storage = folder.storage(len(file.tensors))
    index = {
        key: TensorSpec(dtype, shape[: limits.DIMENSIONS], storage, 0 if file.is_tied else at)
        for at, (key, shape, dtype) in enumerate(file.tensors)
    }
    made = Checkpoint(folder.path(file.name), "torch-zip", index, file.hints, file.hints)
    formats._check_keys(made)
    return made


class _Sparse(Memory):
    """A file of the size that its header claims."""

    def __init__(self, data: bytes, size: int, path: str) -> None:
        super().__init__(data, path)
        self.size = size


def _read(file: File, folder: Folder) -> Checkpoint:
    """By way of a safetensors header with these tensors, and one odd entry at times."""
    header: dict[str, Any] = {}
    at = 0
    for key, shape, dtype in file.tensors:
        code = _CODES.get(dtype, dtype)
        length = _bytes(shape, dtype)
        header[key] = {"dtype": code, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    header["__metadata__"] = {key: str(value)[:100] for key, value in file.hints.items()}
    draw = random.Random(at)
    if draw.random() < 0.3 and file.tensors:
        entry = header[draw.choice(file.tensors)[0]]
        entry[draw.choice(list(entry))] = draw.choice(
            (None, -1, 1.5, True, "F32", [], [-1], [1.0], [True], [[1]], {}, [0, 1 << 64], [1] * 99)
        )
    text = json.dumps(header).encode()
    source = _Sparse(
        len(text).to_bytes(8, "little") + text, 8 + len(text) + at, folder.path(file.name)
    )
    made = safetensors.read(source, Report())
    formats._check_keys(made)
    return made


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    size = safetensors.ITEMSIZE.get(dtype, 0)
    for one in shape:
        size *= one
    return size


def answered(file: File, folder: Folder, *, inspected: bool = False) -> str:
    """The whole of `archfind guess`, and of `archfind inspect` where it's `inspected`; what came of
    it, roughly. AssertionError where the answer isn't what it has to be."""
    folder.claim(file.config)
    try:
        read = checkpoint(file, folder)
    except ArchfindError as error:
        return f"refused {refusal(error)}".partition('"')[0]  # less the file's own words
    if inspected:
        document = inspect_document(read)
        _clean(inspect_lines(document))
        json.dumps(document)
    try:
        found = guess_checkpoint(read, entries.default(), choose=file.choose, part=file.part)
    except ArchfindError as error:
        return f"refused {refusal(error)[:20]}"
    assert found.status in STATUSES, found.status
    document = guess_document(found)
    assert document.keys() >= CONTRACT, CONTRACT - document.keys()
    _clean(guess_lines(document))
    _clean(guess_lines(document, verbose=True))
    json.loads(json.dumps(document))
    return outcome(found)


def _clean(lines: list[str]) -> None:
    for line in lines:
        assert escape(line, _LONGEST) == line, f"not clean: {line!r:.300}"


def outcome(found: Guess) -> str:
    """The status, and the ways by which the answer came: "close variant strip"."""
    best = found.matches[0] if found.matches else None
    ways = {step.kind for step in found.canonical.steps}
    if best is not None:
        ways |= {"registered"} if best.variant is None and best.pretrained is None else set()
        ways |= {"variant"} if best.variant is not None else set()
        ways |= {"pretrained"} if best.pretrained is not None else set()
        ways |= {"head"} if best.head is not None else set()
        ways |= {"tied"} if best.pretrained is not None and best.pretrained.tied else set()
        ways |= {"twins"} if best.twins else set()
        ways |= {"tolerated"} if best.tolerated else set()
    ways |= {"parts"} if found.parts else set()
    ways |= {"merged"} if found.canonical.merged else set()
    ways |= {"several"} if len(found.matches) > 1 else set()
    return " ".join([found.status, found.chosen_by, *sorted(ways)])
