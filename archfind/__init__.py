"""Which network is this checkpoint? Name it, build it, load it strictly, export it.

    archfind.open(path) -> Checkpoint       what the file holds, from its header alone
    archfind.guess(path) -> Guess           which network it is
    archfind.load(path) -> nn.Module        built, strictly loaded, in eval mode
    archfind.export(path, out) -> Exported  written and checked; .onnx .safetensors .pth
    archfind.source(path) -> Source         a readable nn.Module for a network of no library
    archfind.repair.plan(guess) -> Plan     what keeps it from loading strictly, as edits
    archfind.repair.apply(plan, out)        a fixed copy, strictly loaded

Each takes a path or the earlier stage's result. Nothing in a file is ever run, but by
`export_program`, for users who trust the file. torch and the model
libraries are imported by `load` and `export` only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BufferedIOBase
from os import PathLike

from archfind.errors import (
    AmbiguousError,
    ArchfindError,
    BuildError,
    CheckpointError,
    ExportError,
    InternalError,
    MissingLibrary,
    RepairError,
    SignatureError,
    Stopped,
    UnknownError,
)
from archfind.steps import watching
from archfind.types import Built, Checkpoint, Exported, Guess, Source, shown
from archfind.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from torch import nn

    from archfind import repair
else:
    from archfind.types.lazy import nn

Path = str | PathLike[str]
Given = bytes | bytearray | memoryview | BufferedIOBase | Mapping[str, object]

__version__ = VERSION
__all__ = [
    "AmbiguousError",
    "ArchfindError",
    "BuildError",
    "CheckpointError",
    "ExportError",
    "InternalError",
    "MissingLibrary",
    "RepairError",
    "SignatureError",
    "Stopped",
    "UnknownError",
    "build",
    "export",
    "export_program",
    "guess",
    "load",
    "open",
    "repair",
    "source",
    "variant",
    "watching",
]


def open(source: Path | Given) -> Checkpoint:
    """What a file holds: at a path, open in binary mode, or its bytes; or what a state dict holds.
    CheckpointError says what else it is, if not a checkpoint."""
    from archfind import pipeline

    return pipeline.open(source)


def guess(
    source: Path | Given | Checkpoint | Guess,
    *,
    choose: str = "",
    part: str = "",
    search: bool = False,
    settings: Mapping[str, object] | None = None,
    code: str = "",
    values: bool = True,
    trust: bool = False,
    signatures: str = "",
) -> Guess:
    """Which network `source` is; `choose` names an entry ("timm/resnetaa50") among those that fit,
    `part` one of several networks in the file.

    From names and shapes, in milliseconds, and where those leave open how many heads a network has
    or how it pads an image, from the values of its weights, unless `values` is False. `search`,
    where that finds nothing that fits, builds the likest classes with other arguments until the
    file's tensors come out, for up to a minute and a half; it needs torch
    and the library. `build`, `load` and `export` always do.
    `settings` tell what is assumed ({"fc.1": "gelu"}; `Match.assumed` has the places): with all of
    it told, the answer is exact. BuildError for any other place. `code` is a folder, a Python file,
    a wheel or the name of an installed package: its files are read, never run, and `Guess.code` has
    their classes that account for the tensors. CodeError where there is no such place. With `trust`
    that code is imported, in a process of its own, and the class that makes the file's tensors is
    the answer, with its arguments; `load` and `export` then import it in this process.
    `signatures` is a folder of signatures of the user's own, in place of the usual one.
    """
    from archfind import pipeline
    from archfind.types import Choice

    choice = Choice(choose, part, settings or {}, code=code, trust=trust, signatures=signatures)
    return pipeline.guess(source, choice, search=search, values=values)


def build(
    source: Path | Given | Checkpoint | Guess,
    *,
    choose: str = "",
    settings: Mapping[str, object] | None = None,
    part: str = "",
    accept_ambiguous: bool = False,
    accept_likely: bool = False,
    allow_expansion: bool = False,
    code: str = "",
    trust: bool = False,
    signatures: str = "",
) -> Built:
    """The guess as a live module with its proof: `Built.module`, `.loaded` of `.tensors`.

    `settings` tell what was assumed, or override config fields, which the strict load checks.
    Raises AmbiguousError where several functions fit, or what the outputs depend on was assumed
    (`accept_ambiguous` takes the first, as assumed), UnknownError where none fits, and BuildError
    with `.missing`, `.unexpected`, `.mismatched` where one nearly does. A network of no library is
    the module that `source` writes, where its grade is certain; with `accept_likely` where it is
    likely, and instead of a network that nearly fits. A network of more than 32
    times the file's bytes is only built with `allow_expansion`. `code` and `trust` are as of
    `guess`: the class's code is imported in this process, and its constructor run. `trust` alone
    is for a class that a signature of the user's own names, of the folder `signatures`.
    """
    from archfind import pipeline
    from archfind.types import Choice

    accepts = accept_ambiguous, accept_ambiguous
    choice = Choice(choose, part, settings or {}, *accepts, code, trust, accept_likely, signatures)
    return pipeline.build(source, choice, allow_expansion=allow_expansion)


def load(
    source: Path | Given | Checkpoint | Guess,
    *,
    choose: str = "",
    settings: Mapping[str, object] | None = None,
    part: str = "",
    accept_ambiguous: bool = False,
    accept_likely: bool = False,
    allow_expansion: bool = False,
    code: str = "",
    trust: bool = False,
    signatures: str = "",
) -> nn.Module:
    """The network of `source` as a module in eval mode, strictly loaded, nothing on the meta
    device. Arguments and errors are those of `build`; but where one network stands out, and only
    something about it is assumed, it is loaded so, with a warning unless `accept_ambiguous`.

    An .onnx whose network isn't known gives the graph itself as a module, with a warning; so
    parameters are its initializers.
    """
    import warnings

    from archfind import pipeline
    from archfind.types import Choice

    accepts = accept_ambiguous, False
    choice = Choice(choose, part, settings or {}, *accepts, code, trust, accept_likely, signatures)
    module, warning = pipeline.load(source, choice, allow_expansion=allow_expansion)
    if warning:
        warnings.warn(warning, stacklevel=2)
    return module


def export(
    source: Path | Checkpoint | Guess | Built,
    out: Path,
    *,
    choose: str = "",
    settings: Mapping[str, object] | None = None,
    part: str = "",
    accept_ambiguous: bool = False,
    accept_likely: bool = False,
    force: bool = False,
    opset: int | None = None,
    keep_unchecked: bool = False,
    dtype: str = "",
    max_shard_size: int = 0,
    half: bool = False,
    allow_expansion: bool = False,
    code: str = "",
    trust: bool = False,
    signatures: str = "",
    inputs: Sequence[str] = (),
) -> Exported:
    """Write the network of `source` to `out`, in the format of its suffix, and check it.

    To .safetensors and .pth the tensors are copied, whatever network they are of; `dtype` ("fp16",
    "bf16", "fp32") casts floats, `max_shard_size`, in bytes, makes several files and an index. To
    all else the network is built and loaded first, as it is where `settings` are given. `opset` and
    `half` (float16 inside) are for .onnx. More than 32 times the file's bytes are only written with
    `allow_expansion`. `code`, `trust` and `signatures` are as of `build`; `inputs` say what a class
    of that code runs on, batch first ("1x3x224x224", "1x128:int64"), where that isn't found by
    trying.

    ExportError where nothing could be written, `out` exists (`force` replaces it), or the result
    differs from the module (`keep_unchecked` keeps it). Otherwise as `build`.
    """
    from archfind import pipeline
    from archfind.types import Choice, Output

    accepts = accept_ambiguous, accept_ambiguous
    choice = Choice(choose, part, settings or {}, *accepts, code, trust, accept_likely, signatures)
    kept = force, opset, keep_unchecked, dtype, max_shard_size, half, allow_expansion, tuple(inputs)
    return pipeline.export(source, Output(os.fspath(out), *kept), choice)


def export_program(
    source: Path | Checkpoint,
    out: Path,
    *,
    inputs: Sequence[str] = (),
    force: bool = False,
    opset: int | None = None,
    keep_unchecked: bool = False,
    half: bool = False,
    allow_expansion: bool = False,
) -> Exported:
    """Run the TorchScript or torch.export program in `source`, which is as dangerous as running a
    stranger's script, and write it to the .onnx `out`, checked against the program's outputs.

    `inputs` say what it runs on, batch first: "1x3x224x224", or "1x128:int64"; a torch.export
    program brings its own; of more than a gigabyte with `allow_expansion`. ExportError where
    `source` holds no program, or as `export`.
    """
    from archfind.formats import PROGRAMS
    from archfind.pipeline import missing_library
    from archfind.types import Checkpoint
    from archfind.writing import target

    target.refuse_program(out, target.sources_of(source), inputs, force, opset)
    checkpoint = source if isinstance(source, Checkpoint) else open(source)
    if checkpoint.format not in PROGRAMS:
        text = "it holds no TorchScript or torch.export program; leave out --trust"
        raise ExportError(text, checkpoint.path)
    if not inputs and checkpoint.format != "torch-export":
        raise ExportError(target.NO_INPUT, checkpoint.path)
    try:
        from archfind.exporters.program import write_program
    except ModuleNotFoundError as error:
        raise missing_library(error, "exporting a program", "all") from error
    return write_program(
        checkpoint,
        out,
        inputs,
        force=force,
        opset=opset,
        keep_unchecked=keep_unchecked,
        half=half,
        allow_expansion=allow_expansion,
    )


def source(
    source: Path | Given | Checkpoint | Guess,
    *,
    settings: Mapping[str, object] | None = None,
    part: str = "",
    pair: tuple[Path, Path] | None = None,
    onnx: Path = "",
    images: Path = "",
) -> Source:
    """A readable `nn.Module` for a network that no library has: `Source.text` is a Python file that
    imports only torch and whose `Model` loads the state dict strictly. Needs no torch itself.

    `Source.grade` says how much of its forward is known, `Source.unseen` what no tensor shows, with
    the reason for each value; `settings` change these ({"conv1.stride": 2}). BuildError for any
    other place, or where the file is no network. `part` names one of several networks in the file.
    `pair` are files with inputs of the network and what it gives for them ("x.npy", "y.npy"),
    `onnx` is an .onnx of the same network: what no tensor shows is searched for until the outputs
    agree, which needs torch. BuildError where they never do. `images` is a folder with pictures in
    one folder for each label: the classes agree with these as well as they can, which is likely at
    the most. BuildError where that is no better than chance, or several of the three are given.
    """
    from archfind import pipeline

    if (pair is not None) + bool(onnx) + bool(images) > 1:
        raise BuildError("pair, onnx and images go one at a time")
    if images:
        return pipeline.source_by_labels(source, settings or {}, part, images)
    if pair is None and not onnx:
        return pipeline.source(source, settings or {}, part)
    return pipeline.proven_source(source, settings or {}, part, pair, onnx)


def variant(entry: str, changes: Mapping[str, object]) -> nn.Module:
    """The class of a registered entry with other arguments, and fresh weights: what `build` in an
    answer calls where the library's own builder doesn't take them. `changes` has whole arguments
    ({"embed_dim": 72}) or leaves of nested ones ({"depths.2": 9}). Raises BuildError."""
    from archfind.building.instantiate import variant_of_entry as build_variant

    return build_variant(entry, changes)


def _late(module: str, function: str) -> Callable[..., Any]:
    """A function of the room that makes documents, imported once it is called."""
    from importlib import import_module

    def call(result: object) -> Any:
        return getattr(import_module(f"archfind.report.{module}"), function)(result)

    return call


shown.documents.update(
    Guess=_late("answer", "guess_document"),
    Checkpoint=_late("inspection", "inspect_document"),
    Exported=_late("answer", "export_document"),
)
shown.lines.update(
    Guess=lambda guess: _late("answer", "guess_lines")(guess.to_dict()),
    Checkpoint=lambda checkpoint: _late("inspection_text", "inspect_lines")(checkpoint.to_dict()),
    Exported=_late("answer", "export_lines"),
)


def __getattr__(name: str) -> object:
    """Submodules that need torch, when they are asked for."""
    if name in ("repair", "onnx"):
        from importlib import import_module

        return import_module(f"archfind.{name}")
    raise AttributeError(f"module 'archfind' has no attribute {name!r}")
