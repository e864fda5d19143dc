"""A repair as data: edits, each a step from one set of named tensors to the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from archfind.dtypes import ITEMSIZE
from archfind.errors import CheckpointError, RepairError
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.side_files import (
    claimed_number,
    claimed_whole_number,
    claimed_word,
    claimed_words,
    parse_text,
    wholes,
)

# kind -> what it does with `keys` and `to`
KINDS = {
    "unwrap": "keep what stands below options.place, under its name there",
    "rename": "keys[i] becomes to[i]; one * stands for any text",
    "drop": "leave keys out",
    "copy": "to[0] is keys[0] once more: tied",
    "reshape": "keys in options.shape",
    "transpose": "keys with their axes in the order of options.axes",
    "cast": "keys in options.dtype",
    "dequantise": "keys are the parts of to[0], packed as options.scheme says",
    "merge": "keys are the parts of to[0], combined as options.how says",
    "split": "keys[0] cut along options.axis into to, options.sizes long",
    "fuse": "keys joined along options.axis into to[0]",
    "resize": "keys in options.shape, by options.how",
    "fill": "to[0] as a new network has it; options.shape",
}


_LINE = 10_000  # characters of a problem or a note
_SIZES = 10_000  # parts that one tensor is split into


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= limits.KEY_LENGTH else None


def _switch(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return None if isinstance(value, str) else claimed_number(value)


def _dtype(value: object) -> str | None:
    return value if isinstance(value, str) and value in ITEMSIZE else None


def _axis(value: object) -> int | None:
    return claimed_whole_number(value, -limits.DIMENSIONS, limits.DIMENSIONS)


def _sizes(value: object) -> list[int] | None:
    if not isinstance(value, list) or len(value) > _SIZES:
        return None
    sizes = [claimed_whole_number(size) for size in value]
    return None if None in sizes else [size for size in sizes if size is not None]


# What an option has to be; None from these is what it isn't.
_OPTIONS: Mapping[str, Callable[[object], object]] = {
    "place": _text,
    "how": claimed_word,
    "scheme": claimed_word,
    "value": claimed_word,
    "dtype": _dtype,
    "shape": wholes,
    "g": wholes,
    "axes": wholes,
    "sizes": _sizes,
    "axis": _axis,
    "prefix": claimed_whole_number,
    "scale": _number,
    "eps": _number,
    "turned": _switch,
    "invents": _switch,
}


def _options(value: object) -> dict[str, Any] | None:
    """An edit's options; None where one isn't known or isn't what it has to be."""
    if not isinstance(value, dict) or not value.keys() <= _OPTIONS.keys():
        return None
    return value if all(_OPTIONS[k](one) is not None for k, one in value.items()) else None


@dataclass(frozen=True)
class Edit:
    """One step: reads `keys`, makes `to` in their place. `lossless`: could be undone."""

    kind: str
    keys: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    lossless: bool = True
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, the empty ones left out."""
        found: dict[str, Any] = {"kind": self.kind, "lossless": self.lossless}
        found |= {"keys": list(self.keys)} if self.keys else {}
        found |= {"to": list(self.to)} if self.to else {}
        found |= {"options": dict(self.options)} if self.options else {}
        return found | ({"note": self.note} if self.note else {})

    @staticmethod
    def from_json(value: object) -> Edit:
        """RepairError where it isn't an edit."""
        kind = value.get("kind") if isinstance(value, dict) else value
        if not isinstance(value, dict) or not isinstance(kind, str) or kind not in KINDS:
            said = escape(repr(kind), 40) if isinstance(kind, str) else f"a {type(kind).__name__}"
            raise RepairError(f"a plan has no edit {said}; there are {', '.join(KINDS)}")
        keys, to = claimed_words(value.get("keys", [])), claimed_words(value.get("to", []))
        options = _options(value.get("options", {}))
        lossless, note = value.get("lossless", True), value.get("note", "")
        if keys is None or to is None or options is None or type(lossless) is not bool:
            raise RepairError(f"a plan's {kind} has keys or options of another form")
        return Edit(kind, keys, to, options, lossless, note if isinstance(note, str) else "")


@dataclass(frozen=True)
class Plan:
    """The way from `source` to a file that `target` loads strictly.

    `target` is an entry ("timm/resnet50"), or "" where the result is held against the file `base`
    or nothing. `problems` are what no edit mends; with any, the plan can't be applied.
    """

    source: str
    edits: tuple[Edit, ...]
    target: str = ""
    base: str = ""
    part: str = ""
    status: str = ""
    tensors: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the edits lead to a strict load, some by inventing weights."""
        return not self.problems

    @property
    def invents(self) -> bool:
        """Whether it needs `allow_fill`."""
        return any(edit.kind == "fill" or edit.options.get("invents") for edit in self.edits)

    def to_json(self) -> str:
        """The plan as text that `from_json` reads."""
        found = {
            "schema": 1,
            "source": self.source,
            "target": self.target,
            "base": self.base,
            "part": self.part,
            "status": self.status,
            "tensors": self.tensors,
            "complete": self.complete,
            "invents": self.invents,
            "edits": [edit.to_json() for edit in self.edits],
            "problems": list(self.problems),
            "notes": list(self.notes),
        }
        return json.dumps(found)

    @staticmethod
    def from_json(text: str | bytes) -> Plan:
        """RepairError where the text isn't a plan."""
        try:
            found = parse_text(text, "the plan")
        except CheckpointError as error:
            raise RepairError(f"a plan is JSON, which this isn't: {error.message}") from error
        if not isinstance(found, dict) or not isinstance(found.get("edits"), list):
            raise RepairError("a plan is an object with a list of edits")
        source = found.get("source")
        if not isinstance(source, str):
            raise RepairError("a plan names its source")
        edits = tuple(map(Edit.from_json, found["edits"]))
        names = {name: found.get(name, "") for name in ("target", "base", "part", "status")}
        tensors = claimed_whole_number(found.get("tensors", 0))
        problems, notes = (
            claimed_words(found.get(name, []), _LINE) for name in ("problems", "notes")
        )
        wrong = [name for name, value in names.items() if not isinstance(value, str)]
        wrong += [
            name
            for name, value in (("tensors", tensors), ("problems", problems), ("notes", notes))
            if value is None
        ]
        if tensors is None or problems is None or notes is None or wrong:
            raise RepairError(f"a plan's {wrong[0]} is of another form")
        return Plan(source, edits, **names, tensors=tensors, problems=problems, notes=notes)
