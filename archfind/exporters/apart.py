"""Work in a process of its own, which the system ends when it takes too long.

An exception can't end it where it is: torch.export runs Python below C++ that aborts on exceptions
it doesn't expect, about once in a hundred.
"""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from typing import NoReturn

import torch

_WAITING = 4  # of the wall's seconds for each of the processor's: others work here, too
_MESSAGE = 2000  # characters
_NAMES = ("SIGALRM", "SIGXCPU", "SIGTERM", "SIGHUP", "SIGINT")
_ENDING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


def can_run_apart() -> bool:
    """Whether the system has processes that begin as copies."""
    return hasattr(os, "fork") and hasattr(signal, "setitimer")


def run_apart(work: Callable[[Callable[[], None]], None], seconds: float, longest: float) -> None:
    """Call `work` in a copy of this process: what it leaves are the files that it writes.

    It has `seconds` of processor time, or four times as long by the clock, and `longest` once it
    calls what it is given. Raises TimeoutError where that wasn't enough, and what `work` raised: an
    OSError as one, others as errors of the same name. RuntimeError if the process crashed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(work, seconds, longest, writer)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
    except BaseException:  # interrupted
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL):
            raise TimeoutError("given up, over its limit of time or memory")
        raise RuntimeError(f"crashed: {signal.strsignal(number)}")
    if said:
        name, number, text = json.loads(said)
        raise OSError(number, text) if number else type(name, (RuntimeError,), {})(text)


def _work(
    work: Callable[[Callable[[], None]], None], seconds: float, longest: float, writer: int
) -> NoReturn:
    """The copy's whole life."""
    said = b""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        for number in _ENDING:  # what the parent does then is its own affair
            signal.signal(number, signal.SIG_DFL)
        torch.set_num_threads(1)  # the threads of the pool weren't copied
        _limit(seconds, longest)
        work(lambda: _limit(longest, longest))
    except BaseException as error:
        while error.__cause__ is not None:
            error = error.__cause__
        number = error.errno if isinstance(error, OSError) else None
        text = str(error.strerror if isinstance(error, OSError) else error)[:_MESSAGE]
        said = json.dumps([type(error).__name__, number, text]).encode()
    finally:
        try:
            os.write(writer, said)
        finally:
            os._exit(0)


def _limit(seconds: float, longest: float) -> None:
    """Ends this process after `seconds`, which can be raised to `longest`."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = math.ceil(longest) + 1
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (min(math.ceil(seconds), most), most))
    signal.setitimer(signal.ITIMER_REAL, _WAITING * seconds)
