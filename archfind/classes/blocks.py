"""The notation of signatures/transformers/: one file a model type, a block a class and dialect.

    [bert]
    config   transformers.models.bert.configuration_bert.BertConfig
    leaf     hidden_size 768 options [1536, 384]     a field's default, and others that were tried

    [bert/BertForMaskedLM]
    held     31 32                                   networks that the block gives, of how many
    left     position_embedding_type                 fields without a rule, held at their defaults
    prefix   bert                                    where the class keeps its base network
    tied     cls.predictions.decoder.weight bert.embeddings.word_embeddings.weight
    older    bert.<TAB><TAB>encoder.                 below `bert.`, older files have one module more
    like     bert/BertModel bert.                    another block, below a prefix
    without  pooler.dense.weight                     that block's lines which aren't there
    cls.predictions.bias  vocab_size

    [llava/LlavaModel published]
    like     llama/LlamaModel language_model. text_config.       and whose config is nested

`published` blocks have the keys that `save_pretrained` writes where they are others than the
module's. Lines are those of program.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from archfind.classes.expansion import Shape
from archfind.classes.expression import RESERVED
from archfind.classes.numbered import numbered
from archfind.classes.older_keys import Places
from archfind.classes.program import FamilyLine, Program, split

Values = Mapping[str, Any]
_NAME = re.compile(r"'[^']*'|(?<![\w.{])[A-Za-z_][\w.]*(?:\{[^}]*\}[\w.]*)*")


@dataclass(frozen=True)
class Like:
    """A block that stands below `prefix` in another, its config at `root` of the other's."""

    block: Block
    prefix: str
    root: str
    without: tuple[str, ...] = ()

    def values(self, values: Values) -> dict[str, Any]:
        """The other's values as the block's own; a constructor's switches are its defaults."""
        own = dict(self.block.leaves)
        for path, value in values.items():
            if path.startswith(self.root) and not path.startswith(_INIT):
                own[path[len(self.root) :]] = value
        return own

    def lines(self) -> list[str]:
        """The block's lines as the other's own."""
        gone = set(self.without)
        fixed = {p: str(v) for p, v in self.block.leaves.items() if p.startswith(_INIT)}
        prefix = numbered(self.prefix)
        return [
            rerooted(line, prefix, self.root, fixed)
            for line in self.block.flat()
            if pattern(line) not in gone
        ]

    def expand(self, values: Values) -> dict[str, tuple[Shape, str]]:
        """Keys and shapes for the other's values."""
        own = self._program.expand(self.values(values))
        return {self.prefix + key: spec for key, spec in own.items()}

    @cached_property
    def _program(self) -> Program:
        if not self.without:
            return self.block.program
        gone = set(self.without)
        return Program([line for line in self.block.flat() if pattern(line) not in gone])


@dataclass
class Block:
    """What one class holds in one dialect. `leaves` are its type's defaults."""

    name: str
    dialect: str
    likes: list[Like]
    lines: list[str]
    leaves: dict[str, Any] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    held: tuple[int, int] = (0, 0)
    left: list[str] = field(default_factory=list)
    older: Places = ()

    @property
    def id(self) -> str:
        return f"{self.name} {self.dialect}".strip()

    def flat(self) -> list[str]:
        """Every line as text, those of the blocks inside among them."""
        return self._lines

    @cached_property
    def _lines(self) -> list[str]:
        inner = [line for like in self.likes for line in like.lines()]
        return [*inner, *self.lines]

    @cached_property
    def program(self) -> Program:
        """The lines, parsed."""
        return Program(self.flat())

    def whole(self) -> list[FamilyLine]:
        return self.program.lines

    def expand(self, values: Values) -> dict[str, tuple[Shape, str]]:
        return self.program.expand({**self.leaves, **values})


def pattern(line: str) -> str:
    """What names a line within its block: its keys and its condition."""
    keys, _, rest = line.partition("  ")
    _, _, condition = rest.partition("  if ")
    return f"{keys} if {condition}" if condition else keys


_INIT = "init."


def rerooted(line: str, prefix: str, root: str, fixed: Mapping[str, str]) -> str:
    """A line with its keys below a prefix (numbers apart) and the fields it reads below another
    config; `fixed` are names that have a value there."""
    keys, _, rest = line.partition("  ")
    body, mark, condition = rest.partition("  if ")
    if root or _INIT in line:
        parts = split(keys)
        keys = ".".join(_bound(part, root, fixed) if part[0] == "{" else part for part in parts)
        words = body.split(" ")
        dtype = words[-1] if words[-1] in _DTYPES else ""
        body = (
            body if body == "()" or body.startswith("() ") else _renamed(body, root, fixed, dtype)
        )
        condition = _renamed(condition, root, fixed)
    return f"{prefix}{keys}  {body}{mark}{condition}"


