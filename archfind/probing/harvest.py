"""Model libraries -> the families in signatures/: every class with all of its registered networks,
learned by probing."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from torch import nn

from archfind.compile_index import read_texts
from archfind.families.text import family_text
from archfind.harvest import create_on_meta
from archfind.probing.config import Config, Leaf, captured, moved
from archfind.probing.family import Learned, Preset, families
from archfind.probing.probe import on_meta, shapes_of
from archfind.progress import progress
from archfind.providers import provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.providers import Provider

Classes = dict[type[nn.Module], list[Preset]]


def build_families(
    name: str, folder: Path, only: str = "", seconds: float = 60, part: tuple[int, int] = (0, 1)
) -> list[str]:
    """Write `folder`/`name`/families/*.txt for the provider `name`, one file a class; return a line
    for each class. Classes that have a file already are left as they are, so stopped work goes on
    where it stopped: delete a file to learn it anew. `part` (n, of) takes every of-th class."""
    source = provider(name)
    release = version(source.LIBRARY)
    out = folder / name / "families"
    out.mkdir(parents=True, exist_ok=True)
    names = _names_by_class(folder, name)
    # Few entries first: a class of a hundred takes as long as ten others.
    chosen = sorted((cls for cls in names if only in cls), key=lambda cls: len(names[cls]))
    chosen = chosen[part[0] :: part[1]]
    lines: list[str] = []
    for path in progress(chosen, len(chosen), f"families {name}"):
        module, _, qualified = path.rpartition(".")
        file = out / f"{module.rsplit('.', 1)[-1]}.{qualified}.txt"
        if file.exists():
            continue
        found: list[str] = []
        for cls, presets in presets_of(source, names[path]).items():
            try:
                learned = families(cls, cls, presets, seconds)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                lines.append(f"{path}: {type(error).__name__}: {error}")
                continue
            found += [_text(name, source, cls, n, one) for n, one in enumerate(learned, 1)]
            covered = sum(len(family.presets) for family in learned)
            lines.append(f"{path}: {covered} of {len(presets)} in {len(learned)} families")
        beside = file.with_suffix(".new")
        beside.write_text("\n".join([f"# {source.LIBRARY} {release}\n", *found]))
        beside.replace(file)
    return lines


def _names_by_class(folder: Path, library: str) -> dict[str, list[str]]:
    """The entries of a library in signatures/ by the class that they build."""
    found: dict[str, list[str]] = {}
    for text in read_texts(folder):
        provider_name, _, name = text.id.partition("/")
        if provider_name == library:
            found.setdefault(text.cls, []).append(name)
    return found


def presets_of(source: Provider, names: Sequence[str]) -> Classes:
    """Registered networks by their class, with the arguments that the class got."""
    found: Classes = {}
    for name in names:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # some constructors print
                module, cls, config = captured(lambda name=name: create_on_meta(source, name))
        except Exception:  # a library may raise anything; that name has no family then
            continue
        if config:
            found.setdefault(cls, []).append(Preset(name, config, shapes_of(module)))
    return found


def _text(library: str, source: Provider, cls: type[nn.Module], number: int, found: Learned) -> str:
    presets = {f"{library}/{p.name}": dict(p.values()) for p in found.presets}
    return family_text(
        f"{cls.__module__}.{cls.__qualname__}/{number}",
        f"{library}/{found.base}",
        (found.right, found.held),
        list(_direct(source, cls, found)),
        found.options,
        presets,
        found.lines,
    )


def _direct(source: Provider, cls: type[nn.Module], found: Learned) -> Iterator[str]:
    """The arguments that the library's own builder hands on to the class as they are."""
    base = found.presets[0]
    roots: dict[str, dict[str, Leaf]] = {}
    for path, options in found.options.items():
        if options and path.partition(".")[0] not in roots:
            roots[path.partition(".")[0]] = {path: options[0]}
    for root, moves in roots.items():
        try:
            config: Config = moved(base.config, moves)
            wanted = shapes_of(on_meta(cls, config))
            given = json.loads(json.dumps(config[root]))  # as a person would write it
            if shapes_of(create_on_meta(source, base.name, **{root: given})) == wanted:
                yield root
        except Exception:  # the builder, or the class, refuses
            continue
