"""torch.distributed.checkpoint: `.metadata` has every shape, `*.distcp` the chunks of the tensors.

Each chunk is a file of torch.save within a .distcp file; it is looked into when its data is wanted.
"""

from __future__ import annotations

import os

from archfind.errors import CheckpointError, LimitExceeded, NoTensors
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.archives.section import Section
from archfind.formats.many_files.pieces import tensor_of_pieces
from archfind.formats.pickles.nodes import Global, Key, PickledCall
from archfind.formats.report import Report, hints
from archfind.formats.source import ByteSource
from archfind.formats.torch_files.torch_objects import dtype_of
from archfind.types import Checkpoint, Piece, Storage, TensorSpec

SAVED = "torch.save"
_OBJECTS = 2000  # pickled values that are looked at
_Chunk = tuple[str, int, int]  # file, offset, length


def is_metadata(tree: object) -> bool:
    """Whether a pickle is such a checkpoint's `.metadata`."""
    return (
        type(tree) is PickledCall
        and tree.name.endswith(".metadata.Metadata")
        and "state_dict_metadata" in fields_of_pickle(tree)
    )


def fields_of_pickle(value: object) -> dict[object, object]:
    """The attributes of a pickled object."""
    state = value.state if type(value) is PickledCall else None
    for one in state if type(state) is tuple else (state,):
        if type(one) is dict:
            return one  # pyright: ignore
    return {}


def read(source: ByteSource, report: Report, tree: object) -> Checkpoint:
    """The checkpoint that a `.metadata` describes."""
    found = fields_of_pickle(tree)
    described, placed = found.get("state_dict_metadata"), found.get("storage_data")
    if type(described) is not dict:
        raise CheckpointError("damaged: its .metadata makes no sense", source.path)
    chunks = _chunks(source, placed if type(placed) is dict else {})
    paths = found.get("planner_data")
    index: dict[str, TensorSpec] = {}
    metadata: dict[str, object] = {}
    objects = 0
    folder = os.path.dirname(source.path)
    missing: dict[str, None] = {}
    for fqn, entry in described.items():
        if type(fqn) is not str or type(entry) is not PickledCall:
            continue
        pointer = _pointer(fqn, paths)
        if entry.name.endswith("TensorStorageMetadata"):
            spec = _tensor(source, folder, fqn, entry, chunks, missing)
            if spec is not None:
                index[pointer] = spec
        elif objects < _OBJECTS and (fqn, ()) in chunks:
            objects += 1
            metadata.update(_object(folder, chunks[fqn, ()], pointer, report, missing))
    if missing:
        report.warnings.append(
            f"{len(missing)} of its files are missing: {', '.join(missing)}"[:500]
        )
    if not index:
        raise NoTensors("no tensors: a distributed checkpoint of other values", source.path)
    files = dict.fromkeys(os.path.join(folder, one[0]) for one in chunks.values())
    held = [path for path in files if os.path.isfile(path)]
    return Checkpoint(
        path=source.path,
        format="torch-dcp",
        index=index,
        metadata=metadata,
        hints=hints(metadata),
        foreign=report.foreign(),
        danger=tuple(report.danger()),
        warnings=tuple(report.warnings),
        files=(source.path, *held),
        nbytes=source.size + sum(map(os.path.getsize, held)),
        container={"files": len(files)},
    )


def _pointer(fqn: str, paths: object) -> str:
    """The place of an entry: torch flattens {"model": {"0.weight": ..}} to "model.0.weight"."""
    path = paths.get(fqn) if type(paths) is dict else None  # pyright: ignore
    words = path if type(path) is tuple and path else (fqn,)
    if any(type(word) is not str and type(word) is not int for word in words):
        words = (fqn,)
    return "/".join(str(word)[:1000].replace("~", "~0").replace("/", "~1") for word in words)


