"""What a file, or a config.json beside it, says of its own config. A claim: it decides what tensors
leave open, and where it contradicts them the tensors win, and it is said."""

from __future__ import annotations

from archfind.evidence.origins import origin_of_keys
from archfind.evidence.said import EXPORTED_AS, config_beside, fields_said, words_said
from archfind.formats.side_files import claimed_word, field
from archfind.formats.side_files import claimed_words as texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.types import Checkpoint

# Under these a file keeps what its network was made with.
_CONFIGS = frozenset(
    "config model_config hf_config model_args model_kwargs kwargs args dims hyper_parameters "
    "hparams cfg model params params.json archfind.config".split()
)


class Claims:
    """`fields` by dotted path, the model type, and the classes that are named; `others` are fields
    that are null or lists; `notes` say what of it can't be read."""

    __slots__ = ("classes", "fields", "model_type", "notes", "others", "where")

    def __init__(self, config: Mapping[str, Any], where: str, notes: tuple[str, ...] = ()) -> None:
        self.where = where
        self.notes = notes
        self.model_type = claimed_word(config.get("model_type")) or ""
        self.classes = texts(config.get("architectures")) or ()
        self.fields: dict[str, Any] = {}
        self.others: dict[str, Any] = {}
        _collect("", config, self.fields, self.others)

    def names(self, model_type: str, cls: str) -> bool:
        """Whether the file names this class, or if it names none, its type."""
        if self.classes:
            return cls in self.classes
        return bool(self.model_type) and self.model_type == model_type

    def refused(self, usual: Mapping[str, object]) -> list[str]:
        """Claims about known fields that no field can have, one line for all: what isn't of the
        type of the `usual` value, or out of bounds."""
        every = {**self.fields, **{p: v for p, v in self.others.items() if v is not None}}
        wrong = [p for p, v in every.items() if p in usual and field(p, v, usual[p]) is None]
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
    """The claims of a checkpoint: a config.json beside it, else a config among its own contents,
    with the fields under the names that the code has whose keys the file has."""
    config, note = config_beside(checkpoint)
    if config:
        return Claims(config, "config.json")
    own: dict[str, Any] = {}
    every = words_said(checkpoint)
    for place, value in every.items():
        above, _, last = place.rpartition("/")
        if last and (not above or not _CONFIGS.isdisjoint(above.split("/"))):
            own[last] = value
    own = {name: value for name, value in fields_said(every).items() if name in own}
    exported = [name for at, name in every.items() if at.endswith(EXPORTED_AS)]
    if exported:
        own["architectures"] = [str(exported[0]).rpartition("/")[2]]
    code = origin_of_keys(checkpoint.index) if own else None
    for theirs, name in code.words if code is not None else ():
        if theirs in own:
            own.setdefault(name, own[theirs])
    width, heads = own.get("hidden_size"), own.get("num_attention_heads")
    if code is not None and type(width) is int and type(heads) is int and heads > 0:
        own.setdefault("head_dim", width // heads)  # in code that has no other size of a head
    return Claims(own, "the file", (note,) if note else ())


def _collect(
    path: str, value: Mapping[str, Any], found: dict[str, Any], others: dict[str, Any]
) -> None:
    """Scalars by dotted path, and what is null or a list; how deep it goes is what the reader lets
    through."""
    for key, item in value.items():
        if isinstance(item, dict):
            _collect(f"{path}{key}.", item, found, others)
        elif isinstance(item, bool | int | float | str):
            found[f"{path}{key}"] = item
        elif item is None or isinstance(item, list):
            others[f"{path}{key}"] = item
