"""The steps of long work, for whoever watches them: what is done, in how many seconds, and whether
to go on. On the cold path of `archfind guess`."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from time import monotonic

from archfind.errors import Stopped

_watches: list[watching] = []  # of all threads, the innermost of each last


class watching:
    """`with archfind.watching(progress=print, timeout=60):` watches what this thread does in
    archfind meanwhile.

    `progress` is called with the name of each step that is done, and with its seconds: identified,
    searched, built, loaded, exported, checked. After `timeout` seconds, or once `cancel()` is true
    (an Event's `is_set`), the work ends with Stopped, and nothing is left half written. That is
    asked between steps, and within the long ones of archfind's own; what torch or a library does in
    one call isn't interrupted.
    """

    def __init__(
        self,
        progress: Callable[[str, float], object] | None = None,
        *,
        timeout: float | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> None:
        self.progress = progress
        self.timeout = timeout
        self.cancel = cancel

    def __enter__(self) -> watching:
        self._thread = get_ident()
        self._start = self._last = monotonic()
        _watches.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watches.remove(self)

    def is_of(self, thread: int) -> bool:
        """Whether it watches this thread."""
        return self._thread == thread

    def check(self) -> None:
        """Stopped where the time is up, or the work is no longer wanted."""
        if self.timeout is not None and monotonic() - self._start >= self.timeout:
            raise Stopped(f"stopped: it took longer than {self.timeout:g} s")
        if self.cancel is not None and self.cancel():
            raise Stopped("stopped, as was asked for")

    def done(self, name: str) -> None:
        """A step is done, which began when the one before it ended."""
        now = monotonic()
        seconds, self._last = now - self._last, now
        if self.progress is not None:
            self.progress(name, seconds)
        self.check()


def done(name: str) -> None:
    """Tell whoever watches this thread that a step is done."""
    if _watches:
        thread = get_ident()
        for watch in [one for one in _watches if one.is_of(thread)]:
            watch.done(name)


def stop_if_unwanted() -> None:
    """Stopped where whoever watches this thread no longer wants its work."""
    if _watches:
        thread = get_ident()
        for watch in [one for one in _watches if one.is_of(thread)]:
            watch.check()
