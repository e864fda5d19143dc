"""A network that takes too long to build is given up, and nothing is left half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import nn

from archfind.probing.probe import on_meta

SECONDS = 0.05
LAYER = {"in_features": 2, "out_features": 3}


def endless(first: Any = None) -> nn.Module:
    """A constructor that never calls torch again."""
    while True:
        if first is not None:
            first = first + 1


def test_a_loop_without_torch_is_stopped() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError, match="teaches nothing"):
        on_meta(endless, {"first": 0}, SECONDS)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert torch.is_grad_enabled() and not torch.empty(1).is_meta


def test_what_is_being_closed_is_closed_first() -> None:
    done: list[bool] = []

    @contextlib.contextmanager
    def slow_to_close() -> Generator[None]:
        yield
        for _ in range(20_000_000):  # longer than the time there is
            pass
        done.append(True)

    def make() -> nn.Module:
        with slow_to_close():
            pass
        return endless()

    with pytest.raises(TimeoutError):
        on_meta(make, {}, SECONDS)
    assert done == [True]


def test_a_thread_that_can_have_no_signal_builds_as_well() -> None:
    made: list[nn.Module] = []
    thread = threading.Thread(target=lambda: made.append(on_meta(nn.Linear, LAYER, 60)))
    thread.start()
    thread.join()
    assert [tuple(p.shape) for p in made[0].parameters()] == [(3, 2), (3,)]
