"""A folder of one checkpoint: the layout is told by its file names, and only those files are opened
that the layout declares."""

from __future__ import annotations

import os

from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint
from archfind.escape import escape
from archfind.formats import limits, side_files
from archfind.formats.archives.nested import MODELS
from archfind.frozen import replace
from archfind.types import Checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import TensorSpec

_FILES = 20_000  # entries that are looked at
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = (
    "model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
)


def read(path: str, depth: int = 0) -> Checkpoint:
    """The checkpoint that a folder holds; NotACheckpoint where it could be several or none."""
    from archfind.formats import open as open_file

    try:
        with os.scandir(path) as entries:
            found = [
                (entry.name, entry.is_dir())
                for entry, _ in zip(entries, range(_FILES + 1), strict=False)
            ]
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise CheckpointError(f"can't be opened: {reason}", path) from None
    if len(found) > _FILES:
        text = f"is a folder of more than {_FILES:,} entries: give the file in it"
        raise NotACheckpoint(text, path)
    names = sorted(name for name, is_folder in found if not is_folder)
    folders = sorted(name for name, is_folder in found if is_folder)

    def inside(name: str) -> str:
        return os.path.join(path, name)

    if ".metadata" in names:
        return _with_meta(path, names, open_file(inside(".metadata")))
    indexes = [name for name in _INDEX if name in names]
    indexes = indexes or [name for name in names if name.endswith(".index.json")]
    if indexes:
        return open_file(inside(indexes[0]))
    consolidated = [n for n in names if n.startswith("consolidated.") and n.endswith(".pth")]
    if len(consolidated) > 1:
        from archfind.formats.many_files import ranks

        return ranks.read_consolidated(path, consolidated, open_file)
    if any(name.startswith("layer_") and name.endswith("-model_states.pt") for name in names):
        from archfind.formats.many_files import deepspeed

        return deepspeed.read_pipeline(path, names, open_file)
    if any(name.endswith("model_states.pt") for name in names):
        from archfind.formats.many_files import deepspeed

        return deepspeed.read(path, names, open_file)
    ranked = [name for name in folders if name.startswith("mp_rank_")]
    if ranked:
        from archfind.formats.many_files import ranks

        return ranks.read_megatron(path, ranked, open_file)
    if depth < 3:
        inner = _latest(path, names, folders)
        if inner:
            return replace(read(inside(inner), depth + 1), path=path)
    if "model_index.json" in names and depth < 2:
        return _pipeline(path, folders, depth)
    shards = [name for name in names if _shard(name)]
    if shards:
        return _shards(path, shards)
    single = [name for name in _SINGLE if name in names]
    single = single or [name for name in names if name.lower().endswith(MODELS)]
    if len(single) == 1 or (single and single[0] in _SINGLE):
        return open_file(inside(single[0]))
    hint = f" (it holds {', '.join(map(escape, single[:4]))})" if single else ""
    raise NotACheckpoint(
        f"is a folder{hint}: give a file, or a folder's model.safetensors.index.json", path
    )


def _latest(path: str, names: list[str], folders: list[str]) -> str:
    """The sub-folder that training wrote last: DeepSpeed's `latest`, Megatron's iteration."""
    for name in ("latest", "latest_checkpointed_iteration.txt"):
        if name not in names:
            continue
        try:
            text = side_files.read_bytes(os.path.join(path, name), 200).decode("utf-8", "replace")
        except CheckpointError:
            continue
        text = text.strip()
        if text.isascii() and text.isdigit() and len(text) < 12:
            text = f"iter_{int(text):07d}" if name != "latest" else text
        if text in folders:
            return text
    return ""


def _with_meta(path: str, names: list[str], found: Checkpoint) -> Checkpoint:
    """Lightning keeps what isn't a tensor in meta.pt beside the chunks."""
    if "meta.pt" not in names:
        return found
    from archfind.formats import read_section
    from archfind.formats.report import Report
    from archfind.formats.source import ByteSource

    report = Report()
    report.needs_tensors = False
    with ByteSource(os.path.join(path, "meta.pt")) as source:
        meta = read_section(source, report)
    return replace(
        found,
        metadata={**meta.metadata, **found.metadata},
        hints={**meta.hints, **found.hints},
        danger=(*found.danger, *meta.danger),
        files=(*found.files, *meta.files),
    )


