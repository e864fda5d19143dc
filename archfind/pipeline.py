"""From a path to a written network: open, guess, settle, build, export.

What `archfind`'s functions of the same names hand on to. This module imports torch and the model
libraries only where a network is built.
"""

from __future__ import annotations

import os
from os import PathLike
from time import monotonic

from archfind.errors import BuildError, CodeError, ExportError, MissingLibrary, UnknownError
from archfind.escape import escape
from archfind.internal_errors import OwnErrors
from archfind.steps import done
from archfind.types import Checkpoint, Choice, Guess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from archfind.formats.in_memory import Given
    from archfind.types import Built, Exported, Match, Output, Source

    Path = str | PathLike[str]

_SEARCHED = 90.0  # seconds that a search may take
_SECONDS = 120.0  # that looking for a network may take before it is loaded, searches and all
_FITS = ("exact", "ambiguous")


def open(source: Path | Given) -> Checkpoint:
    """What a file holds: at a path, in an open binary file, in bytes; or what a state dict does."""
    if isinstance(source, str | PathLike):
        from archfind import formats

        return formats.open(source)
    from archfind.formats.in_memory import open_given

    return open_given(source)


def guess(
    source: Path | Given | Checkpoint | Guess,
    choice: Choice,
    *,
    search: bool = False,
    values: bool = True,
) -> Guess:
    """Which network `source` is, searched for where nothing fits and `search` asks for it, with
    what the choice tells of it, what its values decide where `values` may be read, and the classes
    of its code that it may be of."""
    if choice.signatures:
        from archfind.database.entries import with_signatures

        with with_signatures(choice.signatures):
            return guess(source, _usual(choice), search=search, values=values)
    from archfind.database import entries
    from archfind.matching import identify

    is_coded = choice.trust and choice.choose.startswith("code/")  # a name of the user's own code
    if isinstance(source, Guess):
        found = source
    else:
        checkpoint = source if isinstance(source, Checkpoint) else open(source)
        choose = "" if is_coded else choice.choose
        with OwnErrors(checkpoint.path, checkpoint):
            found = identify.guess_checkpoint(
                checkpoint, entries.default(), choose=choose, part=choice.part
            )
            found = _weighed(found, choice.part) if values else found
        done("identified")
    if search and found.kind is None:
        identified = found
        found = _searched(found, choice.choose)
        if found.searched or found.status != identified.status:
            done("searched")
    if choice.code and found.kind is None:
        found = _with_code(found, choice)
    if found.matches and found.matches[0].trusted is not None:
        from archfind.trusted.answers import with_chosen_class
        from archfind.trusted.learnt import permitted

        found = with_chosen_class(found, choice.choose) if choice.choose else found
        found = permitted(found, choice.trust)
    elif choice.trust and not choice.code:
        text = "trust is for code: say where it is, with --code PLACE (code=)"
        raise CodeError(text, found.canonical.checkpoint.path)
    return _settled(found, choice) if choice.settings else found


def _usual(choice: Choice) -> Choice:
    """The choice where its signatures are those that are asked."""
    from archfind.frozen import replace

    return replace(choice, signatures="")


def _weighed(found: Guess, part: str) -> Guess:
    """The guess with what the values of the weights decide."""
    if not any(_is_open(match) for match in found.matches[:1]):
        return found
    from archfind.database import entries
    from archfind.matching import identify

    try:
        from archfind.evidence.weights.weighed import weighed

        checkpoint = found.canonical.checkpoint
        return weighed(
            found,
            lambda entry: identify.guess_checkpoint(
                checkpoint, entries.default(), choose=entry, part=part
            ),
        )
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("archfind"):
            raise
        return found  # without numpy, values aren't read


def _is_open(match: Match) -> bool:
    """Whether values may decide something about a match: its heads, or how it pads an image."""
    return any(item.place.endswith(("heads", "n_head", "nhead")) for item in match.assumed) or any(
        "Same" in twin.differs for twin in match.twins
    )


def _settled(found: Guess, choice: Choice) -> Guess:
    """The guess with what was assumed told by the choice's settings; BuildError for any other
    setting."""
    from archfind.matching.assumed import settled_by_settings

    told, rest = settled_by_settings(found, choice.settings)
    if rest:
        places = [item.place for match in told.matches[:1] for item in match.assumed]
        text = f"nothing is assumed at {', '.join(rest)}; what is: {', '.join(places) or 'nothing'}"
        raise BuildError(text, found.canonical.checkpoint.path)
    return told


