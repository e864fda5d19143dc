"""Model libraries -> the families in signatures/: every class with all of its registered networks,
learned by probing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from torch import nn

from archfind.probing.config import Config, Leaf, captured, moved
from archfind.probing.family import Learned, Preset, families
from archfind.probing.probe import on_meta, shapes_of
from archfind.families.text import family_text
from archfind.harvest import create_on_meta
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
    classes = presets_of(source, name)
    chosen = [cls for cls in classes if only in f"{cls.__module__}.{cls.__qualname__}"]
    lines: list[str] = []
    for cls in progress(chosen[part[0] :: part[1]], len(chosen) // part[1], f"families {name}"):
        path = out / f"{cls.__module__.rsplit('.', 1)[-1]}.{cls.__qualname__}.txt"
        if path.exists():
            continue
        presets = classes[cls]
        found = families(cls, cls, presets, seconds)
        texts = [
            _text(name, source, cls, number, family) for number, family in enumerate(found, 1)
        ]
        beside = path.with_suffix(".new")
        beside.write_text("\n".join([f"# {source.LIBRARY} {release}\n", *texts]))
        beside.replace(path)
        covered = sum(len(family.presets) for family in found)
        lines.append(f"{cls.__qualname__}: {covered} of {len(presets)} in {len(found)} families")
    return lines


def presets_of(source: Provider, library: str) -> Classes:
    """Every registered network by its class, with the arguments that the class got."""
    found: Classes = {}
    names = source.names()
    for name in progress(names, len(names), f"presets {library}"):
        try:
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
