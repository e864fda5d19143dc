"""A model type of transformers, and its classes as families to solve: one for each dialect."""

from __future__ import annotations

import json

from archfind.classes.notation import Family, template_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.classes.older_keys import Places


class ModelType:
    """One model type's text, its blocks parsed when they're asked for."""

    def __init__(self, text: str) -> None:
        head, *blocks = text.split("\n[")
        first, *self._leaves = head.split("\n")
        self.name, self.config, self.version = first.split("\t")
        self._blocks = blocks
        self._known: dict[int, Configured] = {}
        self.presets: dict[str, dict[str, Any]] = {}  # public models: what was said of each
        for line in self._leaves:
            if line.startswith("preset "):
                _, name, values = line.split(" ", 2)
                self.presets[name] = json.loads(values)

    def is_named(self, name: str) -> bool:
        """Whether it, or one of its classes, is called so."""
        return name == self.name or any(block.startswith(f"{name}\t") for block in self._blocks)

    def bases(self, prefix: str, dialect: str) -> dict[str, int]:
        """The classes that others of the type keep below a prefix, in one dialect, and where their
        blocks are."""
        heads = (block.partition("\n")[0].split("\t") for block in self._blocks)
        return {
            cls: place
            for place, (cls, *rest) in enumerate(heads)
            if rest[:2] == [dialect, prefix] and "For" not in cls and "Head" not in cls
        }

    def block(self, place: int) -> Configured:
        if place not in self._known:
            text = self._blocks[place]
            made = self._older(text) if text[0] == "=" else Configured(self, self._leaves, text)
            self._known.setdefault(place, made)  # another thread may have been faster
        return self._known[place]

    def _older(self, text: str) -> Configured:
        """A block as older files name its tensors."""
        head, *lines = text.rstrip("\n").split("\n")
        made = Configured(self, self._leaves, self._blocks[int(head[1:])])
        for line in lines:
            before, own, other = line.split("\t")
            made.older = (*made.older, (before, own, other))
        return made


class Configured:
    """One class of a type in one dialect, as a family to solve. The rules of some don't give every
    network that they were tried on: those are doubtful. `older` says where older files have other
    modules in their keys, if it's for one of those: its templates and rules are today's."""

    __slots__ = (
        "cls",
        "dialect",
        "family",
        "is_doubtful",
        "needed",
        "older",
        "prefix",
        "templates",
        "tied",
        "type",
    )

    def __init__(self, own: ModelType, leaves: list[str], text: str) -> None:
        head, *lines = text.rstrip("\n").split("\n")
        self.type = own
        self.cls, self.dialect, self.prefix, rules = head.split("\t")
        self.is_doubtful = bool(rules)
        self.older: Places = ()
        self.tied = dict(line[5:].split(" ") for line in lines if line.startswith("tied "))
        lines = [line for line in lines if not line.startswith("tied ")]
        self.family = Family("\n".join([f"[{self.path}/1]", *leaves, *lines]))
        self.templates = {template_of(line) for line in self.family.program.lines}
        self.needed = {  # those of lines without a condition
            template_of(line) for line in self.family.program.lines if line.condition is None
        }

    @property
    def path(self) -> str:
        """The class's dotted path."""
        module = self.type.config.rpartition(".")[0]
        return f"{module.replace('.configuration_', '.modeling_')}.{self.cls}"
