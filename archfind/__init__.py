"""Which network is this checkpoint? Name it, build it, load it strictly, export it.

    archfind.open(path) -> Checkpoint       what the file holds, from its header alone
    archfind.guess(path) -> Guess           which network it is
    archfind.load(path) -> nn.Module        built, strictly loaded, in eval mode
    archfind.export(path, out) -> Exported  written and checked; .onnx .safetensors .pth
    archfind.repair.plan(guess) -> Plan     what keeps it from loading strictly, as edits
    archfind.repair.apply(plan, out)        a fixed copy, strictly loaded

Each takes a path or the earlier stage's result. Nothing in a file is ever run, but by
`export_program`, for users who trust the file. torch and the model
libraries are imported by `load` and `export` only.
"""

from __future__ import annotations

import os
from os import PathLike
from time import monotonic

from archfind.errors import (
    AmbiguousError,
    ArchfindError,
    BuildError,
    CheckpointError,
    ExportError,
    InternalError,
    RepairError,
    SignatureError,
    UnknownError,
)
from archfind.own_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from archfind import repair
    from archfind.types import Built, Checkpoint, Exported, Guess

    Path = str | PathLike[str]

__version__ = "0.1.0"
_SECONDS = 120.0  # that looking for a network may take before it is loaded, searches and all
__all__ = [
    "AmbiguousError",
    "ArchfindError",
    "BuildError",
    "CheckpointError",
    "ExportError",
    "InternalError",
    "RepairError",
    "SignatureError",
    "UnknownError",
    "build",
    "export",
    "export_program",
    "guess",
    "load",
    "open",
    "repair",
    "variant",
]


def open(path: Path) -> Checkpoint:
    """What the file at `path` holds. CheckpointError says what else it is, if not a checkpoint."""
    from archfind import formats

    return formats.open(path)


