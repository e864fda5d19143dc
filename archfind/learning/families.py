"""Model libraries -> the families in signatures/: every class with all of its registered networks,
learned by probing."""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from torch import nn

from archfind.classes.notation import Family, family_text
from archfind.database.compile import read_texts
from archfind.learning.beyond import further
from archfind.learning.contest import kept
from archfind.learning.family import LearnedFamily, Preset, families, registered_values
from archfind.learning.traced_family import traced_family
from archfind.learning.unread import unread_leaves
from archfind.probing.config import Config, Leaf, captured_call, moved
from archfind.probing.probe import NoValues, on_meta, shapes_of
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.writing import beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.providers import Provider

Classes = dict[type[nn.Module], list[Preset]]


def build_families(
    name: str, folder: Path, only: str = "", again: bool = False, seconds: float = 60
) -> list[str]:
    """Write `folder`/`name`/families/*.txt for the provider `name`, one file a class, of those with
    `only` in their path; return a line for each. Classes that have a file already are left as they
    are, so stopped work goes on where it stopped. `again` traces them anew, and keeps what gives
    most of what was known before and of that. `seconds` a family."""
    source = provider(name)
    head = f"# {source.LIBRARY} {version(source.LIBRARY)}"
    out = folder / name / "families"
    out.mkdir(parents=True, exist_ok=True)
    names = _names_by_class(folder, name)
    # Few entries first: a class of a hundred takes as long as ten others.
    chosen = sorted((cls for cls in names if only in cls), key=lambda cls: len(names[cls]))
    lines: list[str] = []
    for path in progress(chosen, len(chosen), f"families {name}"):
        module, _, qualified = path.rpartition(".")
        file = out / f"{module.rsplit('.', 1)[-1]}.{qualified}.txt"
        before = _blocks(file)
        blocks = [] if again else before
        covered = {entry for block in blocks for entry in Family(block).presets}
        done = file.exists() and file.read_text().startswith(f"{head} {_DONE}") and not again
        if done or {f"{name}/{entry}" for entry in names[path]} <= covered:
            continue
        for cls, presets in presets_of(source, names[path]).items():
            left = [p for p in presets if f"{name}/{p.name}" not in covered]
            try:
                traced = _traced(cls, presets, left, seconds)
                found = traced if again else _with_learned(cls, traced, left, seconds)
                blind = _blind(cls, found, seconds)
                found += families(cls, cls, blind, seconds) if blind else []
                few = len(presets) <= _FEW  # many say by themselves which arguments go together
                more = further(cls, presets, found, _FURTHER * seconds) if few else []
                found += more
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                lines.append(f"{path}: {type(error).__name__}: {error}")
                continue
            first = len(blocks) + 1
            blocks += [_text(name, source, cls, n, one) for n, one in enumerate(found, first)]
            if again or blind or more:
                blocks = kept(cls, presets, [*blocks, *before], seconds)
            told = len({entry for block in blocks for entry in Family(block).presets})
            new = len({*blocks} - {*before})
            lines.append(f"{path}: {told} of {len(presets)} in {len(blocks)} families, {new} new")
        bodies = [block.partition("\n")[2] for block in blocks or before]
        numbered = [f"[{path}/{number}]\n{body}" for number, body in enumerate(bodies, 1)]
        beside.write_small_file(file, "\n".join([f"{head} {_DONE}\n", *numbered]))
    return lines


def _with_learned(
    cls: type[nn.Module], traced: Sequence[LearnedFamily], left: Sequence[Preset], seconds: float
) -> list[LearnedFamily]:
    """Families of traces; learned ones for the presets that those don't explain, or about which
    they were wrong too often."""
    found = [family for family in traced if family.right >= _SURE * max(family.held, _FEW)]
    rest = _beyond(found, left)
    found += families(cls, cls, rest, seconds) if rest else []
    return found + [family for family in traced if _beyond(found, family.presets)]


def _blind(cls: type[nn.Module], found: Sequence[LearnedFamily], seconds: float) -> list[Preset]:
    """The presets of the families that don't read some argument that moves tensors, if there is
    one."""
    read = {path for family in found for path in family.options}
    presets = [preset for family in found for preset in family.presets]
    return presets if presets and unread_leaves(cls, presets[0], read, seconds / 3) else []


def _beyond(found: Sequence[LearnedFamily], presets: Sequence[Preset]) -> list[Preset]:
    """The presets that no family explains."""
    covered = {preset.name for family in found for preset in family.presets}
    return [preset for preset in presets if preset.name not in covered]


def _traced(
    cls: type[nn.Module], presets: Sequence[Preset], left: Sequence[Preset], seconds: float
) -> list[LearnedFamily]:
    waiting = sorted(left, key=lambda preset: len(preset.shapes))
    known = registered_values(presets)
    more: list[LearnedFamily] = []
    end = time.process_time() + _BASES * seconds
    while waiting and time.process_time() < end:
        base, *waiting = waiting
        family = traced_family(base, cls, known, waiting, seconds)
        if family is not None:
            more.append(family)
            waiting = _beyond(more, waiting)
    return more


_SURE = 0.9  # share of the networks drawn that a traced family must give
_BASES = 6  # families of a class that have all of their time
_FEW = 4  # networks drawn, or registered
_FURTHER = 3  # times as long for families beyond those of the registered networks
_DONE = "complete"  # in a file's first line: what has no family there can't have one


def _blocks(file: Path) -> list[str]:
    """The texts of the families in a file."""
    if not file.exists():
        return []
    return [f"[{block.rstrip()}\n" for block in file.read_text().split("\n[")[1:]]


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
            # Some constructors print; and none need fill what has no values.
            with contextlib.redirect_stdout(io.StringIO()), NoValues(math.inf):
                module, cls, config = captured_call(lambda name=name: create_on_meta(source, name))
        except Exception:  # a library may raise anything; that name has no family then
            continue
        if config:
            found.setdefault(cls, []).append(Preset(name, config, shapes_of(module)))
    return found


def _text(
    library: str, source: Provider, cls: type[nn.Module], number: int, found: LearnedFamily
) -> str:
    presets = {f"{library}/{p.name}": dict(p.values()) for p in found.presets}
    return family_text(
        f"{cls.__module__}.{cls.__qualname__}/{number}",
        f"{library}/{found.base}",
        (found.right, found.held),
        list(_direct(source, cls, found)),
        found.options,
        presets,
        found.lines,
        found.around,
    )


def _direct(source: Provider, cls: type[nn.Module], found: LearnedFamily) -> Iterator[str]:
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
