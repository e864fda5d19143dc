"""Signals that end the process, while it has something to put away or mustn't stop halfway."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU")
    if hasattr(signal, name)
)
_cleanups: list[tuple[int, Callable[[], None]]] = []  # process, what it puts away


@contextlib.contextmanager
def put_away(clean: Callable[[], None]) -> Generator[None]:
    """Inside, SIGTERM and SIGHUP call `clean` and then end the process as they do anyway. Off the
    main thread, or where the caller has handlers of their own, nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in ENDING}
    entry = (os.getpid(), clean)
    _cleanups.append(entry)
    try:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, _end)
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)
        _cleanups.remove(entry)


def _end(number: int, _: object) -> None:
    for process, clean in reversed(_cleanups):
        if process == os.getpid():  # a forked child inherits the handler, not the folders
            clean()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


@contextlib.contextmanager
def held() -> Generator[None]:
    """Inside, signals that end or interrupt the process wait until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.getsignal(n) for n in (*ENDING, signal.SIGINT)}
    kept = {n: h for n, h in before.items() if callable(h) or h is signal.SIG_DFL}
    for number in kept:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
