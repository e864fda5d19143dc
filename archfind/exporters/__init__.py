"""Built -> Exported: one file per target, each written beside its place, checked, then moved there.

An exporter module has `write(built, job) -> Written`: it writes `job.path`, checks what it wrote
against `built.module`, and raises ExportError where they differ. What it leaves is removed if it
raises. Importing this package imports no torch.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from archfind.errors import ArchfindError, ExportError
from archfind.formats.escape import escape
from archfind.types import Exported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.exporters.job import Written
    from archfind.types import Built

# suffix, module
EXPORTERS = (
    (".onnx", "onnx"),
    (".safetensors", "safetensors"),
    (".pth", "pth"),
    (".pt", "pth"),
)


def export(
    built: Built,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    opset: int | None = None,
    keep_unchecked: bool = False,
) -> Exported:
    """Write `built` to `out`, in the format that its suffix names, and check it against the module.

    `out` appears whole and checked or not at all. An existing one is refused without `force`, the
    checkpoint itself always. `opset` is ONNX's. `keep_unchecked` keeps an .onnx whose outputs
    differ from the module's, and says so in `notes`. Raises ExportError.
    """
    path = Path(os.fspath(out))
    kind = dict(EXPORTERS).get(path.suffix.lower())
    if built.match.pretrained is not None and (kind is None or str(out).endswith("/")):
        from archfind.exporters.pretrained import write_folder

        return write_folder(built, path, force)
    if kind is None:
        known = ", ".join(suffix for suffix, _ in EXPORTERS)
        what = escape(path.suffix) or "a name without a suffix"
        raise ExportError(f"no exporter writes {what}; known: {known}", escape(str(path)))
    if opset is not None and kind != "onnx":
        raise ExportError("an opset is for .onnx alone", escape(str(path)))
    _refuse(built, path, force)
    try:
        # A folder, since a big .onnx is two files that name each other. Inside it they have their
        # final names; it is in the same file system, so that moving them is atomic.
        folder = Path(tempfile.mkdtemp(prefix=".archfind-", dir=path.parent))
    except OSError as error:
        raise _failed(error, path) from error
    try:
        written = _write(built, kind, folder / path.name, opset, keep_unchecked)
        return _moved(built, kind, written, path, force)
    except ArchfindError as error:
        raise ExportError(error.message, escape(str(path))) from error
    except OSError as error:
        raise _failed(error, path) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse(built: Built, path: Path, force: bool) -> None:
    name = escape(str(path))
    if not path.parent.is_dir():
        raise ExportError(f"there is no folder {escape(str(path.parent))}", name)
    if path.is_dir():
        raise ExportError("is a folder", name)
    checkpoint = built.guess.canonical.checkpoint
    for source in (checkpoint.path, *checkpoint.files):
        for target in (path, _data(path)):
            if _same(source, target):
                raise ExportError("is the checkpoint itself, which is never written to", name)
    if not force and os.path.lexists(path):
        raise ExportError("exists; --force overwrites", name)


def _same(one: str, other: Path) -> bool:
    try:
        return other.samefile(one)
    except OSError:
        return False


def _data(path: Path) -> Path:
    """Where the tensors of an .onnx too big for one file go; torch chooses this name too."""
    return path.with_name(path.name + ".data")


def _write(built: Built, kind: str, path: Path, opset: int | None, keep: bool) -> Written:
    try:
        from archfind.exporters.job import Job
        from archfind.exporters.provenance import metadata
        from archfind.providers import provider
        from archfind.providers.example import fitted

        writer = import_module(f"{__name__}.{kind}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("archfind"):
            raise
        what = f"writing .{kind} needs {error.name}"
        raise ExportError(f"{what}: pip install 'archfind[all]'") from error
    entry = built.match.entry
    example = provider(entry.provider).example(entry.name, built.module)
    if built.match.variant is not None:
        example = fitted(example, {k: s.value for k, s in built.match.config.items()})
    written = writer.write(built, Job(path, metadata(built, example), example, opset, keep))
    return replace(written, notes={"input": example.describe(), **written.notes})


def _moved(built: Built, kind: str, written: Written, path: Path, force: bool) -> Exported:
    from archfind.exporters.provenance import sha256

    digest = sha256(written.path)
    data = _data(written.path)
    if not force and os.path.lexists(path):  # since the first look, minutes may have passed
        raise ExportError("exists; --force overwrites")
    if data.exists():
        if not force and os.path.lexists(_data(path)):
            taken = escape(_data(path).name)
            raise ExportError(f"its tensors go to {taken}, which exists; --force overwrites")
        # First the tensors: an .onnx without them is broken, they alone are only unused.
        data.replace(_data(path))
    written.path.replace(path)
    return Exported(built, str(path), kind, digest, written.max_abs_diff, dict(written.notes))


def _failed(error: OSError, path: Path) -> ExportError:
    why = error.strerror or str(error) or type(error).__name__
    return ExportError(f"can't be written: {escape(why)}", escape(str(path)))
