"""How large a network may be that a file describes in words, beside what its tensors show."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain

from torch import nn

from archfind.errors import BuildError
from archfind.probing.probe import on_meta

# Numbers that a network may have: tables that no file keeps are smaller than what is trained, but
# for those of a small one.
_TIMES, _MORE = 2, 1 << 26
_SECONDS = 10.0  # to build it without storage


def refuse_larger(make: Callable[[], nn.Module], held: int, path: str) -> None:
    """BuildError where `make`, tried without storage, gives a network of many more numbers than the
    `held` ones of the file, or doesn't end."""
    end = time.monotonic() + _SECONDS
    try:
        module = on_meta(make, {}, _SECONDS)
    except Exception as error:  # a library refuses values in its own ways, and says so once more
        if time.monotonic() < end:  # where it was stopped, it may have made an error of that
            return
        text = f"what the file claims of its network takes more than {_SECONDS:g} s to build"
        raise BuildError(text, path) from error
    count = sum(tensor.numel() for tensor in chain(module.parameters(), module.buffers()))
    if count > _TIMES * held + _MORE:
        text = f"what the file claims makes a network of {count:,} numbers; it has {held:,}"
        raise BuildError(f"{text}. Set the fields yourself (--set), or leave the claim out", path)