def _shard(name: str) -> bool:
    """model-00002-of-00005.safetensors"""
    stem, _, suffix = name.rpartition(".")
    number, _, total = stem.rpartition("-of-")
    digits = number.rpartition("-")[2]
    numbers = digits.isdecimal() and total.isdecimal() and (digits + total).isascii()
    return suffix in ("safetensors", "bin", "pt", "pth") and numbers


def _shards(path: str, names: list[str]) -> Checkpoint:
    """Shards without their index: their union, and which are missing."""
    from archfind.formats import open as open_file

    kinds = {
        name.rpartition("-of-")[0].rpartition("-")[0] + name.rpartition("-of-")[2] for name in names
    }
    if len(kinds) > 1:
        raise NotACheckpoint("is a folder of several sharded models: give one file", path)
    total = int(names[0].rpartition("-of-")[2].partition(".")[0][:6])
    warnings = ["the index of its shards is missing"]
    if len(names) < total:
        warnings.append(f"{total - len(names)} of its {total} shards are missing")
    found: list[Checkpoint] = []
    danger: list[str] = []
    seen: dict[tuple[int, int], str] = {}  # links could name one file ten thousand times
    for name in names:
        try:
            if os.path.exists(os.path.join(path, name)):
                state = os.stat(os.path.join(path, name))
                other = seen.setdefault((state.st_dev, state.st_ino), name)
                if other != name:
                    raise CheckpointError(f"it is the same file as {escape(other)}")
            found.append(open_file(os.path.join(path, name)))
        except CheckpointError as error:
            danger += [f"{escape(name)}: {line}" for line in error.danger]
            warnings.append(f"the shard {escape(name)} is unusable: {error.message}")
    if not found:
        raise _refused(f"none of its {len(names)} shards can be read", path, danger)
    index: dict[str, TensorSpec] = {}
    for one in found:
        danger += [f'"{escape(key)}" is in two shards' for key in one.index if key in index]
        danger += one.danger
        index.update(one.index)
        if len(index) > limits.TENSORS:
            raise LimitExceeded(f"refused: shards of more than {limits.TENSORS:,} tensors", path)
        warnings += [line for line in one.warnings if "shard" not in line]
    return replace(
        found[0],
        path=path,
        format=f"{found[0].format}-sharded",
        index=index,
        danger=tuple(danger[:100]),
        warnings=tuple(dict.fromkeys(warnings)),
        files=tuple(file for one in found for file in one.files),
        nbytes=sum(one.nbytes for one in found),
        container={"shards": len(found), "of": total},
    )


def _pipeline(path: str, folders: list[str], depth: int) -> Checkpoint:
    """A diffusers pipeline: each component in a folder of its own."""
    parts: dict[str, Checkpoint] = {}
    warnings: list[str] = []
    danger: list[str] = []
    for name in folders:
        try:
            parts[name] = read(os.path.join(path, name), depth + 1)
        except CheckpointError as error:
            danger += [f"{escape(name)}: {line}" for line in error.danger]
            if type(error) is not NotACheckpoint:  # a tokenizer, a scheduler
                warnings.append(f"{escape(name)}: {error.message}")
    if not parts:
        raise _refused("is a folder of a pipeline without weights", path, danger)
    first = next(iter(parts.values()))
    return replace(
        first,
        path=path,
        format="diffusers-folder",
        index={f"{name}/{k}": v for name, one in parts.items() for k, v in one.index.items()},
        metadata={f"{name}/{k}": v for name, one in parts.items() for k, v in one.metadata.items()},
        hints={},
        danger=(*danger, *(line for one in parts.values() for line in one.danger)),
        warnings=(
            *warnings,
            *(f"{n}: {line}" for n, one in parts.items() for line in one.warnings),
        ),
        files=tuple(file for one in parts.values() for file in one.files),
        nbytes=sum(one.nbytes for one in parts.values()),
        container={"components": list(parts)},
    )


def _refused(message: str, path: str, danger: list[str]) -> NotACheckpoint:
    """The error for a folder of which nothing can be read, with what that would have run."""
    said = f"{message}. DANGER: {'; '.join(danger[:5])}" if danger else message
    error = NotACheckpoint(said, path)
    error.danger = tuple(danger)
    return error


def single_shard_note(path: str) -> str:
    """A word about a single shard of several, which is not the whole network; else ""."""
    name = os.path.basename(path)
    if not _shard(name):
        return ""
    number, _, total = name.rpartition(".")[0].rpartition("-of-")
    at = number.rpartition("-")[2]
    if int(total[:6]) < 2:
        return ""
    return (
        f"shard {int(at[:6])} of {int(total[:6])}: give its index or folder for the whole network"
    )