_DTYPES = frozenset("bool uint8 int8 int16 int32 int64 complex64 complex128".split())


def _bound(part: str, root: str, fixed: Mapping[str, str]) -> str:
    name, _, bound = part[1:-1].partition("<")
    return f"{{{name}<{_renamed(bound, root, fixed)}}}"


def _renamed(text: str, root: str, fixed: Mapping[str, str], dtype: str = "") -> str:
    def one(found: re.Match[str]) -> str:
        word = found.group()
        if word in fixed:
            return fixed[word]
        return word if word[0] == "'" or word in RESERVED or word == dtype else root + word

    return _NAME.sub(one, text)


@dataclass
class TypeText:
    """One model type: its config class, the leaves that count, its blocks."""

    name: str
    config: str
    leaves: dict[str, Any]
    options: dict[str, list[Any]]
    blocks: list[Block]

    def text(self) -> str:
        lines = [f"[{self.name}]", f"config   {self.config}"]
        for path, value in self.leaves.items():
            others = f" options {json.dumps(self.options[path])}" if path in self.options else ""
            lines.append(f"leaf     {path} {json.dumps(value)}{others}")
        for block in self.blocks:
            lines += ["", f"[{block.id}]", f"held     {block.held[0]} {block.held[1]}"]
            lines += [f"left     {' '.join(block.left)}"] * bool(block.left)
            lines += [f"prefix   {block.prefix}"] * bool(block.prefix)
            lines += [f"tied     {key} {other}" for key, other in block.tied.items()]
            lines += ["older    " + "\t".join(place) for place in block.older]
            for like in block.likes:
                lines.append(f"like     {like.block.id}\t{like.prefix}\t{like.root}")
                lines += [f"without  {line}" for line in like.without]
            lines += block.lines
        return "\n".join(lines) + "\n"


def parse_blocks(text: str, known: Mapping[str, Block]) -> TypeText:
    """A type's text; `known` has the blocks of other types by id."""
    own: dict[str, Block] = dict(known)
    found = TypeText("", "", {}, {}, [])
    for part in re.split(r"(?m)^(?=\[)", text)[1:]:
        head, *lines = part.strip("\n").split("\n")
        name, _, dialect = head.strip("[]").partition(" ")
        if "/" not in name:
            found.name = name
            for line in lines:
                word, _, rest = line.partition(" ")
                rest = rest.strip()
                if word == "config":
                    found.config = rest
                elif word == "leaf":
                    path, _, value = rest.partition(" ")
                    value, _, options = value.partition(" options ")
                    found.leaves[path] = json.loads(value)
                    if options:
                        found.options[path] = json.loads(options)
            continue
        block = Block(name, dialect, [], [], found.leaves)
        without: list[str] = []
        for line in lines:
            word, gap, rest = line.partition(" ")
            rest = rest.strip(" ")
            if word == "held" and gap:
                right, _, total = rest.partition(" ")
                block.held = int(right), int(total)
            elif word == "left" and not line[4:8].strip():
                block.left = rest.split()
            elif word == "prefix" and "\t" not in line and not line[6:8].strip():
                block.prefix = rest
            elif word == "tied" and not line[4:8].strip():
                key, _, other = rest.partition(" ")
                block.tied[key] = other
            elif word == "older" and "\t" in line:
                before, today, other = line[9:].split("\t")
                block.older = (*block.older, (before, today, other))
            elif word == "like" and "\t" in line:
                other, prefix, root = rest.split("\t")
                without = []
                block.likes.append(Like(own[other], prefix, root, ()))
            elif word == "without" and gap:
                without.append(rest)
                last = block.likes[-1]
                block.likes[-1] = Like(last.block, last.prefix, last.root, tuple(without))
            elif line:
                block.lines.append(line)
        own[block.id] = block
        found.blocks.append(block)
    return found


def others(text: str) -> Iterable[str]:
    """The model types whose blocks a type's text names."""
    for line in text.split("\n"):
        if line.startswith("like ") and "\t" in line:
            yield line[5:].strip().partition("/")[0]