def guess(
    source: Path | Checkpoint | Guess,
    *,
    choose: str = "",
    part: str = "",
    search: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Guess:
    """Which network `source` is; `choose` names an entry ("timm/resnetaa50") among those that fit,
    `part` one of several networks in the file.

    From names and shapes alone, in milliseconds. `search`, where that finds nothing that fits,
    builds the likest classes with other arguments until the file's tensors come out, for up to a
    minute and a half; it needs torch and the library. `build`, `load` and `export` always do.
    `settings` tell what is assumed ({"fc.1": "gelu"}; `Match.assumed` has the places): with all of
    it told, the answer is exact. BuildError for any other place.
    """
    from archfind import database
    from archfind.assumed import settled
    from archfind.identify import guess as guess_checkpoint
    from archfind.types import Checkpoint, Guess

    if isinstance(source, Guess):
        found = source
    else:
        checkpoint = source if isinstance(source, Checkpoint) else open(source)
        with OwnErrors(checkpoint.path, checkpoint):
            found = guess_checkpoint(checkpoint, database.default(), choose=choose, part=part)
    if search and found.kind is None:
        found = _sought(found, choose)
    if not settings:
        return found
    told, rest = settled(found, settings)
    if rest:
        places = [item.place for match in told.matches[:1] for item in match.assumed]
        text = f"nothing is assumed at {', '.join(rest)}; what is: {', '.join(places) or 'nothing'}"
        raise BuildError(text, found.canonical.checkpoint.path)
    return told


def _sought(found: Guess, choose: str) -> Guess:
    """The guess, or what building the likest classes gives."""
    from archfind import database

    try:
        from archfind.search import search as search_classes
    except ModuleNotFoundError as error:
        raise _needs(error, "searching for the network") from error
    from archfind.providers.building import building

    checkpoint = found.canonical.checkpoint
    with building(), OwnErrors(checkpoint.path, checkpoint):
        return search_classes(found, database.default(), choose)


def build(
    source: Path | Checkpoint | Guess,
    *,
    choose: str = "",
    settings: Mapping[str, object] | None = None,
    part: str = "",
    accept_ambiguous: bool = False,
    accept_likely: bool = False,
    allow_expansion: bool = False,
) -> Built:
    """The guess as a live module with its proof: `Built.module`, `.loaded` of `.tensors`.

    `settings` tell what was assumed, or override config fields, which the strict load checks.
    Raises AmbiguousError where several functions fit, or what the outputs depend on was assumed
    (`accept_ambiguous` takes the first, as assumed), UnknownError where none fits, and BuildError
    with `.missing`, `.unexpected`, `.mismatched` where one nearly does.
    `accept_likely` is for reconstructed networks, of which there are none yet. A network of more
    than 32 times the file's bytes is only built with `allow_expansion`.
    """
    accepted = accept_ambiguous, accept_ambiguous
    return _build(source, choose, settings or {}, part, accepted, allow_expansion)


def _build(
    source: Path | Checkpoint | Guess,
    choose: str,
    settings: Mapping[str, object],
    part: str,
    accepts: tuple[bool, bool],
    allow_expansion: bool,
) -> Built:
    """As `build`; `accepts` says whether the first of several is taken, and what is assumed."""
    try:
        from archfind.instantiate import build as build_guess
    except ModuleNotFoundError as error:
        raise _needs(error, "building the network") from error

    from archfind.providers.building import building

    found = guess(source, choose=choose, part=part)
    checkpoint = found.canonical.checkpoint
    with building(), OwnErrors(checkpoint.path, checkpoint):
        return _built(build_guess, found, choose, settings, accepts, allow_expansion)


def _built(
    build_guess: Callable[..., Built],
    found: Guess,
    choose: str,
    settings: Mapping[str, object],
    accepts: tuple[bool, bool],
    allow_expansion: bool,
) -> Built:
    """What `build` does with a guess: searched where nothing fits, and again where building it says
    that rules were wrong."""
    if found.canonical.checkpoint.format == "onnx":
        try:
            from archfind import from_onnx
        except ModuleNotFoundError as error:
            raise _needs(error, "reading a graph", "convert") from error
        return from_onnx.build(found, choose, allow_expansion)
    from archfind import expansion

    checkpoint = found.canonical.checkpoint
    nbytes = 0 if allow_expansion else expansion.in_memory(found.canonical.index)
    too_much = expansion.excess(nbytes, checkpoint.files)
    if too_much:
        raise BuildError(too_much, checkpoint.path)
    end = monotonic() + _SECONDS
    found = guess(found, choose=choose, search=True)
    try:
        built = build_guess(found, settings, *accepts)
    except BuildError as error:
        best = found.matches[0] if found.matches else None
        # A class may refuse, and for a variant say so in its own words.
        refused = best is not None and (best.pretrained is not None or best.variant is not None)
        wrong = error.missing or error.unexpected or error.mismatched or refused
        again = _searched(found, choose, end) if wrong and not settings else None
        if again is None:
            raise
        return build_guess(again, None, *accepts)
    # Tables of other shapes tell what weights don't: the size of the image, say.
    again = _searched(found, choose, end) if built.odd_tables() and not settings else None
    return built if again is None else build_guess(again, None, *accepts)


def _searched(found: Guess, choose: str, end: float) -> Guess | None:
    """A better answer where rules said what their class doesn't make, looked for until `end`; None
    where there is none."""
    from archfind.frozen import replace

    if found.matches[0].pretrained is not None:
        from archfind import database
        from archfind.pretrained.database import beside
        from archfind.search_configured import SECONDS, mended

        types = beside(database.default().path)
        seconds = min(SECONDS, end - monotonic())
        return mended(found, types, seconds) if types is not None else None
    fits = ("exact", "ambiguous")
    if found.status not in fits or found.matches[0].variant is None:
        return None
    from archfind import database
    from archfind.search import search

    doubted = replace(found, status="close", chosen_by="")
    better = search(doubted, database.default(), choose, max(end - monotonic(), 1.0))
    return better if better.status in fits[: 1 + fits.index(found.status)] else None


def _needs(error: ModuleNotFoundError, what: str, extra: str = "torch") -> Exception:
    """What to install, where a library is missing; the error itself where it's archfind's own."""
    if (error.name or "").startswith("archfind"):
        return error
    return BuildError(f"{what} needs {error.name}: pip install 'archfind[{extra}]'")


def load(
    source: Path | Checkpoint | Guess,
    *,
    choose: str = "",
    settings: Mapping[str, object] | None = None,
    part: str = "",
    accept_ambiguous: bool = False,
    accept_likely: bool = False,
    allow_expansion: bool = False,
) -> nn.Module:
    """The network of `source` as a module in eval mode, strictly loaded, nothing on the meta
    device. Arguments and errors are those of `build`; but where one network stands out, and only
    something about it is assumed, it is loaded so, with a warning unless `accept_ambiguous`.

    An .onnx whose network isn't known gives the graph itself as a module, with a warning; so
    parameters are its initializers.
    """
    import warnings

    found = source if isinstance(source, str | PathLike) else None
    try:
        accepted = accept_ambiguous, True
        built = _build(source, choose, settings or {}, part, accepted, allow_expansion)
        if built.match.assumed and not accept_ambiguous:
            from archfind.assumed import warning

            warnings.warn(warning(built.match), stacklevel=2)
        return built.module
    except UnknownError as error:
        path = os.fspath(found) if found is not None else error.path
        graph = open(path) if path is not None and not choose else None
        if graph is None or graph.format != "onnx":
            raise
        from archfind.from_onnx import graph_module

        module = graph_module(graph.path, () if allow_expansion else graph.files)
        warnings.warn(f"{error.message}; this is the graph itself, node by node", stacklevel=2)
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
) -> Exported:
    """Write the network of `source` to `out`, in the format of its suffix, and check it.

    To .safetensors and .pth the tensors are copied, whatever network they are of; `dtype` ("fp16",
    "bf16", "fp32") casts floats, `max_shard_size`, in bytes, makes several files and an index. To
    all else the network is built and loaded first, as it is where `settings` are given. `opset` and
    `half` (float16 inside) are for .onnx. More than 32 times the file's bytes are only written with
    `allow_expansion`.

    ExportError where nothing could be written, `out` exists (`force` replaces it), or the result
    differs from the module (`keep_unchecked` keeps it). Otherwise as `build`.
    """
    from archfind.types import Built
    from archfind.writing import target

    copied = not isinstance(source, Built) and not settings
    target.refuse_export(
        out,
        target.sources_of(source),
        force=force,
        copied=copied,
        opset=opset,
        half=half,
        dtype=dtype,
        max_shard_size=max_shard_size,
    )
    from archfind import exporters

    if not isinstance(source, Built):
        source = guess(source, choose=choose, part=part)
        target.refuse_network(source, out)
    if not isinstance(source, Built) and copied and exporters.copies(out):
        found = source
        if exporters.convertible(found, choose):
            return exporters.convert(
                found,
                out,
                dtype=dtype,
                max_shard_size=max_shard_size,
                force=force,
                allow_expansion=allow_expansion,
            )
    if dtype or max_shard_size:
        text = "dtype and max_shard_size are for what is copied between .pth and .safetensors"
        raise ExportError(text, str(out))
    if isinstance(source, Built):
        built = source
    else:
        try:
            built = build(
                source,
                choose=choose,
                settings=settings,
                part=part,
                accept_ambiguous=accept_ambiguous,
                accept_likely=accept_likely,
                allow_expansion=allow_expansion,
            )
        except UnknownError as error:
            found = source
            if choose or found.canonical.checkpoint.format != "onnx":
                raise
            from archfind.from_onnx.write import write_graph

            return write_graph(
                found,
                out,
                error.message,
                force=force,
                opset=opset,
                half=half,
                allow_expansion=allow_expansion,
            )
    from archfind.providers.building import building

    checkpoint = built.guess.canonical.checkpoint
    with building(), OwnErrors(checkpoint.path, checkpoint):
        return exporters.export(
            built, out, force=force, opset=opset, keep_unchecked=keep_unchecked, half=half
        )


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
        raise _needs(error, "exporting a program", "all") from error
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


def variant(entry: str, changes: Mapping[str, object]) -> nn.Module:
    """The class of a registered entry with other arguments, and fresh weights: what `build` in an
    answer calls where the library's own builder doesn't take them. `changes` has whole arguments
    ({"embed_dim": 72}) or leaves of nested ones ({"depths.2": 9}). Raises BuildError."""
    from archfind.instantiate import variant as build_variant

    return build_variant(entry, changes)


def __getattr__(name: str) -> object:
    """Submodules that need torch, when they are asked for."""
    if name in ("repair", "onnx"):
        from importlib import import_module

        return import_module(f"archfind.{name}")
    raise AttributeError(f"module 'archfind' has no attribute {name!r}")
