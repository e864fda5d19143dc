"""Arrays of traced numbers: numpy makes plain ones of them, and what they were computed from would
be lost where a constructor keeps its sizes in a table."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from typing import Any

from archfind.probing.numbers import Number


def _has_traced(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_traced, value))  # pyright: ignore[reportUnknownArgumentType]
    return isinstance(value, Number)


@contextlib.contextmanager
def kept_in_arrays() -> Generator[None]:
    """`numpy.array` of traced numbers keeps them, as long as this lasts."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        yield
        return
    make = numpy.array

    class Traced(numpy.ndarray):
        """An array of Python's objects, which stay what they are whatever numbers they shall be."""

        def astype(self, *_args: Any, **_kwargs: Any) -> Any:
            return self

    def array(value: Any, *args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs and _has_traced(value):
            return make(value, dtype=object).view(Traced)
        return make(value, *args, **kwargs)

    numpy.array = array
    try:
        yield
    finally:
        numpy.array = make
