"""Frozen classes of named fields: what `dataclass(frozen=True)` gives, without its import.

dataclasses pulls in inspect and compiles four methods a class: a quarter of the time that
`archfind guess` may take, cold. Type checkers see a dataclass.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_: object):
        return lambda function: function


def _init(self: Any, *args: Any, **given: Any) -> None:
    names = self._fields
    if len(args) > len(names):
        raise TypeError(f"{type(self).__name__} takes {len(names)} values, not {len(args)}")
    values = self.__dict__
    values.update(self._defaults)
    values.update(zip(names, args))  # noqa: B905 (later fields may come by name or default)
    values.update(given)
    if len(values) != len(names) or any(name not in values for name in names):
        wrong = sorted(set(names) ^ set(values))
        raise TypeError(f"{type(self).__name__}: missing or unknown: {', '.join(wrong)}")


def _refuse(self: Any, name: str, *_: Any) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} is frozen; use replace()")


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
    return f"{type(self).__qualname__}({values})"


def _eq(self: Any, other: object) -> bool:
    return type(other) is type(self) and self.__dict__ == other.__dict__


def _hash(self: Any) -> int:
    return hash(tuple(getattr(self, name) for name in self._fields))


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make a class of annotated fields immutable and comparable, with an `__init__` that takes them
    by position or name. Defaults are shared, so they must be immutable themselves. A class made by
    the hundred thousand may bring an `__init__` of its own, which puts into `__dict__` what isn't a
    default."""
    names = tuple(cls.__annotations__)
    cls._fields = cls.__match_args__ = names  # pyright: ignore[reportAttributeAccessIssue]
    cls._defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}  # pyright: ignore
    if "__init__" not in vars(cls):
        cls.__init__ = _init
    cls.__setattr__ = cls.__delattr__ = _refuse  # pyright: ignore
    cls.__repr__, cls.__eq__, cls.__hash__ = _repr, _eq, _hash  # pyright: ignore
    return cls


def replace(instance: T, **changes: Any) -> T:
    """A copy with some fields changed."""
    return type(instance)(**{**vars(instance), **changes})