def _with_code(found: Guess, choice: Choice) -> Guess:
    """The guess with the classes of a user's code that account for its tensors; of code that is
    trusted, with the one that makes them."""
    from archfind.codebase.ranked import classes_of
    from archfind.frozen import replace
    from archfind.state_dicts.canonical import networks

    checkpoint = found.canonical.checkpoint
    with OwnErrors(checkpoint.path, checkpoint):
        own = networks(checkpoint)  # in the file's names, whatever library's were tried
        place = found.part if found.part in own else next(iter(own), "")
        canonical = own[place] if len(own) == 1 or found.part in own else found.canonical
        index = canonical.whole or canonical.index
        shapes = {key: spec.shape for key, spec in index.items()}
        classes, read, unread = classes_of(shapes, choice.code)
    notes = found.warnings
    if unread:
        notes += (f"{unread} of {read} Python files don't parse (Python 2, or newer syntax)",)
    found = replace(found, code=tuple(classes), warnings=notes)
    if not choice.trust:
        return found
    from archfind.trusted.answers import trusted_answer

    with OwnErrors(checkpoint.path, checkpoint):
        return trusted_answer(found, canonical, choice.code, choice.choose)


def _searched(found: Guess, choose: str) -> Guess:
    """The guess, or what building the likest classes gives."""
    from archfind.database import entries

    try:
        from archfind.searching.search import search
    except ModuleNotFoundError as error:
        raise missing_library(error, "searching for the network") from error
    from archfind.providers.building import building

    checkpoint = found.canonical.checkpoint
    with building(), OwnErrors(checkpoint.path, checkpoint):
        return search(found, entries.default(), choose, min(_SEARCHED, _SECONDS))


def source(
    source: Path | Given | Checkpoint | Guess, settings: Mapping[str, object], part: str = ""
) -> Source:
    """The module that is written for the state dict of a file, or of an earlier answer."""
    from archfind.evidence.other_files import kind_of_checkpoint
    from archfind.sourcing.network import written
    from archfind.state_dicts.canonical import networks

    if isinstance(source, Guess):
        checkpoint = source.canonical.checkpoint
    else:
        checkpoint = source if isinstance(source, Checkpoint) else open(source)
    with OwnErrors(checkpoint.path, checkpoint):
        kind = kind_of_checkpoint(checkpoint)
        held = networks(checkpoint)
        if kind is not None or not held:
            what = kind.words if kind is not None else "it holds no state dict"
            raise BuildError(f"no network to write the source of: {what}", checkpoint.path)
        if part and part not in held:
            names = ", ".join(map(escape, list(held)[:20]))
            raise BuildError(f"there is no part {part!r}; there are: {names}", checkpoint.path)
        return written(held[part] if part else next(iter(held.values())), settings)


def proven_source(
    source: Path | Given | Checkpoint | Guess,
    settings: Mapping[str, object],
    part: str,
    pair: tuple[Path, Path] | None,
    onnx: Path,
) -> Source:
    """The module that is written for a state dict so that it gives what the network is known to
    give: the arrays in the files of `pair`, or what the .onnx gives."""
    made = globals()["source"](source, settings, part)
    checkpoint = made.canonical.checkpoint
    try:
        from archfind.building.known_pair import arrays, onnx_pair
        from archfind.building.proven import proven
    except ModuleNotFoundError as error:
        raise missing_library(error, "comparing outputs") from error
    with OwnErrors(checkpoint.path, checkpoint):
        if pair is not None:
            names = [os.path.basename(os.fspath(path)) for path in pair]
            inputs, outputs = (arrays(os.fspath(path)) for path in pair)
            proof = f"{escape(names[0])} and {escape(names[1])}"
        else:
            guess = Guess(made.canonical, "unknown", ())
            inputs, outputs = onnx_pair(os.fspath(onnx), made, guess)
            proof = f"seeded inputs and the outputs of {escape(os.path.basename(os.fspath(onnx)))}"
        return proven(made.canonical, settings, inputs, outputs, proof)


def source_by_labels(
    source: Path | Given | Checkpoint | Guess,
    settings: Mapping[str, object],
    part: str,
    images: Path,
) -> Source:
    """The module that is written for a state dict so that its classes for pictures agree with their
    labels: `images` has one folder for each label."""
    made = globals()["source"](source, settings, part)
    checkpoint = made.canonical.checkpoint
    try:
        from archfind.building.fitted_labels import fitted_to_labels
        from archfind.building.labelled_pictures import labelled_pictures
    except ModuleNotFoundError as error:
        raise missing_library(error, "comparing labels") from error
    with OwnErrors(checkpoint.path, checkpoint):
        shapes = (spec.shape for spec in made.canonical.index.values() if len(spec.shape) > 1)
        given = labelled_pictures(os.fspath(images), next(shapes, ()))
        return fitted_to_labels(made.canonical, settings, given)


