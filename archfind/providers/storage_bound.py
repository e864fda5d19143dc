"""A bound on what a constructor may allocate that can't be called without storage: the sizes that
it is called with may be those that a file claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from archfind.errors import BuildError

T = TypeVar("T")

NUMBERS = 1 << 30  # twice as many as the largest registered network has that needs storage
_FACTORIES = frozenset(
    "empty zeros ones full rand randn randint randperm arange linspace eye empty_strided "
    "logspace".split()
)
_FILLING = frozenset("normal_ uniform_ fill_ zero_ trunc_normal_ copy_".split())
# Of what torch says where a tensor without storage is asked for values, or to take some.
_STORAGELESS = "meta", "incompatible tensor type"


def with_storage(make: Callable[[], T]) -> T:
    """What `make` gives; BuildError once it asks for more than `NUMBERS` in all."""
    with _Bounded():
        return make()


def is_storageless(error: Exception) -> bool:
    """Whether a constructor failed for want of storage, rather than for its arguments."""
    return any(word in str(error).lower() for word in _STORAGELESS)


class _Bounded(TorchFunctionMode):
    """Counts what is made, before it's allocated; what is made past torch's functions, when it is
    filled, as memory that nobody has written to takes no room."""

    def __init__(self) -> None:
        super().__init__()
        self._left = NUMBERS

    def __torch_function__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _FACTORIES:
            self._left -= func(*args, **{**kwargs, "device": "meta"}).numel()
        tensor = args[0] if args else kwargs.get("tensor")
        beyond = name in _FILLING and isinstance(tensor, torch.Tensor) and tensor.numel() > NUMBERS
        if self._left < 0 or beyond:
            raise BuildError(f"a network of more than {NUMBERS:,} numbers isn't built to be tried")
        return func(*args, **kwargs)
