"""Whether an argument that changes no tensor changes what a network computes: what its modules
remember of it."""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from torch import nn

_DEEPEST = 6
_OWN = frozenset(
    "_parameters _buffers _modules _non_persistent_buffers_set training inplace".split()
)
_DROPPING = "drop"  # nothing is dropped when a network is used


class Opaque(Exception):
    """A module remembers something that can't be compared."""


def remembered(module: nn.Module) -> list[object]:
    """All that a network's modules keep beside their tensors, but for dropping: classes, numbers,
    words, functions. Opaque where something else is among it, as a table that isn't in the state
    dict and whose values nobody knows without storage."""
    found: list[object] = []
    for name, one in module.named_modules():
        if one._non_persistent_buffers_set:  # pyright: ignore[reportPrivateUsage]
            raise Opaque
        found.append((name, type(one).__module__, type(one).__qualname__))
        if isinstance(one, nn.modules.dropout._DropoutNd):  # pyright: ignore[reportPrivateUsage]
            continue
        for key in sorted(vars(one)):
            if key not in _OWN and not _is_rate(key, vars(one)[key]):
                found.append((key, _plain(vars(one)[key], 0)))
    return found


def _is_rate(key: str, value: object) -> bool:
    """Whether an attribute says how much is dropped."""
    return _DROPPING in key.lower() and type(value) in (int, float)


def _plain(value: Any, depth: int) -> object:
    if depth > _DEEPEST:
        raise Opaque
    if value is None or isinstance(value, bool | int | float | str | bytes | complex):
        return type(value).__name__, value
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if isinstance(value, nn.Module):
        return "module", type(value).__qualname__, _whole(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item, depth + 1) for item in value]
        return type(value).__name__, sorted(items, key=repr) if isinstance(
            value, set | frozenset
        ) else items
    if isinstance(value, dict):
        pairs = [(_plain(k, depth + 1), _plain(v, depth + 1)) for k, v in value.items()]
        return "dict", pairs
    if isinstance(value, type | types.BuiltinFunctionType):
        return value.__module__, value.__qualname__
    if isinstance(value, functools.partial):
        return (
            "partial",
            _plain(value.func, depth + 1),
            _plain([*value.args, value.keywords], depth + 1),
        )
    if isinstance(value, types.MethodType):
        return "method", value.__func__.__qualname__
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        code = value.__code__
        inside = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
        if len(inside) < len(code.co_consts):
            raise Opaque
        return code.co_code, _plain(inside, depth + 1), code.co_names, _plain(cells, depth + 1)
    raise Opaque


def _whole(module: nn.Module, depth: int) -> object:
    """A module that another remembers without being its parent."""
    kept = {k: v for k, v in vars(module).items() if k not in _OWN and not _is_rate(k, v)}
    inner = [_whole(one, depth + 1) for one in module.children()]
    return type(module).__qualname__, _plain(kept, depth + 1), inner
