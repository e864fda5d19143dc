"""A config from which a class can be built, where its type's defaults lack something: a length of
predictions that every user gives, the kinds of layers that a public model lists."""

from __future__ import annotations

import contextlib
import copy
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

import transformers

from archfind.probing.config import Config
from archfind.probing.probe import on_meta
from archfind.probing.proposals import literals
from archfind.providers import transformers as library

_STEPS = 12  # fields that are filled, one after the other
_LAST = 6  # fields read before a failure, that may be its cause
_SECONDS = 20.0
_MISSING = re.compile(r"'(\w+)' object has no attribute '(\w+)'")
_WORD = re.compile(r"[a-z_][a-z0-9_]{2,}")
_DIVISORS = (16, 12, 8, 4, 2, 1)
_THETA = 10_000.0
_KINDS = ("full_attention", "sliding_attention")  # of layers, each with rotations of its own
_RATES = ("1/2",)

Path = tuple[str, ...]


def completed_config(name: str, config: Config) -> Config | None:
    """The config with as few fields filled or changed as it takes to build the class `name`: after
    each failure those that were read last, or that the error names, are tried with other values,
    and the value that gets furthest is kept. None where nothing helps."""
    trial = _Trial(name, config)
    for _ in range(_STEPS):
        if trial.is_built:
            return trial.config
        best = trial
        for path, value in _proposals(trial):
            other = _Trial(name, _with(trial.config, path, value))
            if other.depth > best.depth:
                best = other
            if best.is_built:
                break
        if best is trial:
            return None
        trial = best
    return None


class _Trial:
    """One attempt to build; `depth` is how many fields were read before it failed."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.config = config
        self.error = ""
        self.reads: list[tuple[str, str]] = []
        self.made: Any = None
        self.is_built = False
        try:
            self.made = library.config_of(name.partition("/")[0], copy.deepcopy(config))
            _, cls = library.resolve_class(name)
            with contextlib.redirect_stdout(io.StringIO()), library.reads() as reads:
                try:
                    on_meta(lambda: cls(self.made), {}, _SECONDS)
                finally:
                    self.reads = list(reads)
            self.is_built = library.is_divided(self.made)
        except Exception as error:  # a library refuses values in its own ways
            self.error = str(error)
        self.depth = (self.is_built, self.made is not None, len(self.reads))


def _proposals(trial: _Trial) -> Iterator[tuple[Path, Any]]:
    """Fields with other values for them, the likeliest cause of the failure first."""
    owners = list(_owners(trial))
    missing = _MISSING.search(trial.error)
    words = set(_WORD.findall(trial.error))
    named: list[tuple[Path, str]] = []
    if any(kind in trial.error for kind in _KINDS):
        rope = {kind: {"rope_type": "default", "rope_theta": _THETA} for kind in _KINDS}
        for place, owner, _ in owners:
            if _annotation(owner, "rope_parameters"):
                yield (*place, "rope_parameters"), rope
    for place, owner, own in owners:
        if missing and owner.__name__ == missing[1] and missing[2] not in own:
            yield from (((*place, missing[2]), v) for v in _likely(missing[2], own))
        named += [((*place, field), _annotation(owner, field)) for field in own if field in words]
    for cls, field in reversed(trial.reads[-_LAST:]):
        named += [
            ((*place, field), _annotation(owner, field))
            for place, owner, own in owners
            if owner.__name__ == cls and field in own
        ]
    hints = literals(library.resolve_class(trial.name)[1])
    for path, annotation in dict.fromkeys(named):
        own = next(own for place, _, own in owners if place == path[:-1])
        yield from ((path, v) for v in _values(path[-1], annotation, own, hints))


def _values(
    field: str, annotation: str, own: Config, hints: Mapping[str, list[Any]]
) -> Iterator[Any]:
    value = own[field]
    if type(value) is int:
        yield from (n for n in (*_DIVISORS, value + 1, value - 1, 2 * value, 0) if n != value)
    if value is not None:
        return
    words = [w for w in hints.get(field, ()) if isinstance(w, str)]
    words += [w for name in hints for w in hints[name] if isinstance(w, str) and "layer" in name]
    layers = next((own[n] for n in ("num_hidden_layers", "num_layers") if n in own), 1)
    if "list" in annotation or "tuple" in annotation:
        yield from ([word] * layers for word in dict.fromkeys(words))
        yield from ([1], [0, 1], [[0, 0]])
    if "dict" in annotation:
        yield {"<pad>": 0}
    if "int" in annotation and "list" not in annotation.partition("int")[0]:
        yield from _likely(field, own)
    if "str" in annotation and "list" not in annotation:
        yield from dict.fromkeys([*words, *_RATES] if "rate" in field else words)
    if "float" in annotation:
        yield 1.0


def _likely(field: str, own: Config) -> list[Any]:
    """Numbers for a field that has none: those of fields named like it, and small ones."""
    ends = field.split("_")
    alike = [
        (len(common), value)
        for name, value in own.items()
        if type(value) is int and name != field and value > 0
        if (common := _common(ends, name.split("_")))
    ]
    alike.sort(key=lambda item: -item[0])
    theta = [_THETA] if "theta" in field else []
    return list(dict.fromkeys([*theta, *(value for _, value in alike[:2]), 4, 8, 1]))


def _common(one: list[str], other: list[str]) -> list[str]:
    """The words that both end in."""
    found: list[str] = []
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        found.append(a)
    return found


def _owners(trial: _Trial) -> Iterator[tuple[Path, type, Config]]:
    """The configs inside of a config, each with its path, its class and its fields."""

    def within(place: Path, cls: type, own: Config) -> Iterator[tuple[Path, type, Config]]:
        yield place, cls, own
        for field, value in own.items():
            if isinstance(value, dict) and "model_type" in value:
                with contextlib.suppress(Exception):
                    yield from within((*place, field), _class(cls, field, value), value)

    yield from within((), library.config_class(trial.name.partition("/")[0]), trial.config)


def _class(owner: Any, field: str, value: Config) -> type:
    kind = owner.sub_configs.get(field, transformers.AutoConfig)
    return library.config_class(value["model_type"]) if kind is transformers.AutoConfig else kind


def _annotation(owner: type, field: str) -> str:
    return next((str(f.type) for f in dataclass_fields(owner) if f.name == field), "")


def _with(config: Config, path: Path, value: Any) -> Config:
    made = copy.deepcopy(config)
    target: Any = made
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    return made
