"""The notation of families in signatures/: a head, the leaves, the presets, the program.

    [timm.models.vision_transformer.VisionTransformer/1]
    base    timm/vit_tiny_patch16_224
    held    12 12                           networks it wasn't learned from: right, of how many
    direct  depth embed_dim img_size ...    arguments that the base's own builder takes
    leaf    depth 12 options [3, 1]         a leaf's base value, and others that the class takes
    preset  timm/vit_base_patch16_224 {"embed_dim": 768, "num_heads": 12}
    blocks.{i<depth}.attn.qkv.weight  3*embed_dim embed_dim

A leaf without options is read by the program and never moved. On the cold path of `archfind guess`.
"""

from __future__ import annotations

import json
import re
from _thread import allocate_lock
from functools import lru_cache

from archfind.classes.numbered import KEPT, joined_key
from archfind.classes.program import Program
from archfind.state_dicts.canonical import is_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from archfind.classes.program import FamilyLine

    Values = Mapping[str, Any]


_NUMBER = re.compile(r"\d+")

_alone = allocate_lock()  # for who makes a family's program


class Family:
    """A program with what its leaves can be. `presets` are the leaves' values by entry id."""

    __slots__ = (
        "_lines",
        "_lists",
        "_masks",
        "_placed",
        "_program",
        "_ranks",
        "base",
        "cls",
        "direct",
        "held",
        "known",
        "leaves",
        "options",
        "presets",
    )

    def __init__(self, text: str) -> None:
        head, *lines = text.strip("\n").split("\n")
        self.cls = head.strip("[]").rpartition("/")[0]
        self.base = ""
        self.held = (0, 0)
        self.direct: tuple[str, ...] = ()
        self.leaves: dict[str, Any] = {}
        self.options: dict[str, list[Any]] = {}
        self.known: dict[str, list[Any]] = {}  # all of a leaf's values together, once asked for
        moves: dict[str, Values] = {}
        body: list[str] = []
        for line in lines:
            word, _, rest = line.partition(" ")
            rest = rest.strip()
            if word == "base":
                self.base = rest
            elif word == "held":
                right, _, total = rest.partition(" ")
                self.held = int(right), int(total)
            elif word == "direct":
                self.direct = tuple(rest.split())
            elif word == "leaf":
                name, _, value = rest.partition(" ")
                value, _, options = value.partition(" options ")
                self.leaves[name] = json.loads(value)
                if options:
                    self.options[name] = json.loads(options)
            elif word == "preset":
                name, _, values = rest.partition(" ")
                moves[name] = json.loads(values)
            else:
                body.append(line)
        self.presets: dict[str, Values] = {
            name: {k: v for k, v in {**self.leaves, **moved}.items() if v != _GONE}
            for name, moved in moves.items()
        }
        self._lines = body
        self._program: Program | None = None
        self._lists: dict[str, str] | None = None
        self._masks: set[str] | None = None
        self._ranks: dict[str, set[int]] | None = None
        self._placed: dict[tuple[object, ...], list[tuple[int, FamilyLine]]] | None = None

    @property
    def lists(self) -> dict[str, str]:
        """The lists with an item for each item of another: their paths, and that one's."""
        if self._lists is None:
            pairs = (pair for line in self.program.lines for pair in _pairs(line))
            self._lists = {
                one: counted
                for one, counted in pairs
                if f"{one}.#" in self.leaves
                and self.leaves[f"{one}.#"] == self.leaves.get(f"{counted}.#")
            }
        return self._lists

    @property
    def ranks(self) -> dict[str, set[int]]:
        """How many dimensions the tensors of each template can have."""
        if self._ranks is None:
            ranks: dict[str, set[int]] = {}
            for line in self.program.lines:
                ranks.setdefault(template_of(line), set()).add(len(line.sizes))
            self._ranks = ranks  # whole: other threads read it
        return self._ranks

    def lines_of(self, key: str, parts: list[str]) -> list[FamilyLine]:
        """The lines that may give a key, which has these parts, by its names and numbers alone."""
        if self._placed is None:
            self._placed = _placed(self.program.lines)
        name = numbered_template(key)
        repeated = [*self._placed.get((name,), ())]
        for at, _ in self._placed.get((name, "pinned"), ()):
            repeated += self._placed.get((name, at, parts[at]), ())
        repeated.sort(key=lambda item: item[0])
        return [line for _, line in (*self._placed.get((name, key), ()), *repeated)]

    @property
    def masks(self) -> set[str]:
        """Templates of the tables of floats that the program makes."""
        if self._masks is None:
            every = ((line, template_of(line)) for line in self.program.lines)
            self._masks = {t for line, t in every if is_table(t, line.dtype)}
        return self._masks

    @property
    def program(self) -> Program:
        """The program, parsed when it's first asked for. There is one, for all threads: its lines
        are told apart by what they are, not by what they say."""
        if self._program is None:
            made = Program(self._lines)
            with _alone:
                if self._program is None:
                    self._program = made
        return self._program


