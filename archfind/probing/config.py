"""A constructor's arguments as a tree of leaves, each with a dotted path, that can be moved one by
one: `depths.2`, `cfg.blocks.0.d`, `norm_layer.eps`.

A list has one more axis, its length, under the path `depths.#`.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import nn

Leaf = bool | int | float | str | None
Config = dict[str, Any]  # constructor argument -> value


class _Called(BaseException):
    """A constructor was called: that is all that was asked."""


def constructor_arguments(make: Callable[[], object], cls: type[nn.Module]) -> Config | None:
    """What `make` hands to the constructor of `cls`, defaults included, before anything is built;
    None where it never calls it."""
    original = cls.__init__
    signature = inspect.signature(original)
    config: Config = {}

    @functools.wraps(original)
    def record(self: nn.Module, *args: object, **kwargs: object) -> None:
        if type(self) is not cls:
            original(self, *args, **kwargs)
            return
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        config.update(keyword_arguments(bound.arguments, signature))
        raise _Called

    cls.__init__ = record  # pyright: ignore[reportAttributeAccessIssue]
    try:
        make()
    except _Called:
        return config
    finally:
        cls.__init__ = original
    return None


def captured_call(make: Callable[[], nn.Module]) -> tuple[nn.Module, type[nn.Module], Config]:
    """A module, its class, and every argument that its constructor got, defaults included."""
    cls = type(make())
    original = cls.__init__
    calls: dict[int, Config] = {}
    signature = inspect.signature(original)

    @functools.wraps(original)
    def record(self: nn.Module, *args: object, **kwargs: object) -> None:
        if id(self) not in calls:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            # Some constructors edit the lists that they are given.
            calls[id(self)] = {
                k: copied_leaves(v)
                for k, v in keyword_arguments(bound.arguments, signature).items()
            }
        original(self, *args, **kwargs)

    cls.__init__ = record  # pyright: ignore[reportAttributeAccessIssue]
    try:
        module = make()
    finally:
        cls.__init__ = original
    config = calls.get(id(module), {})
    return module, cls, with_inherited(cls, config) if config else config


def with_inherited(cls: type[nn.Module], config: Config) -> Config:
    """The config with the arguments that the class's parents take, if they say the same."""
    more = {name: value for name, value in inherited(cls).items() if name not in config}
    return {**config, **more} if _is_taken(cls, config, more) else config


def inherited(cls: type[nn.Module]) -> Config:
    """Defaults of the constructors that `cls` hands its **kwargs on to."""
    found: Config = {}
    for one in cls.__mro__:
        if "__init__" not in vars(one) or one is nn.Module:
            continue
        parameters = inspect.signature(one.__init__).parameters.values()
        for parameter in parameters:
            if parameter.default is not inspect.Parameter.empty:
                found.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def _is_taken(cls: type[nn.Module], config: Config, more: Config) -> bool:
    """Whether a class takes more arguments, and makes the same tensors then."""
    if not more:
        return False
    try:
        with torch.device("meta"):
            made = [cls(**copied_leaves(one)) for one in (config, {**config, **more})]
    except Exception:  # of some constructors, kwargs aren't their parents'
        return False
    first, second = ({k: t.shape for k, t in one.state_dict().items()} for one in made)
    return first == second


def keyword_arguments(arguments: Mapping[str, Any], signature: inspect.Signature) -> Config:
    """Bound arguments as keywords; what **kwargs took stands beside the rest."""
    found: Config = {}
    for number, (name, value) in enumerate(arguments.items()):
        kind = signature.parameters[name].kind
        if number == 0:
            continue  # self
        if kind is inspect.Parameter.VAR_KEYWORD:
            found.update(value)
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            found[name] = value
    return found


def copied_leaves(value: Any) -> Any:
    """A copy of the lists and dicts in a value, sharing what isn't data."""
    if type(value) in (list, tuple):
        return type(value)(copied_leaves(item) for item in value)
    if type(value) is dict:
        return {key: copied_leaves(item) for key, item in value.items()}
    return value


