"""No library fetches anything while archfind builds a network, whatever a file says of itself."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from threading import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

_lock = Lock()
_inside: list[object] = []  # what was set before, once for each thread that is inside


@contextmanager
def offline() -> Generator[None]:
    """Inside, huggingface_hub is as with HF_HUB_OFFLINE=1, for every thread: a request raises.
    Afterwards it is as it was."""
    try:
        hub: Any = import_module("huggingface_hub.constants")
    except ImportError:
        yield
        return
    with _lock:
        _inside.append(hub.HF_HUB_OFFLINE if not _inside else _inside[0])
        hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                hub.HF_HUB_OFFLINE = before
