"""A state dict from one container into another, tensor by tensor: no network is built or needed.

Where the file's network is known, the tensors get that network's own names; else they keep the
file's, less the wrapper. Memory is bounded by the largest tensor that has to be changed (cast, or
gathered from a strided view), disk time by the copying: torch isn't even imported for the rest.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from archfind import formats
from archfind.dtypes import ITEMSIZE
from archfind.errors import CheckpointError, ExportError
from archfind.escape import escape
from archfind.exporters import quantised_state
from archfind.exporters.pieces import TensorToWrite, piece
from archfind.exporters.safetensors_file import write_safetensors
from archfind.exporters.torch_file import write_torch
from archfind.formats import expansion
from archfind.formats.quantised_notes import NOTE, as_stored, meanings
from archfind.formats.side_files import claimed_whole_number, claimed_words, object_in, parse_text
from archfind.formats.source import opened_file
from archfind.matching.recipe import assumed_document, recipe
from archfind.progress import progress
from archfind.state_dicts.canonical import networks
from archfind.state_dicts.quantised import PACKED
from archfind.types import Canonical, Exported
from archfind.writing import beside, target
from archfind.writing.target import DTYPES, STATE_DICTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archfind.types import Checkpoint, Guess

TIED = "archfind.tied"  # lists of keys that shared a tensor, as JSON, where the container has none
VERSIONS = "archfind.versions"  # of layers, as JSON, where the container hasn't a place for them
_VERSION = 2**16  # more is nobody's
_TEXT = 4000  # characters of a hint that are carried along
_EDGE = 64  # bytes at either end of a tensor that are read back


def convert(
    guess: Guess,
    out: str | os.PathLike[str],
    *,
    dtype: str = "",
    max_shard_size: int = 0,
    force: bool = False,
    allow_expansion: bool = False,
) -> Exported:
    """Write the tensors of `guess` to `out`, a .safetensors or .pth file, as they are in the file.

    `dtype` casts floats ("fp16", "bf16", "fp32"). With `max_shard_size`, in bytes, what doesn't fit
    into one file becomes several, and `out` names their index: `out` + ".index.json". `out` appears
    whole and read back, or not at all. More than 32 times the file's bytes are only written with
    `allow_expansion`. Raises ExportError.
    """
    path = Path(os.fspath(out))
    kind = STATE_DICTS[path.suffix.lower()]
    checkpoint = guess.canonical.checkpoint
    sources = target.sources_of(guess)
    target.refuse_export(out, sources, force=force, dtype=dtype, max_shard_size=max_shard_size)
    if guess.canonical.quantisation is not None and (dtype or max_shard_size):
        text = "torch quantised this network: its tensors are copied as they are, into one file"
        raise ExportError(f"{text}; leave --dtype and --max-shard-size out", checkpoint.path)
    if guess.canonical.quantisation is not None and kind == "pth":
        return _quantised_pth(guess, path, sources, force)
    pieces, notes = _pieces(guess, DTYPES.get(dtype, ""), kind)
    if not pieces:
        raise ExportError("holds no tensors to write", checkpoint.path)
    if kind == "pth":
        pieces = _tied_again(pieces, checkpoint, notes)
    too_much = expansion.excess(_written(pieces, kind), checkpoint.files)
    if too_much and not allow_expansion:
        raise ExportError(too_much, checkpoint.path)
    shards = _shards(pieces, max_shard_size)
    names = _names(path, len(shards))
    index = path.with_name(path.name + ".index.json")
    final = [path.with_name(name) for name in names] + ([index] if len(shards) > 1 else [])
    _refuse(final, sources, force)
    metadata = _metadata(guess, notes)
    ties = _ties(pieces)
    with beside.folder_beside(path) as made:
        shown = progress(list(zip(names, shards, strict=True)), len(shards), "write")
        for name, shard in shown:
            write(str(made / name), kind, shard, metadata, ties)
        if len(shards) > 1:
            weights = {
                p.key: name for name, shard in zip(names, shards, strict=True) for p in shard
            }
            total = {"total_size": sum(p.nbytes for p in pieces)}
            text = json.dumps({"metadata": total, "weight_map": weights}, indent=1)
            (made / index.name).write_text(text)
        _refuse(final, sources, force)  # minutes may have passed
        # the index last: it names all shards or none, and until then an old one has its own
        beside.move([(made / one.name, one) for one in final], force)
    tied = [names for names in ties if len(names) > 1]
    if tied:
        more = f", and {len(tied) - 1} more" if len(tied) > 1 else ""
        notes["tied"] = escape(" = ".join(tied[0]), 120) + more
        if kind == "safetensors":
            notes["tied"] += " (each written: the format has no sharing)"
    if len(shards) > 1:
        notes["shards"] = f"{len(shards)} files, {names[0]} ..."
    return Exported(None, str(final[-1]), kind, "", 0.0, notes)


def _quantised_pth(guess: Guess, path: Path, sources: Sequence[str], force: bool) -> Exported:
    """The state dict of a network that torch quantised, as torch writes it."""
    with beside.folder_beside(path) as made:
        versions = _versions(quantised_state.whole_state(guess.canonical))
        count = quantised_state.write_pth(made / path.name, guess, versions)
        _refuse([path], sources, force)
        beside.move([(made / path.name, path)], force)
    text = f"{guess.matches[0].entry.id}, as torch quantised it: the file's own names"
    notes = {"network": text, "tensors": f"{count}, equal to the source's"}
    return Exported(None, str(path), "pth", "", 0.0, notes)


def _written(pieces: list[TensorToWrite], kind: str) -> int:
    """The bytes of all tensors: .pth has those of tied ones once."""
    once = {one.same: one.nbytes for one in pieces}
    return sum(once.values()) if kind == "pth" else sum(one.nbytes for one in pieces)


def _refuse(final: Sequence[Path], sources: Sequence[str], force: bool) -> None:
    for path in final:
        target.refuse_file(path, sources, force)
    if len(final) > 1:  # or it would be opened in place of its shards
        target.refuse_taken([str(final[-1]).removesuffix(".index.json")])
    target.refuse_joined(final[:-1], final[-1])


def _pieces(guess: Guess, dtype: str, kind: str) -> tuple[list[TensorToWrite], dict[str, str]]:
    """What is written, and what a person should know of it."""
    notes: dict[str, str] = {}
    found = _tensors(guess)
    pieces: list[TensorToWrite] = []
    for prefix, one in found.items():
        stored = as_stored(one.index) if kind == "safetensors" else one.index
        for key, spec in stored.items():
            how = one.merged.get(key)
            made = _merged(one, key, how, dtype) if how else piece(prefix + key, spec, dtype)
            pieces.append(made)
    _refuse_alike(pieces, guess.canonical.checkpoint)
    checkpoint = guess.canonical.checkpoint
    written = {pointer for one in found.values() for pointer in one.origin.values()}
    written |= {p for one in found.values() for _, *parts in one.merged.values() for p in parts}
    left = [pointer for pointer in checkpoint.index if pointer not in written]
    quantised = any(spec.quantiser for one in found.values() for spec in one.index.values())
    if guess.canonical.quantisation is not None:
        text = "as torch quantised it: the file's own names"
        notes["network"] = f"{guess.matches[0].entry.id}, {text}"
    elif guess.is_named:
        notes["network"] = f"{guess.matches[0].entry.id}, under its own names"
    else:
        notes["network"] = f"{guess.status}: the file's own names"
    if left:
        places = dict.fromkeys(pointer.partition("/")[0] for pointer in left)
        shown = ", ".join(list(places)[:3]) + (" ..." if len(places) > 3 else "")
        notes["left"] = f"{len(left)} tensors of {escape(shown)} are not written"
    if quantised:
        notes["quantised"] = f"integers, and what they mean under {NOTE} in the metadata"
    if dtype:
        changed = sum(bool(p.cast) or (p.make is not None and p.dtype == dtype) for p in pieces)
        notes["dtype"] = f"{changed} tensors cast to {dtype}, {len(pieces) - changed} as they were"
    return pieces, notes


def _refuse_alike(pieces: list[TensorToWrite], checkpoint: Checkpoint) -> None:
    """ExportError where two tensors would have one name, as those of `p[0]` and of `p.0` have."""
    names: set[str] = set()
    for one in pieces:
        if one.key in names:
            text = f"two tensors would be called {escape(one.key)}; --part takes one network"
            raise ExportError(text, checkpoint.path)
        names.add(one.key)


def _tensors(guess: Guess) -> dict[str, Canonical]:
    """State dicts by the prefix that their keys get; more than one only where the file has several
    networks and none is asked for."""
    if guess.canonical.quantisation is not None:
        return {"": quantised_state.whole_state(guess.canonical)}
    if guess.is_named or guess.part:
        return {"": guess.canonical}
    checkpoint = guess.canonical.checkpoint
    if checkpoint.format.startswith("safetensors"):  # its keys are no paths: all are one dict's
        every = {key: key for key in checkpoint.index}
        return {"": Canonical(checkpoint, checkpoint.index, every)}
    found = networks(checkpoint)
    if len(found) == 1:
        return {"": next(iter(found.values()))}
    return {f"{_plain(place)}." if place else "": one for place, one in found.items()}


def _plain(place: str) -> str:
    """A pointer as the names of modules are written."""
    return place.replace("/", ".").replace("~1", "/").replace("~0", "~")


def _merged(canonical: Canonical, key: str, how: tuple[str, ...], dtype: str) -> TensorToWrite:
    recipe_name, *parts = how
    specs = [canonical.checkpoint.index[part] for part in parts]
    wanted = dtype or "float32"
    shape = canonical.index[key].shape

    def make() -> object:
        import torch

        from archfind.values.reader import TensorReader, computed

        reader = TensorReader()
        read = [reader.read(spec, part) for part, spec in zip(parts, specs, strict=True)]
        weight = computed(recipe_name, read, shape)
        return weight.to(getattr(torch, wanted))

    return TensorToWrite(key, wanted, shape, object(), make=make)


def _metadata(guess: Guess, notes: dict[str, str]) -> dict[str, str]:
    """Where the file comes from, and what the source said of itself, as text."""
    checkpoint = guess.canonical.checkpoint
    said = {key: str(value)[:_TEXT] for key, value in checkpoint.metadata.items()}
    carried = {
        key: text
        for key, text in said.items()
        if checkpoint.format.startswith("safetensors") and not key.startswith("archfind.")
    }
    if carried and set(carried) != {"format"}:
        notes["metadata"] = f"{len(carried)} entries carried along"
    elif not checkpoint.format.startswith("safetensors"):
        hints = {key: value for key, value in checkpoint.hints.items() if _is_plain(value)}
        if hints:
            carried["archfind.hints"] = json.dumps(hints)
            notes["metadata"] = f"{len(hints)} hints of the source, as archfind.hints"
    found = {
        **carried,
        "format": "pt",
        "archfind.version": version("archfind"),
        "archfind.source": escape(Path(checkpoint.path).name),
        "archfind.status": guess.status,
    }
    if guess.is_named:
        match = guess.matches[0]
        config = {k: {"value": s.value, "source": s.source} for k, s in match.config.items()}
        found |= {
            "archfind.architecture": match.entry.id,
            "archfind.provider": match.entry.provider,
            "archfind.config": json.dumps(config, default=str),
            "archfind.build": json.dumps(recipe(match), default=str),
            "archfind.chosen_by": guess.chosen_by,
            "archfind.assumed": json.dumps(assumed_document(match), default=str),
        }
    held = _tensors(guess)
    means = {f"{at}{key}": m for at, one in held.items() for key, m in meanings(one.index).items()}
    if means:
        found[NOTE] = json.dumps(means)
    quantised = guess.canonical.quantisation is not None
    versions = _versions(held[""] if quantised else guess.canonical)
    return found | ({VERSIONS: json.dumps(versions)} if versions else {})


def _versions(canonical: Canonical) -> dict[str, int]:
    """The versions of layers that the source notes, under the names that are written. A few layers
    refuse a state dict without. BatchNorm's are left out, as its counters say the same."""
    checkpoint = canonical.checkpoint
    if not checkpoint.versions:
        kept = object_in(str(checkpoint.metadata.get(VERSIONS, "")))
        layers = {layer: claimed_whole_number(n, 1, _VERSION - 1) for layer, n in kept.items()}
        return {layer: n for layer, n in layers.items() if n is not None}
    places = [(k, at) for k, at in canonical.origin.items() if f"{PACKED}/" not in at]  # in pairs
    cut = {at[: -len(key)] if at.endswith(key) else None for key, at in places}
    prefix = cut.pop() if len(cut) == 1 else None
    if prefix is None:
        return {}
    prefix = prefix.rpartition("/")[2]
    return {
        layer[len(prefix) :]: version
        for layer, version in checkpoint.versions.items()
        if f"{layer}.".startswith(prefix)
        and 0 < version < _VERSION
        and f"{layer[len(prefix) :]}.num_batches_tracked" not in canonical.index
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False  # which JSON hasn't
    return isinstance(value, bool | int | float | str) and len(str(value)) <= _TEXT


def _shards(pieces: list[TensorToWrite], limit: int) -> list[list[TensorToWrite]]:
    """Pieces in their order, in files of at most `limit` bytes; a larger tensor has its own."""
    if not limit:
        return [pieces]
    shards: list[list[TensorToWrite]] = [[]]
    size = 0
    for one in pieces:
        if shards[-1] and size + one.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(one)
        size += one.nbytes
    return shards


def _names(path: Path, count: int) -> list[str]:
    if count == 1:
        return [path.name]
    return [f"{path.stem}-{n:05}-of-{count:05}{path.suffix}" for n in range(1, count + 1)]


def _ties(pieces: Sequence[TensorToWrite]) -> list[list[str]]:
    groups: dict[object, list[str]] = {}
    for one in pieces:
        groups.setdefault(one.same, []).append(one.key)
    return list(groups.values())


def _tied_again(
    pieces: list[TensorToWrite], checkpoint: Checkpoint, notes: dict[str, str]
) -> list[TensorToWrite]:
    """What was tied before it went through a container without sharing, and is still the same."""
    try:
        groups = parse_text(str(checkpoint.metadata.get(TIED, "[]")), TIED)
    except CheckpointError as error:
        notes["left"] = f"{TIED} in its metadata: {error.message}"
        return pieces
    by_key = {one.key: one for one in pieces}
    free = set(by_key)  # a key is tied once
    lists = [claimed_words(group) for group in groups] if isinstance(groups, list) else [None]
    if None in lists:
        notes["left"] = f"{TIED} in its metadata: not lists of keys"
    for names in filter(None, lists):
        held = [by_key[name] for name in dict.fromkeys(names) if name in free]
        free.difference_update(names)
        for one in held[1:]:
            alike = (one.dtype, one.shape) == (held[0].dtype, held[0].shape)
            if alike and all(a == b for a, b in zip(one.chunks(), held[0].chunks(), strict=True)):
                by_key[one.key] = replace(one, same=held[0].same)
    return [by_key[one.key] for one in pieces]


def write(
    path: str,
    kind: str,
    pieces: Sequence[TensorToWrite],
    metadata: Mapping[str, str],
    ties: Sequence[Sequence[str]] = (),
) -> None:
    """One file of `kind` ("pth" or "safetensors"), read back. ExportError where it can't be."""
    if kind == "pth":
        said = {key: value for key, value in metadata.items() if key != VERSIONS}
        versions = json.loads(metadata.get(VERSIONS, "{}"))
        layers = {layer: {"version": version} for layer, version in versions.items()}
        write_torch(path, pieces, {**layers, "archfind": said})
    else:
        tied = [names for names in ties if len(names) > 1]
        extra = {TIED: json.dumps(tied)} if tied else {}
        write_safetensors(path, pieces, {**metadata, **extra})
    _check(path, kind, pieces)


def _check(path: str, kind: str, pieces: Sequence[TensorToWrite]) -> None:
    """Read the header back with the reader for anyone's files, and both ends of each tensor."""
    index = (
        as_stored(formats.open(path).index) if kind == "safetensors" else formats.open(path).index
    )
    expected = {p.key: p for p in pieces}
    places = {_pointer(key) if kind == "pth" else key: one for key, one in expected.items()}
    odd = sorted(set(places) ^ set(index))
    if odd:
        raise ExportError(f"read back, the file lacks or adds {escape(odd[0])}")
    with open(path, "rb") as written:
        for key, one in places.items():
            spec = index[key]
            if (spec.dtype, spec.shape) != (one.dtype, one.shape):
                raise ExportError(f"read back, {escape(key)} has another dtype or shape")
            if one.plain is None or not one.nbytes:
                continue
            with opened_file(one.plain.file) as source:
                base = spec.storage.start + spec.offset * ITEMSIZE[spec.dtype]
                for at in (0, max(0, one.nbytes - _EDGE)):
                    source.seek(one.plain.start + at)
                    written.seek(base + at)
                    length = min(_EDGE, one.nbytes - at)
                    if source.read(length) != written.read(length):
                        raise ExportError(f"read back, {escape(key)} differs from the source")


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
