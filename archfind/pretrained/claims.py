"""What a file, or a config.json beside it, says of its own config. A claim: it decides what tensors
leave open, and where it contradicts them the tensors win, and it is said."""

from __future__ import annotations

import os

from archfind.errors import CheckpointError
from archfind.formats.safetensors import parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.types import Checkpoint

_LARGEST = 1 << 20  # bytes of a config.json
_CONFIGS = ("config", "model_config", "hf_config")


class Claims:
    """`fields` by dotted path, the model type, and the classes that are named."""

    __slots__ = ("classes", "fields", "model_type", "where")

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.where = where
        kind = config.get("model_type")
        self.model_type = kind if isinstance(kind, str) else ""
        names = config.get("architectures")
        self.classes = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
        self.fields: dict[str, Any] = {}
        _collect("", config, self.fields)

    def names(self, model_type: str, cls: str) -> bool:
        """Whether the file names this class, or if it names none, its type."""
        if self.classes:
            return cls in self.classes
        return bool(self.model_type) and self.model_type == model_type

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
    place = os.path.join(os.path.dirname(checkpoint.path), "config.json")
    try:
        if os.path.isfile(place) and os.path.getsize(place) <= _LARGEST:
            with open(place, "rb") as file:
                found = parse_json(file.read(_LARGEST), "config.json", place)
            if isinstance(found, dict):
                return Claims(found, "config.json")
    except (OSError, CheckpointError):
        pass
    own: dict[str, Any] = {}
    for pointer, value in checkpoint.hints.items():
        root, _, last = pointer.rpartition("/")
        if last and root.rpartition("/")[2] in (*_CONFIGS, "") and "/" not in last:
            own[last] = value
    return Claims(own, "the file")


def _collect(path: str, value: Mapping[str, Any], found: dict[str, Any]) -> None:
    for key, item in value.items():
        if isinstance(item, dict):
            _collect(f"{path}{key}.", item, found)
        elif isinstance(item, bool | int | float | str):
            found[f"{path}{key}"] = item
        elif key == "id2label":
            pass