def leaves_of_config(config: Config) -> dict[str, Leaf]:
    """Every leaf by its path, and the length of every list."""
    found: dict[str, Leaf] = {}
    for name, value in config.items():
        _collect(name, value, found)
    return found


def _children(value: object) -> dict[str, Any] | None:
    """The parts of a value that can be replaced one at a time, or None for a leaf or an object that
    isn't data."""
    if isinstance(value, list | tuple):
        return {str(n): item for n, item in enumerate(value)}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, functools.partial):
        return dict(value.keywords)  # pyright: ignore[reportUnknownArgumentType]
    if is_dataclass(value) and not isinstance(value, type):
        return dict(value.__dict__)
    if isinstance(value, type) or callable(value) or isinstance(value, nn.Module):
        return None
    inner = getattr(value, "__dict__", None)
    return dict(inner) if inner else None


def _collect(path: str, value: object, found: dict[str, Leaf]) -> None:
    if value is None or isinstance(value, bool | int | float | str):
        found[path] = value
        return
    parts = _children(value)
    if parts is None:
        return
    if isinstance(value, list | tuple):
        found[f"{path}.#"] = len(parts)
    for name, item in parts.items():
        _collect(f"{path}.{name}", item, found)


def moved(config: Config, moves: Mapping[str, Leaf]) -> Config:
    """The config with some leaves at other values. A list that grows repeats its last item; what is
    beyond the end of one that is given its length isn't there."""
    moves = merged_moves({}, moves)
    out = {name: copied_leaves(value) for name, value in config.items()}
    lengths = {path[:-2]: n for path, n in moves.items() if path.endswith(".#")}
    for path, n in sorted(lengths.items(), key=lambda item: item[0].count(".")):
        name, *rest = path.split(".")
        out[name] = _with_length(out[name], rest, n)  # pyright: ignore[reportArgumentType]
    for path, value in moves.items():
        if not path.endswith(".#"):
            name, *rest = path.split(".")
            out[name] = _with_leaf(out[name], rest, value)
    return out


def _with_length(value: Any, path: list[str], length: int) -> Any:
    if path:
        inner = (_children(value) or {})[path[0]]
        return _with_leaf(value, path[:1], _with_length(inner, path[1:], length))
    # One number stands for a height and a width where a class takes either.
    items = list(value) if isinstance(value, list | tuple) else [value]
    items = items[:length] + [copy.copy(items[-1]) for _ in range(length - len(items))]
    return type(value)(items) if type(value) in (list, tuple) else items


def _with_leaf(value: Any, path: list[str], leaf: Any) -> Any:
    """A copy of `value` with one part of it replaced."""
    if not path:
        return leaf
    name, *rest = path
    new = _with_leaf((_children(value) or {}).get(name), rest, leaf)
    if isinstance(value, tuple):
        items = [*value[: int(name)], new, *value[int(name) + 1 :]]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, list):
        return [*value[: int(name)], new, *value[int(name) + 1 :]]
    if isinstance(value, Mapping):
        kind = dict if type(value) is dict else type(value)
        return kind({key: new if str(key) == name else item for key, item in value.items()})  # pyright: ignore[reportCallIssue]
    if isinstance(value, functools.partial):
        return functools.partial(value.func, *value.args, **{**value.keywords, name: new})
    changed = copy.copy(value)
    object.__setattr__(changed, name, new)
    return changed


def merged_moves(moves: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both, without the items of lists that are shorter now."""
    found = {**moves, **more}
    for path, length in more.items():
        if path.endswith(".#") and type(length) is int:
            inside = f"{path[:-1]}"
            for other in [p for p in found if p.startswith(inside) and p != path]:
                number = other[len(inside) :].partition(".")[0]
                if number.isdigit() and int(number) >= length:
                    del found[other]
    return found