def build(
    source: Path | Given | Checkpoint | Guess, choice: Choice, *, allow_expansion: bool = False
) -> Built:
    """The guess as a live module, strictly loaded."""
    if choice.signatures:
        from archfind.database.entries import with_signatures

        with with_signatures(choice.signatures):
            return build(source, _usual(choice), allow_expansion=allow_expansion)
    try:
        from archfind.building.instantiate import build_guess as build_guess
    except ModuleNotFoundError as error:
        raise missing_library(error, "building the network") from error
    from archfind.frozen import replace
    from archfind.providers.building import building

    # Settings may be the constructor's, too: they are told when the network is built.
    found = guess(source, replace(choice, settings={}))
    checkpoint = found.canonical.checkpoint
    with building(), OwnErrors(checkpoint.path, checkpoint):
        if checkpoint.format != "onnx":
            built = _built(build_guess, found, choice, allow_expansion)
            done("loaded")
            return built
        try:
            from archfind import from_onnx
        except ModuleNotFoundError as error:
            raise missing_library(error, "reading a graph", "convert") from error
        built = from_onnx.build_from_graph(found, choice.choose, allow_expansion)
        done("loaded")
        return built


def _built(
    build_guess: Callable[..., Built], found: Guess, choice: Choice, allow_expansion: bool
) -> Built:
    """The network of a guess: searched for where nothing fits, and again where building it says
    that rules were wrong, or tables of other shapes tell what weights don't: the size of the image,
    say."""
    from archfind.formats import expansion

    checkpoint = found.canonical.checkpoint
    nbytes = 0 if allow_expansion else expansion.in_memory(found.canonical.index)
    too_much = expansion.excess(nbytes, checkpoint.files)
    if too_much:
        raise BuildError(too_much, checkpoint.path)
    end = monotonic() + _SECONDS
    accepts = choice.accept_ambiguous, choice.accept_assumed
    if found.matches and found.matches[0].trusted is not None:
        return build_guess(found, choice.settings, *accepts)
    if choice.trust and found.status not in _FITS:
        why = "; ".join(found.warnings[-3:])
        raise BuildError(f"no class below {choice.code} was proven: {why}", checkpoint.path)
    found = guess(found, Choice(choice.choose), search=True)
    is_record = found.is_named and not found.matches[0].entry.callable
    is_open = found.status in ("unknown", "close")[: 1 + choice.accept_likely]
    if found.kind is None and (is_open or is_record):
        written = _written(found, choice)
        if written is not None:
            return written
    built: Built | None = None
    refusal: BuildError | None = None
    try:
        built = build_guess(found, choice.settings, *accepts)
        wrong = built.odd_tables()
    except BuildError as error:
        refusal = error
        best = found.matches[0] if found.matches else None
        # A class may refuse, and for a variant say so in its own words.
        refused = best is not None and (best.pretrained or best.variant or best.resized)
        wrong = error.missing or error.unexpected or error.mismatched or refused
    again = _mended(found, choice.choose, end) if wrong and not choice.settings else None
    if again is not None:
        return build_guess(again, None, *accepts)
    if built is None:
        assert refusal is not None
        raise refusal
    return built


def _written(found: Guess, choice: Choice) -> Built | None:
    """The module that is written for a network of no library, as a live one. UnknownError where its
    forward isn't known, or only likely, and `accept_likely` doesn't take that; None where the file
    is a graph, or a program that isn't known."""
    from archfind.building.from_source import build_written
    from archfind.formats import PROGRAMS

    checkpoint = found.canonical.checkpoint
    if choice.choose or checkpoint.format == "onnx" or len(found.parts) > 1 > len(choice.part):
        return None
    made = source(found, choice.settings, choice.part or found.part)
    if checkpoint.format in PROGRAMS and made.grade != "certain" and not choice.accept_likely:
        return None
    why = ""
    if made.grade == "partial":
        why = f"and what archfind source writes is open: {'; '.join(made.questions[:3])}"
    elif made.grade != "certain" and not choice.accept_likely:
        count = sum(item.source != "file" for item in made.unseen)
        why = f"archfind source writes its module, likely, with {count} assumptions: "
        why += "--accept-likely takes it"
    if why:
        copied = ".safetensors and .pth are written without a network"
        more = "" if found.searched else "; guess --search builds its likes"
        names = tuple(match.entry.id for match in found.matches)
        what = "unknown, no signature fits"
        if found.is_named:
            what = f"no code stands behind {names[0]}, a record of keys and shapes"
        text = f"{what}; {why}{more * (not found.is_named)}; {copied}"
        raise UnknownError(text, checkpoint.path, names)
    return build_written(found, made)


