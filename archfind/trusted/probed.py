"""A class of somebody's code and a file's tensors -> the arguments that make them, as JSON."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from torch import nn

from archfind.database.plain import Unplain, encoded
from archfind.probing.config import Config, Leaf, leaves_of_config, moved
from archfind.probing.descended import descended
from archfind.probing.descent import Descent
from archfind.probing.probe import Shapes, on_meta
from archfind.probing.proposals import alternates, leaf_name
from archfind.trusted.behaviour import Opaque, remembered
from archfind.trusted.calls import default_arguments, started

_QUESTIONS = 10.0  # seconds for which arguments the tensors show
_VALUES = 6  # of one argument that are tried
_SECONDS = 5.0  # for one network


def probed(
    cls: type[nn.Module],
    told: Mapping[str, object],
    target: Shapes,
    seconds: float,
    deep: bool = True,
) -> dict[str, object]:
    """What `cls` is called with so that its tensors are, or nearly are, `target`, from the
    arguments that static sizes have `told`; within about so many `seconds`, with what seldom helps
    where it's to go `deep`. Unsolved where it can't be called at all."""
    end = time.monotonic() + seconds
    config = started(cls, told, target, end)

    def again() -> Descent:
        return Descent(cls, config, target, {})

    descent = descended(again(), again, end, {}, deep)
    order = list(inspect.signature(cls.__init__).parameters)
    place = {name: number for number, name in enumerate(order)}
    config = dict(sorted(config.items(), key=lambda item: place.get(item[0], len(order))))
    whole = moved(config, descent.moves)
    found: dict[str, object] = {
        "shapes": [[key, list(shape), kind] for key, (shape, kind) in descent.shapes.items()],
        "tries": descent.tries,
    }
    own, _ = default_arguments(cls)
    objects = {name: _words(value) for name, value in whole.items() if not _is_plain(value)}
    given: dict[str, object] = {}
    for name, value in whole.items():
        if name in objects:
            base = own.get(name, config[name])
            before, after = leaves_of_config({name: base}), leaves_of_config({name: value})
            given |= {p: encoded(v) for p, v in after.items() if before.get(p, ...) != v}
        elif name not in own or own[name] != value:
            given[name] = encoded(value)
    shown, open_ones = ([], []) if descent.cost else shown_by_tensors(cls, config, descent)
    return found | {
        "arguments": given,
        "defaults": {n: encoded(v) for n, v in own.items() if _is_plain(v)},
        "objects": objects,
        "shown": shown,
        "assumed": open_ones,
    }


def _is_plain(value: object) -> bool:
    try:
        encoded(value)
    except Unplain:
        return False
    return True


def _words(value: Any) -> str:
    """An object in words, as code would call it."""
    named = value if hasattr(value, "__qualname__") else type(value)
    text = f"{named.__module__}.{named.__qualname__}".replace("torch.nn.modules.", "torch.nn.")
    if text.startswith("torch.nn.") and hasattr(nn, named.__qualname__):
        text = f"torch.nn.{named.__qualname__}"
    return text if named is value else f"{text}()"


def shown_by_tensors(
    cls: type[nn.Module], config: Config, descent: Descent
) -> tuple[list[str], list[list[object]]]:
    """The arguments that the tensors leave one value, by their names or those of their leaves; and
    those that change no tensor and what the network computes, each with its value and others that
    give the same tensors. What wasn't asked about in time is among these."""
    descent.look_until(time.monotonic() + _QUESTIONS)
    end = time.monotonic() + _QUESTIONS
    whole = moved(config, descent.moves)
    values = leaves_of_config(whole)
    base = _memory(cls, whole)
    shown: list[str] = []
    assumed: list[list[object]] = []
    for name, value in whole.items():
        own = {p: v for p, v in values.items() if p == name or p.startswith(f"{name}.")}
        if "drop" in name.lower() and type(value) in (int, float):
            continue
        is_open = not _is_plain(value) and not is_dataclass(value)  # as another class of norm
        others: list[object] = []
        for path, leaf in own.items():
            forced, some = _forced(descent, path, leaf) if time.monotonic() < end else (False, [])
            if forced:
                if path != name:
                    shown.append(path)
                continue
            if not _is_idle(cls, whole, path, some, base):
                is_open = True
                others += some if path == name else []
        if not is_open and own:
            shown.append(name)
        elif is_open:
            said = encoded(value) if _is_plain(value) else _words(value)
            assumed.append([name, said, [encoded(item) for item in others[:_VALUES]]])
    return shown, assumed


def _forced(descent: Descent, path: str, value: Leaf) -> tuple[bool, list[Leaf]]:
    """Whether every other value of a leaf gives other tensors; else those that give the same."""
    hints = [*descent.hints.get(leaf_name(path), ())]
    some = [not value] if type(value) is bool else alternates(path, value, hints)[:_VALUES]
    if type(value) in (int, float):  # a number may be asked for its truth
        some += [n for n in (0, 1, -1) if n != value and n not in some]
    costs = [(item, descent.tried({**descent.moves, path: item})) for item in some]
    same = [item for item, cost in costs if cost == descent.cost]
    moves = any(cost is not None and cost != descent.cost for _, cost in costs)
    if same or not moves:
        return False, same
    return type(value) is not int or not descent.is_free(path), []


def _memory(cls: type[nn.Module], config: Config) -> object:
    """What the network remembers, None where that can't be compared."""
    try:
        return remembered(on_meta(cls, config, _SECONDS))
    except (Opaque, Exception):  # code refuses values in its own ways
        return None


def _is_idle(
    cls: type[nn.Module], whole: Config, path: str, some: list[Leaf], base: object
) -> bool:
    """Whether other values of a leaf make the same network in all that its modules remember."""
    if base is None or not some:
        return False
    return all(_memory(cls, moved(whole, {path: item})) == base for item in some)