def _placed(lines: list[FamilyLine]) -> dict[tuple[object, ...], list[tuple[int, FamilyLine]]]:
    """Lines with their numbers, by what they are looked up with: those without a repeat by
    template and key, those with a pinned one by template, part and number, others by template. Of
    each template, (template, "pinned") has the parts that lines pin."""
    found: dict[tuple[object, ...], list[tuple[int, FamilyLine]]] = {}
    for number, line in enumerate(lines):
        name = template_of(line)
        pins = [at for at, part in enumerate(line.parts) if part.index in line.pinned]
        if not line.bounds():
            found.setdefault((name, line.pattern), []).append((number, line))
        elif not pins:
            found.setdefault((name,), []).append((number, line))
        else:
            at = pins[0]
            place = str(line.pinned[line.parts[at].index])
            found.setdefault((name, at, place), []).append((number, line))
            every = found.setdefault((name, "pinned"), [])
            if all(other != at for other, _ in every):
                every.append((at, line))
    return found


def _pairs(line: FamilyLine) -> Iterator[tuple[str, str]]:
    """The lists that a line reads at the place of a repeat, and the list that the repeat counts."""
    bounds = [part.bound for part in line.parts]
    expressions = [e for e in (*line.sizes, line.condition, *bounds) if e is not None]
    for part in line.parts:
        if part.bound is None or len(part.bound.names) != 1 or part.bound.names[0][-2:] != ".#":
            continue
        counted = part.bound.names[0][:-2]
        at = (f".{part.index}", f".{part.index[:-1]}-1}}")
        for name in {name for one in expressions for name in one.names if name.endswith(at)}:
            one = name[: name.rindex(".{")]
            if one != counted and "{" not in one:
                yield one, counted


_GONE = "(no such leaf)"  # of a list that is shorter than the base's


def family_text(
    name: str,
    base: str,
    held: tuple[int, int],
    direct: list[str],
    options: Mapping[str, list[Any]],
    presets: Mapping[str, Values],
    lines: list[str],
    around: Values | None = None,
) -> str:
    """The text of a family; `presets` has the values of all leaves of each, the base's first;
    `around` those of the network that it was made around, where that isn't the base."""
    program = Program(lines)
    read: set[str] = set(options)
    for line in program.lines:
        for expression in [*line.sizes, line.condition, *(p.bound for p in line.parts)]:
            read |= set(expression.names if expression is not None else ())
    roots = {path.partition(".")[0] for path in read if path[0] != "{"}
    leaves = {
        path: value
        for path, value in (around or presets[base]).items()
        if path.partition(".")[0] in roots
    }
    text = [f"[{name}]", f"base    {base}", f"held    {held[0]} {held[1]}"]
    text += [f"direct  {' '.join(direct)}"] * bool(direct)
    for path, value in leaves.items():
        others = f" options {json.dumps(options[path])}" if path in options else ""
        text.append(f"leaf    {path} {json.dumps(value)}{others}")
    for preset, values in presets.items():
        own = {p: v for p, v in values.items() if p.partition(".")[0] in roots or p in leaves}
        moved = {p: v for p, v in own.items() if p not in leaves or leaves[p] != v}
        moved |= {p: _GONE for p in leaves if p not in own}
        text.append(f"preset  {preset} {json.dumps(moved)}")
    return "\n".join([*text, *lines]) + "\n"


def template_of(line: FamilyLine) -> str:
    """The template of a line's keys."""
    return numbered_template(".".join("0" if part.bound else part.text for part in line.parts))


@lru_cache(KEPT)
def numbered_template(key: str) -> str:
    """A key with every number as `#`: what the keys of a repeat have in common."""
    return _NUMBER.sub("#", joined_key(key))