def _mended(found: Guess, choose: str, end: float) -> Guess | None:
    """A better answer where rules said what their class doesn't make, looked for until `end`; None
    where there is none."""
    from archfind.database import entries
    from archfind.frozen import replace

    if found.matches[0].pretrained is not None:
        from archfind.database.model_types import model_types_beside
        from archfind.searching.config_search import SECONDS, mended

        types = model_types_beside(entries.default().path)
        seconds = min(SECONDS, end - monotonic())
        return mended(found, types, seconds) if types is not None else None
    if found.status not in _FITS or not (found.matches[0].variant or found.matches[0].resized):
        return None
    from archfind.searching.search import search

    doubted = replace(found, status="close", chosen_by="")
    better = search(doubted, entries.default(), choose, max(end - monotonic(), 1.0))
    return better if better.status in _FITS[: 1 + _FITS.index(found.status)] else None


def missing_library(error: ModuleNotFoundError, what: str, extra: str = "torch") -> Exception:
    """What to install, where a library is missing; the error itself where it's archfind's own."""
    if (error.name or "").startswith("archfind"):
        return error
    return MissingLibrary(what, str(error.name), extra)


def load(
    source: Path | Given | Checkpoint | Guess, choice: Choice, *, allow_expansion: bool = False
) -> tuple[nn.Module, str]:
    """The network in eval mode, and a warning, "" where there is nothing to say; an .onnx whose
    network isn't known gives its graph as a module."""
    from archfind.frozen import replace

    try:
        taken = replace(choice, accept_assumed=True)
        built = build(source, taken, allow_expansion=allow_expansion)
    except UnknownError as error:
        path = os.fspath(source) if isinstance(source, str | PathLike) else error.path
        graph = open(path) if path is not None and not choice.choose else None
        if graph is None or graph.format != "onnx":
            raise
        from archfind.from_onnx import graph_module

        module = graph_module(graph.path, () if allow_expansion else graph.files)
        return module, f"{error.message}; this is the graph itself, node by node"
    if not built.match.assumed or choice.accept_ambiguous or built.match.written is not None:
        return built.module, ""
    from archfind.matching.assumed import warning

    return built.module, warning(built.match)


def export(source: Path | Checkpoint | Guess | Built, output: Output, choice: Choice) -> Exported:
    """The network written and checked: its tensors copied to .safetensors and .pth, whatever
    network they are of; for all else, and with settings, it is built first."""
    if choice.signatures:
        from archfind.database.entries import with_signatures

        with with_signatures(choice.signatures):
            return export(source, output, _usual(choice))
    from archfind.types import Built
    from archfind.writing import target

    out, force, copied = output.path, output.force, not isinstance(source, Built)
    opset, half, expanded = output.opset, output.half, output.allow_expansion
    dtype, size = output.dtype, output.max_shard_size
    copied = copied and not choice.settings
    sources = target.sources_of(source)
    target.refuse_export(
        out,
        sources,
        force=force,
        copied=copied,
        opset=opset,
        half=half,
        dtype=dtype,
        max_shard_size=size,
    )
    from archfind import exporters
    from archfind.frozen import replace

    if not isinstance(source, Built):
        source = guess(source, replace(choice, settings={}))
        choice = replace(choice, code="", trust=False)  # which is known now
        target.refuse_network(source, out)
        if copied and exporters.copies(out) and exporters.convertible(source, choice.choose):
            exported = exporters.convert(
                source,
                out,
                dtype=dtype,
                max_shard_size=size,
                force=force,
                allow_expansion=expanded,
            )
            done("exported")
            return exported
    if dtype or size:
        text = "dtype and max_shard_size are for what is copied between .pth and .safetensors"
        raise ExportError(text, out)
    if isinstance(source, Built):
        built = source
    else:
        try:
            built = build(source, choice, allow_expansion=expanded)
        except UnknownError as error:
            if choice.choose or source.canonical.checkpoint.format != "onnx":
                raise
            from archfind.from_onnx.write import write_graph

            return write_graph(
                source,
                out,
                error.message,
                force=force,
                opset=opset,
                half=half,
                allow_expansion=expanded,
            )
    from archfind.providers.building import building

    checkpoint = built.guess.canonical.checkpoint
    with building(), OwnErrors(checkpoint.path, checkpoint):
        options: dict[str, object] = {}
        if output.inputs:
            from archfind.exporters.inputs import example_from_shapes

            options["example"] = example_from_shapes(output.inputs, expanded)
        unchecked = output.keep_unchecked
        return exporters.export(
            built,
            out,
            force=force,
            opset=opset,
            keep_unchecked=unchecked,
            half=half,
            options=options,
        )