def _chunks(source: ByteSource, placed: dict[object, object]) -> dict[tuple[str, object], _Chunk]:
    """Where each chunk lies, by its tensor's name and offsets; an object's offsets are ()."""
    found: dict[tuple[str, object], _Chunk] = {}
    for key, info in placed.items():
        at = fields_of_pickle(key.value if type(key) is Key else key)
        here = fields_of_pickle(info)
        fqn, offsets, file = at.get("fqn"), at.get("offset"), here.get("relative_path")
        start, length = here.get("offset"), here.get("length")
        if type(fqn) is not str or type(file) is not str:
            continue
        if file in ("", ".", "..") or any(char in file for char in "/\\:\0"):
            raise CheckpointError(
                f'refused: its file "{escape(file)}" is not a plain file name', source.path
            )
        if type(start) is int and type(length) is int and start >= 0 and length >= 0:
            whole_number = type(offsets) is tuple and _natural(offsets)
            found[fqn, offsets if whole_number else ()] = (file, start, length)
    return found


def _tensor(
    source: ByteSource,
    folder: str,
    fqn: str,
    entry: PickledCall,
    chunks: dict[tuple[str, object], _Chunk],
    missing: dict[str, None],
) -> TensorSpec | None:
    found = fields_of_pickle(entry)
    size, parts = found.get("size"), found.get("chunks")
    properties = found.get("properties")
    state = properties.state if type(properties) is PickledCall else None
    first = (
        state[0] if type(state) is tuple and state else fields_of_pickle(properties).get("dtype")
    )
    dtype = (dtype_of(first) if type(first) is Global else None) or "float32"
    if type(size) is not tuple or not _natural(size):
        return None
    pieces: list[Piece] = []
    for chunk in parts if type(parts) is list else ():
        at = fields_of_pickle(chunk)
        offsets, sizes = at.get("offsets"), at.get("sizes")
        if type(offsets) is not tuple or type(sizes) is not tuple:
            continue
        if not (_natural(offsets) and _natural(sizes)) or not len(offsets) == len(sizes) == len(
            size
        ):
            continue
        if any(o + s > n for o, s, n in zip(offsets, sizes, size, strict=True)):
            raise CheckpointError(
                f'damaged: a chunk of "{escape(fqn)}" lies outside it', source.path
            )
        where = chunks.get((fqn, offsets))
        if where is None:
            continue
        path = os.path.join(folder, where[0])
        if not os.path.isfile(path):
            missing[escape(where[0])] = None
        storage = Storage(path, fqn, -1, where[2], (SAVED, "", where[1]))
        pieces.append(Piece(offsets, TensorSpec(dtype, sizes, storage)))
    if len(pieces) == 1 and pieces[0].spec.shape == size:
        return pieces[0].spec
    return tensor_of_pieces(fqn, dtype, size, pieces, source.path)


def _natural(values: tuple[object, ...]) -> bool:
    return len(values) <= limits.DIMENSIONS and all(
        type(one) is int and 0 <= one < limits.DIMENSION for one in values
    )


def _object(
    folder: str, where: _Chunk, pointer: str, report: Report, missing: dict[str, None]
) -> dict[str, object]:
    """The plain values of a pickled object: a step, hyper-parameters."""
    from archfind.formats import read_section

    file, start, length = where
    path = os.path.join(folder, file)
    if not os.path.isfile(path):
        missing[escape(file)] = None
        return {}
    with ByteSource(path) as shard:
        if start + length > shard.size:
            report.warnings.append(f"{escape(file)} is cut off")
            return {}
        own = Report(report)
        own.needs_tensors = False
        try:
            found = read_section(Section(shard, start, length), own)
        except CheckpointError as error:
            report.doubts.extend(own.danger())
            if isinstance(error, LimitExceeded):
                raise
            report.warnings.append(f"{escape(pointer)}: {error.message}")
            return {}
    report.doubts = [*report.doubts, *found.danger]
    return {f"{pointer}/{key}" if key else pointer: value for key, value in found.metadata.items()}
