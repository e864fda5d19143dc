"""What holds while archfind builds a network: one at a time, and nothing is fetched."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from threading import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

_alone = RLock()


@contextmanager
def building() -> Generator[None]:
    """Inside, other threads wait: libraries change torch's default dtype, its initialisers,
    warnings and stdout for the whole process as they build. And huggingface_hub is as with
    HF_HUB_OFFLINE=1, so that a request raises, whatever a file says of itself. Afterwards it is as
    it was."""
    with _alone:
        try:
            hub: Any = import_module("huggingface_hub.constants")
        except ImportError:
            yield
            return
        before = hub.HF_HUB_OFFLINE
        hub.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            hub.HF_HUB_OFFLINE = before


@contextmanager
def without_sockets() -> Generator[None]:
    """Inside, no socket of this process connects: for learning, which calls what a library offers
    with arguments that it was never called with. A server that builds networks uses `building`."""
    import socket

    def refuse(self: socket.socket, address: object) -> None:
        raise ConnectionError(f"a library asked for {address!r} while its networks were learned")

    own = {name: vars(socket.socket).get(name) for name in ("connect", "connect_ex")}
    for name in own:
        setattr(socket.socket, name, refuse)
    try:
        yield
    finally:
        for name, method in own.items():
            if method is None:
                delattr(socket.socket, name)
            else:
                setattr(socket.socket, name, method)
