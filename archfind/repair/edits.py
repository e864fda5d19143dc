"""A repair as data: edits, each a step from one set of named tensors to the next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archfind.errors import RepairError

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
        if not isinstance(value, dict) or value.get("kind") not in KINDS:
            kind = value.get("kind") if isinstance(value, dict) else value
            raise RepairError(f"a plan has no edit {kind!r}; there are {', '.join(KINDS)}")
        lists = [value.get(name, []) for name in ("keys", "to")]
        options = value.get("options", {})
        if not isinstance(options, dict) or not all(
            isinstance(one, list) and all(isinstance(key, str) for key in one) for one in lists
        ):
            raise RepairError(f"a plan's {value['kind']} has keys or options of another form")
        keys, to = (tuple(one) for one in lists)
        lossless, note = bool(value.get("lossless", True)), str(value.get("note", ""))
        return Edit(value["kind"], keys, to, options, lossless, note)


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
    def from_json(text: str) -> Plan:
        """RepairError where the text isn't a plan."""
        try:
            found = json.loads(text)
        except ValueError as error:
            raise RepairError(f"a plan is JSON, which this isn't: {error}") from error
        if not isinstance(found, dict) or not isinstance(found.get("edits"), list):
            raise RepairError("a plan is an object with a list of edits")
        if not isinstance(found.get("source"), str):
            raise RepairError("a plan names its source")
        edits = tuple(Edit.from_json(edit) for edit in found["edits"])
        said = {k: tuple(str(line) for line in found.get(k, ())) for k in ("problems", "notes")}
        return Plan(
            found["source"],
            edits,
            str(found.get("target", "")),
            str(found.get("base", "")),
            str(found.get("part", "")),
            str(found.get("status", "")),
            int(found.get("tensors", 0)),
            said["problems"],
            said["notes"],
        )
