"""Frozen classes of named fields: what `dataclass(frozen=True)` gives, without its import.

dataclasses pulls in inspect and compiles four methods a class: a quarter of the time that
`archfind guess` may take, cold. Type checkers see a dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_: object):
        return lambda function: function


_CLIP, _FEW, _LONG = 80, 8, 300  # characters of a text, items of a collection, characters of both


def _values(cls: Any, args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    """Every field's value, from a call's arguments."""
    names = cls._fields
    if len(args) > len(names):
        raise TypeError(f"{cls.__name__} takes {len(names)} values, not {len(args)}")
    values = {**cls._defaults, **dict(zip(names, args)), **given}  # noqa: B905 (others have defaults)
    if len(values) != len(names) or any(name not in values for name in names):
        wrong = sorted(set(names) ^ set(values))
        raise TypeError(f"{cls.__name__}: missing or unknown: {', '.join(wrong)}")
    return values


def _init(self: Any, *args: Any, **given: Any) -> None:
    self.__dict__.update(_values(type(self), args, given))


def _new(cls: Any, *args: Any, **given: Any) -> Any:
    missing = len(cls._fields) - len(args)
    if not given and 0 <= missing <= len(cls._last):
        return tuple.__new__(cls, args + cls._last[len(cls._last) - missing :])
    values = _values(cls, args, given)
    return tuple.__new__(cls, map(values.__getitem__, cls._fields))


def _args(self: Any) -> tuple[Any, ...]:
    """What a copy is made of."""
    return tuple(self)


def _refuse(self: Any, name: str, *_: Any) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} is frozen; use replace()")


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
    return f"{type(self).__qualname__}({values})"


def _short_repr(self: Any) -> str:
    """The fields that say something, long ones by how much is in them: a checkpoint has thousands
    of tensors, and nobody wants them all in a log."""
    default = self._defaults
    given = ((n, getattr(self, n)) for n in self._fields)
    words = (f"{n}={_short(v)}" for n, v in given if n not in default or v != default[n])
    return f"{type(self).__qualname__}({', '.join(words)})"


def _short(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= _CLIP else value[: _CLIP - 3] + "...")
    if isinstance(value, tuple | list | Mapping) and not hasattr(value, "_fields"):
        text = repr(value) if len(value) <= _FEW else ""
        return text if 0 < len(text) <= _CLIP else f"<{len(value)} items>"
    text = repr(value)
    return text if len(text) <= _LONG else f"<{type(value).__qualname__}>"


def _state(self: Any) -> dict[str, Any]:
    """What is pickled: read-only views of mappings can't be, and become mappings."""
    return {k: dict(v) if type(v) is MappingProxyType else v for k, v in self.__dict__.items()}


def _eq(self: Any, other: object) -> bool:
    return type(other) is type(self) and self.__dict__ == other.__dict__


def _hash(self: Any) -> int:
    return hash(tuple(getattr(self, name) for name in self._fields))


def _described(cls: type) -> dict[str, Any]:
    """What both kinds of class have."""
    names = tuple(cls.__annotations__)
    return {
        "_fields": names,
        "__match_args__": names,
        "_defaults": {name: vars(cls)[name] for name in names if name in vars(cls)},
        "__setattr__": _refuse,
        "__delattr__": _refuse,
        "__repr__": _repr,
    }


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make a class of annotated fields immutable and comparable, with an `__init__` that takes them
    by position or name. Defaults are shared, so they must be immutable themselves."""
    body = {**_described(cls), "__init__": _init, "__eq__": _eq, "__getstate__": _state}
    body["__repr__"] = vars(cls).get("__repr__", _short_repr)
    for name, value in body.items():
        setattr(cls, name, value)
    cls.__hash__ = _hash  # pyright: ignore
    return cls


@dataclass_transform(frozen_default=True)
def row(cls: type[T]) -> type[T]:
    """As `frozen`, for a class that is made by the hundred thousand: its instances are tuples of
    their fields, which take a third of the memory, and `tuple.__new__` makes them without running
    any Python. Being tuples, they equal any other of the same values."""
    body = _described(cls)
    body |= {"__doc__": cls.__doc__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    body |= {"__slots__": (), "__new__": _new, "__getnewargs__": _args}
    body["_last"] = tuple(body["_defaults"].values())
    body |= {name: property(itemgetter(n)) for n, name in enumerate(body["_fields"])}
    return type(cls.__name__, (tuple,), body)  # pyright: ignore


def rows(cls: type[T], values: Iterable[tuple[Any, ...]]) -> list[T]:
    """Many at once of a class that `row` made, each from the values of all its fields."""
    return list(map(partial(tuple.__new__, cls), values))  # pyright: ignore


def replace(instance: T, **changes: Any) -> T:
    """A copy with some fields changed."""
    values = {name: getattr(instance, name) for name in instance._fields}  # pyright: ignore
    return type(instance)(**{**values, **changes})
