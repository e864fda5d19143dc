"""A `*.index.json` and the shards beside it: one checkpoint in several files."""

from __future__ import annotations

import os

from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.magic import is_legacy
from archfind.formats.report import Report
from archfind.formats.safetensors import parse_json, read_header
from archfind.formats.source import ByteSource
from archfind.types import Checkpoint, TensorSpec

_SHOWN = 20  # lines of one kind of warning


def read(source: ByteSource, report: Report) -> Checkpoint:
    """Reads the headers of all declared shards; what is missing is a warning, not an error."""
    if source.size > limits.JSON_BYTES:
        raise LimitExceeded(
            f"refused: a JSON file of {source.size:,} bytes (limit {limits.JSON_BYTES:,})",
            source.path,
        )
    found = parse_json(source.read(0, source.size), "its JSON", source.path)
    weights = found.get("weight_map") if type(found) is dict else None  # pyright: ignore
    if type(weights) is not dict or not weights:
        raise NotACheckpoint("a JSON text, not a checkpoint: it has no weight_map", source.path)
    shards = _Shards(source, report)
    for name in weights.values():  # pyright: ignore
        if type(name) is not str:
            raise _not_a_name(name, source)
    names = dict.fromkeys(weights.values())  # pyright: ignore
    if len(names) > limits.SHARDS:
        raise LimitExceeded(
            f"refused: {len(names):,} shards (limit {limits.SHARDS:,})", source.path
        )
    for name in names:
        shards.add(name)
    return shards.checkpoint(weights, found)  # pyright: ignore


def _not_a_name(name: object, source: ByteSource) -> CheckpointError:
    shown = name[:200] if type(name) is str else type(name).__name__
    return CheckpointError(
        f'refused: the shard "{escape(shown)}" is not a plain file name', source.path
    )


class _Shards:
    def __init__(self, source: ByteSource, report: Report) -> None:
        self.source = source
        self.report = report
        self.index: dict[str, TensorSpec] = {}
        self.holder: dict[str, str] = {}
        self.metadata: dict[str, object] = {}
        self.objects: dict[str, str] = {}
        self.foreign: dict[str, None] = {}
        self.danger = report.doubts  # there, a refusal doesn't hide it
        self.files: list[str] = [source.path]
        self.nbytes = source.size
        self.formats: set[str] = set()
        self.missing: set[str] = set()
        self.seen: dict[tuple[int, int], str] = {}  # files by device and inode

    def add(self, name: str) -> None:
        """Reads one shard: a bare file name, in the folder of the index."""
        if name in ("", ".", "..") or any(char in name for char in "/\\:\0"):
            raise _not_a_name(name, self.source)
        path = os.path.join(os.path.dirname(self.source.path), name)
        if not os.path.exists(path):
            self.missing.add(name)
            self.report.warnings.append(f"the shard {escape(name)} is missing")
            return
        try:
            with ByteSource(path) as shard:
                self._refuse_again(name, shard)
                self._read(name, shard)
        except LimitExceeded:
            raise  # what one shard may take is what all may take
        except CheckpointError as error:
            self.missing.add(name)
            self.report.warnings.append(f"the shard {escape(name)} is unusable: {error.message}")

    def _refuse_again(self, name: str, shard: ByteSource) -> None:
        """Links could name one file ten thousand times."""
        found = os.fstat(shard.fd)
        other = self.seen.setdefault((found.st_dev, found.st_ino), name)
        if other != name:
            raise CheckpointError(f"it is the same file as {escape(other)}", shard.path)

    def _read(self, name: str, shard: ByteSource) -> None:
        head = shard.head(4096)
        if head[8:9] == b"{":
            index, metadata = read_header(shard)
            self.formats.add("safetensors-sharded")
        else:
            found = self._read_torch(name, shard, head)
            index, metadata = found.index, dict(found.metadata)
            self.formats.add("torch-sharded")
            self.objects.update(found.objects)
            self.foreign.update(dict.fromkeys(found.foreign))
        for key in index:
            if key in self.holder and len(self.danger) < limits.DANGER_LINES:
                self.danger.append(
                    f'"{escape(key)}" is in both {escape(self.holder[key])} and {escape(name)}'
                )
            self.holder[key] = name
        self.index.update(index)
        if len(self.index) > limits.TENSORS:
            raise LimitExceeded(
                f"refused: shards of more than {limits.TENSORS:,} tensors", self.source.path
            )
        self.metadata.update(metadata)
        self.files.append(shard.path)
        self.nbytes += shard.size

    def _read_torch(self, name: str, shard: ByteSource, head: bytes) -> Checkpoint:
        from archfind.formats.notes import not_a_checkpoint
        from archfind.formats.torch_files import torch_legacy, torch_zip

        own = Report(self.report)
        if head.startswith(b"PK\x03\x04"):
            read_shard = torch_zip.read
        elif is_legacy(head):
            read_shard = torch_legacy.read
        else:
            raise not_a_checkpoint(head, shard)
        try:
            found = read_shard(shard, own)
        except CheckpointError:
            self.danger.extend(f"{escape(name)}: {line}" for line in own.danger())
            raise
        self.danger.extend(f"{escape(name)}: {line}" for line in found.danger)
        self.report.warnings.extend(f"{escape(name)}: {line}" for line in found.warnings)
        return found

    def checkpoint(self, weights: dict[str, object], found: dict[str, object]) -> Checkpoint:
        """The shards as one checkpoint, after comparing them with the index."""
        if not self.index:
            raise CheckpointError(
                f"none of its {len(self.missing)} shards can be read: the first is "
                f"{escape(next(iter(self.missing), '?'))}. Put the shards beside the index.",
                self.source.path,
            )
        warnings = self.report.warnings
        absent = [
            key
            for key, name in weights.items()
            if key not in self.holder and name not in self.missing
        ]
        lost = sum(name in self.missing for name in weights.values())
        if lost:
            warnings.append(f"{lost} weights are in shards that are missing")
        warnings.extend(f'"{escape(key)}" is listed but absent' for key in absent[:_SHOWN])
        extra = [key for key in self.holder if key not in weights]
        warnings.extend(f'"{escape(key)}" is present but not listed' for key in extra[:_SHOWN])
        moved = [k for k, name in weights.items() if k in self.holder and self.holder[k] != name]
        self.danger.extend(
            f'"{escape(key)}" is in {escape(self.holder[key])}, the index says otherwise'
            for key in moved[:_SHOWN]
        )
        total = found.get("metadata")
        if type(total) is dict:
            self.metadata.update(
                (key, value)
                for key, value in total.items()  # pyright: ignore
                if type(value) in (str, int, float, bool)
            )
        return Checkpoint(
            path=self.source.path,
            format="torch-sharded" if "torch-sharded" in self.formats else "safetensors-sharded",
            index=self.index,
            metadata=self.metadata,
            hints=self.metadata,
            objects=self.objects,
            foreign=tuple(self.foreign),
            danger=tuple(self.danger),
            warnings=tuple(warnings),
            files=tuple(self.files),
            nbytes=self.nbytes,
        )
