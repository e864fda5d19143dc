"""Where an export, a repair or the demo may write, decided from the path and the options alone.

Loading and building take up to a minute: what can be refused without them is refused before.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import stat

from archfind.errors import ExportError, RepairError
from archfind.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from os import PathLike

    from archfind.types import Built, Checkpoint, Guess, Match

    Path = str | PathLike[str]

STATE_DICTS = {".safetensors": "safetensors", ".pth": "pth", ".pt": "pth", ".bin": "pth"}
# suffix, module of archfind.exporters
EXPORTERS = {".onnx": "onnx", **STATE_DICTS, ".ts": "torchscript", ".pt2": "pt2"}
FOLDER = "folder"  # what transformers opens: config.json and its weights
FOLDER_FILES = ("config.json", "model.safetensors")
DTYPES = {
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float32",
}
OLDEST_OPSET, SURE_OPSET = 7, 23  # the latter is in every onnx that archfind works with
NO_INPUT = "say what it runs on: --input 1x3x224x224, once for each input"
_INPUT_DTYPES = ("float32", "float16", "int64", "int32")


def exporter_of(out: Path) -> str:
    """The exporter that writes `out`, by its suffix; FOLDER for a name that ends with a slash or
    has no suffix, and for a folder. ExportError for a suffix that nothing writes."""
    path = os.fspath(out)
    suffix = os.path.splitext(path)[1].lower()
    if path.endswith(("/", os.sep)) or not suffix:
        return FOLDER
    if suffix in EXPORTERS:
        return EXPORTERS[suffix]
    if os.path.isdir(path):
        return FOLDER
    text = f"no exporter writes {escape(suffix)}; known: {', '.join(EXPORTERS)}"
    raise ExportError(f"{text}, and a name that ends with / for a folder", escape(path))


def sources_of(source: Path | Checkpoint | Guess | Built) -> tuple[str, ...]:
    """The files that `source` is read from, as far as they are known without opening them."""
    from archfind.types import Built, Guess

    if isinstance(source, str | os.PathLike):
        return (os.fspath(source),)
    guess = source.guess if isinstance(source, Built) else source
    checkpoint = guess.canonical.checkpoint if isinstance(guess, Guess) else guess
    return (checkpoint.path, *checkpoint.files)


def refuse_export(
    out: Path,
    sources: Iterable[str] = (),
    *,
    force: bool = False,
    copied: bool = True,
    opset: int | None = None,
    half: bool = False,
    dtype: str = "",
    max_shard_size: int = 0,
) -> None:
    """ExportError where `out` can't be written, mustn't be, or where an option isn't for its kind.
    `copied` says that nothing forbids copying the tensors as they are in the file."""
    path = os.fspath(out)
    kind = exporter_of(out)
    if kind != "onnx" and (half or opset is not None):
        text = "half and opset are for .onnx alone; dtype='fp16' casts what is copied"
        raise ExportError(text, escape(path))
    if (dtype or max_shard_size) and (kind not in STATE_DICTS.values() or not copied):
        text = "dtype and max_shard_size are for what is copied between .pth and .safetensors"
        raise ExportError(text, escape(path))
    if dtype and dtype not in DTYPES:
        raise ExportError(f"no dtype {escape(dtype)}; there are fp16, bf16, fp32", escape(path))
    if kind == FOLDER:
        refuse_folder(path, sources, force)
    elif kind == "onnx":
        refuse_onnx(path, sources, force, opset)
    else:
        refuse_file(path, sources, force)
        refuse_unwritable(path)


def refuse_onnx(out: Path, sources: Iterable[str], force: bool, opset: int | None = None) -> None:
    """ExportError where an .onnx can't or mustn't be written to `out`, or the tensors of a large
    one beside it, and for an opset that no exporter writes."""
    path = os.fspath(out)
    refuse_file(path, sources, force)
    refuse_file(path + ".data", sources, force=True)
    refuse_unwritable(path)
    if opset is not None and not OLDEST_OPSET <= opset <= SURE_OPSET:
        try:
            from onnx.defs import onnx_opset_version
        except ModuleNotFoundError:  # the exporter says what to install
            return
        newest = onnx_opset_version()
        if not OLDEST_OPSET <= opset <= newest:
            text = f"no exporter writes opset {opset}: they are {OLDEST_OPSET} to {newest}"
            raise ExportError(text, escape(path))


def refuse_program(
    out: Path, sources: Iterable[str], inputs: Sequence[str], force: bool, opset: int | None = None
) -> None:
    """ExportError where a trusted program can't be written to `out`, or an input can't be read."""
    path = os.fspath(out)
    if os.path.splitext(path)[1].lower() != ".onnx":
        raise ExportError("a trusted program is written to .onnx only", escape(path))
    refuse_onnx(path, sources, force, opset)
    for text in inputs:
        input_shape(text)


def refuse_repair(out: Path, sources: Iterable[str], force: bool) -> None:
    """RepairError where `out` names no state dict, ExportError where it can't be written."""
    path = os.fspath(out)
    suffix = os.path.splitext(path)[1]
    if suffix.lower() not in STATE_DICTS:
        raise RepairError(f"writes {', '.join(STATE_DICTS)}, not {escape(suffix)}", escape(path))
    refuse_file(path, sources, force)
    refuse_unwritable(path)


def input_shape(text: str) -> tuple[list[int], str]:
    """The sizes and the dtype that an input like 1x3x224x224 or 1x128:int64 asks for."""
    sides, colon, dtype = text.partition(":")
    known = not colon or dtype in _INPUT_DTYPES
    if known and all(s.isdecimal() and s.isascii() and len(s) < 10 for s in sides.split("x")):
        return [int(side) for side in sides.split("x")], dtype or "float32"
    raise ExportError(f"an input is like 1x3x224x224 or 1x128:int64, not {escape(text)}")


