"""What a file, or a config.json beside it, says of its own config. A claim: it decides what tensors
leave open, and where it contradicts them the tensors win, and it is said."""

from __future__ import annotations

import os

from archfind.errors import CheckpointError
from archfind.formats.side_files import beside, like, read_object, word, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.types import Checkpoint

_CONFIGS = ("config", "model_config", "hf_config")


class Claims:
    """`fields` by dotted path, the model type, and the classes that are named; `notes` say what of
    it can't be read."""

    __slots__ = ("classes", "fields", "model_type", "notes", "where")

    def __init__(self, config: Mapping[str, Any], where: str, notes: tuple[str, ...] = ()) -> None:
        self.where = where
        self.notes = notes
        self.model_type = word(config.get("model_type")) or ""
        self.classes = words(config.get("architectures")) or ()
        self.fields: dict[str, Any] = {}
        _collect("", config, self.fields)

    def names(self, model_type: str, cls: str) -> bool:
        """Whether the file names this class, or if it names none, its type."""
        if self.classes:
            return cls in self.classes
        return bool(self.model_type) and self.model_type == model_type

    def refused(self, usual: Mapping[str, object]) -> list[str]:
        """Claims about known fields that no field can have, one line for all: what isn't of the
        type of the `usual` value, or out of bounds."""
        wrong = [p for p, v in self.fields.items() if p in usual and like(v, usual[p]) is None]
        return [f"{self.where} has no usable {', '.join(wrong[:5])}: left aside"] if wrong else []

    def contradictions(self, values: Mapping[str, Any], model_type: str) -> list[str]:
        """Claims that the tensors contradict, one line for all."""
        wrong = [
            f"{path}={self.fields[path]} (the tensors: {value})"
            for path, value in values.items()
            if type(value) is int and type(self.fields.get(path)) is int
            if self.fields[path] != value and path != "num_labels"
        ]
        if self.model_type and self.model_type != model_type:
            wrong.insert(0, f"model_type={self.model_type} (the tensors: {model_type})")
        return [f"{self.where} claims {', '.join(wrong[:5])}"] if wrong else []


def claims_of(checkpoint: Checkpoint) -> Claims:
    """The claims of a checkpoint: a config.json beside it, else a config among its own contents."""
    place = beside(checkpoint.path, "config.json")
    notes: tuple[str, ...] = ()
    if os.path.lexists(place):
        try:
            return Claims(read_object(place), "config.json")
        except CheckpointError as error:
            notes = (f"the config.json beside it is left aside: {error.message}",)
    own: dict[str, Any] = {}
    for pointer, value in checkpoint.hints.items():
        root, _, last = pointer.rpartition("/")
        if last and root.rpartition("/")[2] in (*_CONFIGS, "") and "/" not in last:
            own[last] = value
    return Claims(own, "the file", notes)


def _collect(path: str, value: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Scalars by dotted path; how deep it goes is what the reader lets through."""
    for key, item in value.items():
        if isinstance(item, dict):
            _collect(f"{path}{key}.", item, found)
        elif isinstance(item, bool | int | float | str):
            found[f"{path}{key}"] = item
