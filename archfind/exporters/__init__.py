"""Built -> Exported: one file per target, each written beside its place, checked, then moved there.

An exporter module has `write(built, job) -> Written`: it writes `job.path`, checks what it wrote
against `built.module`, and raises ExportError where they differ. What it leaves is removed if it
raises. Importing this package imports no torch.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from archfind.errors import MissingLibrary
from archfind.exporters.convert import convert
from archfind.matching.assumed import graded
from archfind.steps import done
from archfind.types import Exported
from archfind.writing import beside, target

__all__ = ["convert", "convertible", "copies", "export"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.exporters.job import WrittenFile
    from archfind.providers.example import Example
    from archfind.types import Built, Guess


def export(
    built: Built,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    opset: int | None = None,
    keep_unchecked: bool = False,
    options: Mapping[str, Any] | None = None,
    half: bool = False,
) -> Exported:
    """Write `built` to `out`, in the format that its suffix names, and check it against the module.

    `out` appears whole and checked or not at all. An existing one is refused without `force`, the
    checkpoint itself always. `opset` is ONNX's, and so are `half`, which stores weights and
    computes in float16, and `options`, arguments for `torch.onnx.export`. `keep_unchecked` keeps
    an .onnx whose outputs differ from the module's, and says so in `notes`. Raises ExportError.
    """
    sources = target.sources_of(built)
    target.refuse_export(out, sources, force=force, opset=opset, half=half)
    target.refuse_network(built.guess, out, built.match)
    path = Path(os.fspath(out))
    kind = target.exporter_of(out)
    if kind == target.FOLDER:
        from archfind.exporters.pretrained import write_folder

        return write_folder(built, path, force)
    # A folder, since a big .onnx is two files that name each other: there they have their names.
    with beside.folder_beside(path) as folder:
        more = {"options": options or {}, "half": half}
        written = _write(built, kind, folder / path.name, opset, keep_unchecked, more)
        done("checked")
        target.refuse_file(out, sources, force)  # since the first look, minutes may have passed
        return _moved(built, kind, written, path, force)


def copies(out: str | os.PathLike[str]) -> bool:
    """Whether `out` is of a kind that only holds tensors."""
    return Path(os.fspath(out)).suffix.lower() in target.STATE_DICTS


def convertible(guess: Guess, choose: str = "") -> bool:
    """Whether the tensors are copied as they are: not those of an .onnx, and not where the network
    that the user named is another."""
    return guess.canonical.checkpoint.format != "onnx" and (not choose or guess.is_named)


def _data(path: Path) -> Path:
    """Where the tensors of an .onnx too big for one file go; torch chooses this name too."""
    return path.with_name(path.name + ".data")


def _write(
    built: Built, kind: str, path: Path, opset: int | None, keep: bool, more: Mapping[str, Any]
) -> WrittenFile:
    try:
        from archfind.exporters.job import Job
        from archfind.exporters.provenance import metadata
        from archfind.providers import example_of

        writer = import_module(f"{__name__}.{kind}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("archfind"):
            raise
        raise MissingLibrary(f"writing .{kind}", str(error.name)) from error
    given = dict(more["options"])
    example: Example | None = given.pop("example", None)
    if example is None:
        example = example_of(built.match, built.module)
    if "args" in given:
        example = _given(example, given.pop("args"))
    job = Job(path, metadata(built, example), example, opset, keep, given, more["half"])
    written = writer.write(built, job)
    notes = {"input": example.describe(), **written.notes}
    if built.match.written is not None:
        notes = {"grade": graded(built.match), **notes}
    return replace(written, notes=notes)


def _given(example: Example, args: Any) -> Example:
    """The caller's own example inputs."""
    inputs = args if isinstance(args, tuple) else (args,)
    names = tuple(f"input_{n}" for n in range(len(inputs))) if len(inputs) > 1 else ("input",)
    size = tuple(getattr(next(iter(inputs)), "shape", ()))[1:]
    return replace(example, args=inputs, names=names, size=size)


def _moved(built: Built, kind: str, written: WrittenFile, path: Path, force: bool) -> Exported:
    from archfind.exporters.provenance import sha256

    digest = sha256(written.path)
    data = _data(written.path)
    pairs = [(written.path, path)]
    if data.exists():
        target.refuse_file(_data(path), (), force)
        target.refuse_joined([_data(path)], path)
        pairs.insert(0, (data, _data(path)))  # without them an .onnx is broken
    beside.move(pairs, force)
    return Exported(built, str(path), kind, digest, written.max_abs_diff, dict(written.notes))