def refuse_file(out: Path, sources: Iterable[str], force: bool) -> None:
    """ExportError where `out` can't become a file, where it is one of `sources`, under whatever
    name, or where it exists: `force` replaces a regular file and nothing else."""
    path = os.fspath(out)
    name = escape(path)
    parent = os.path.dirname(path)
    status = _status(path)
    if not os.path.isdir(parent or "."):
        raise ExportError(f"there is no folder {escape(parent)}", name)
    if not os.path.basename(path):
        raise ExportError("names no file", name)
    if os.path.isdir(path):
        raise ExportError("is a folder", name)
    if any(_same(source, path) for source in sources):
        raise ExportError("is the checkpoint itself, which is never written to", name)
    if status is not None and stat.S_ISLNK(status.st_mode):
        raise ExportError("is a link, which isn't replaced; name what it points to", name)
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise ExportError("is no regular file", name)
    if status is not None and not force:
        raise ExportError("exists; --force overwrites", name)


def refuse_folder(out: Path, sources: Iterable[str], force: bool) -> None:
    """ExportError where a transformers model can't be written to the folder `out`: it is a file,
    holds something (`force` adds to that), or holds the checkpoint."""
    path = os.fspath(out)
    name = escape(path)
    bare = path.rstrip("/" + os.sep) or path
    status = _status(bare)
    if not path:
        raise ExportError("names no folder", name)
    if not os.path.isdir(path):
        parent = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(parent):
            raise ExportError(f"there is no folder {escape(parent)}", name)
        if status is not None and stat.S_ISLNK(status.st_mode):
            raise ExportError("is a link to nothing", name)
        if status is not None:
            raise ExportError("is a file; a transformers model is written as a folder", name)
        return refuse_unwritable(bare)
    for source in sources:
        if any(_same(p, path) for p in (source, *_parents(source))):
            raise ExportError("holds the checkpoint itself, which is never written to", name)
    if not force and _holds_files(path):
        text = f"exists; --force replaces its {' and '.join(FOLDER_FILES)} and leaves the rest"
        raise ExportError(text, name)
    for file in FOLDER_FILES:
        refuse_file(os.path.join(path, file), sources, force=True)
    return refuse_unwritable(os.path.join(path, FOLDER_FILES[0]))


def refuse_unwritable(out: Path) -> None:
    """ExportError where nothing can be made in the folder that `out` is in. It is tried, since
    permissions don't tell of disks that are full or read-only."""
    from archfind.writing.signals import held

    path = os.fspath(out)
    probe = os.path.join(os.path.dirname(path), f".archfind-{os.urandom(4).hex()}")
    with held():
        try:
            os.mkdir(probe)
        except OSError as error:
            raise write_error(error, path) from error
        with contextlib.suppress(FileNotFoundError):  # taken for an abandoned one
            os.rmdir(probe)


def refuse_network(guess: Guess, out: Path, match: Match | None = None) -> None:
    """ExportError where `out` is a folder and the network, `match` or the first that fits, is known
    not to be transformers'."""
    if match is None and guess.status in ("exact", "ambiguous"):
        match = guess.matches[0]
    if match is not None and match.pretrained is None and exporter_of(out) == FOLDER:
        what = os.path.splitext(os.fspath(out))[1] or "a name without a suffix"
        text = f"no exporter writes {escape(what)}; known: {', '.join(EXPORTERS)}"
        raise ExportError(f"{text}, and a folder for transformers' models", escape(os.fspath(out)))


def refuse_taken(paths: Iterable[Path]) -> None:
    """ExportError where one of `paths` exists: files that belong together can't be replaced in one
    step, and a replacement that is cut short would join old ones to new ones."""
    for path in [os.fspath(path) for path in paths]:
        if os.path.lexists(path):
            text = "exists, and files that belong together can't be replaced at once: remove it"
            raise ExportError(text, escape(path))


def refuse_joined(parts: Iterable[Path], whole: Path) -> None:
    """ExportError where the file that is at `whole` now names one of `parts`, which exists: they
    can't be replaced at once, and cut short that would join old tensors to new ones."""
    path, every = os.fspath(whole), [os.fspath(part) for part in parts]
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            named = [part for part in every if _names(held, part)]
    except (OSError, ValueError):  # none, or an empty one
        return
    for part in named:
        text = (
            f"belongs to {escape(os.path.basename(path))}, and two files can't be replaced at once"
        )
        raise ExportError(f"{text}: remove that one, or choose another name", escape(part))


def _names(held: mmap.mmap, part: str) -> bool:
    name = os.path.basename(part)
    written = (os.fsencode(name), json.dumps(name)[1:-1].encode())
    return os.path.lexists(part) and any(held.find(one) >= 0 for one in written)


def write_error(error: OSError | ValueError, path: Path) -> ExportError:
    """What the system says, as an error about `path`."""
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ExportError(f"can't be written: {escape(why)}", escape(os.fspath(path)))


def _status(path: str) -> os.stat_result | None:
    """What is at `path` itself, followed nowhere; None where nothing is."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        raise write_error(error, path) from error


def _holds_files(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(not entry.name.startswith(".archfind-") for entry in entries)
    except OSError as error:
        raise write_error(error, folder) from error


def _parents(source: str) -> tuple[str, str]:
    """The folders that a file is in: by its name, and by where links lead."""
    return os.path.dirname(os.path.abspath(source)), os.path.dirname(os.path.realpath(source))


def _same(source: str, path: str) -> bool:
    try:
        return os.path.samefile(source, path)
    except (OSError, ValueError):
        return False
