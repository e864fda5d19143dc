"""Work that is given up when it takes too long."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Generator
from types import FrameType

_TICK = 0.1  # seconds between looks at the clock
_WAITING = 4  # of the wall's seconds for each of the processor's: others work here, too


class _Over(BaseException):
    """Not an Exception: torch's exporters catch those, and go on."""


@contextlib.contextmanager
def within(seconds: float) -> Generator[None]:
    """TimeoutError once the body has taken `seconds` of processor time, or four times as long.

    By a signal, so in the main thread alone, and where nobody else waits for that signal; the body
    isn't limited elsewhere. What the body has opened in a `with` is closed.
    """
    main = threading.current_thread() is threading.main_thread()
    if seconds == math.inf or not main or not hasattr(signal, "setitimer"):
        yield
        return
    if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return
    end, wall = time.process_time() + seconds, time.monotonic() + _WAITING * seconds
    done = False

    def look(_number: int, frame: FrameType | None) -> None:
        if done or (time.process_time() < end and time.monotonic() < wall):
            return
        while frame is not None:
            if frame.f_code.co_name in ("__enter__", "__exit__"):  # half done would stay half done
                return
            frame = frame.f_back
        raise _Over

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)  # again and again: one may be swallowed
    try:
        yield
    except _Over:
        raise TimeoutError(f"given up after {seconds:.0f} s") from None
    finally:
        done = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
