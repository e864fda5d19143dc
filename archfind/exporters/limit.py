"""Work that is given up when it takes too long."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from types import FrameType

_TICK = 0.1  # seconds between looks at the clock
_WAITING = 4  # of the wall's seconds for each of the processor's: others work here, too


class _Over(BaseException):
    """Not an Exception: torch's exporters catch those, and go on."""


@contextlib.contextmanager
def within(seconds: float) -> Generator[None]:
    """TimeoutError once the body has taken `seconds` of processor time, or four times as long.

    In the main thread by a signal, which ends waiting too; in other threads, and where the program
    has its own use for SIGALRM, by another thread, as soon as the body is back in Python. A body
    that catches what ends it gets it again. What it is about to open or close in a `with` is
    opened or closed first.
    """
    end, wall = time.process_time() + seconds, time.monotonic() + _WAITING * seconds

    def is_over(frame: FrameType | None) -> bool:
        if time.process_time() < end and time.monotonic() < wall:
            return False
        while frame is not None:
            if frame.f_code.co_name in ("__enter__", "__exit__"):  # half done would stay half done
                return False
            frame = frame.f_back
        return True

    main = threading.current_thread() is threading.main_thread()
    alarm = main and hasattr(signal, "setitimer")
    alarm = alarm and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    try:
        with _alarmed(is_over) if alarm else _watched(is_over):
            yield
    except _Over:
        raise TimeoutError(f"given up after {seconds:.0f} s") from None


@contextlib.contextmanager
def _alarmed(is_over: Callable[[FrameType | None], bool]) -> Generator[None]:
    done = False

    def look(_number: int, frame: FrameType | None) -> None:
        if not done and is_over(frame):
            raise _Over

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
    try:
        yield
    finally:
        done = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@contextlib.contextmanager
def _watched(is_over: Callable[[FrameType | None], bool]) -> Generator[None]:
    here = ctypes.c_ulong(threading.get_ident())
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    done = threading.Event()

    def look() -> None:
        while not done.wait(_TICK):
            if is_over(sys._current_frames().get(here.value)):  # pyright: ignore[reportPrivateUsage]
                raise_in(here, ctypes.py_object(_Over))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        while watcher.is_alive():
            with contextlib.suppress(_Over):  # it may come while the watcher is being told
                done.set()
                watcher.join()
        with contextlib.suppress(_Over):
            raise_in(here, None)  # or be on its way still
