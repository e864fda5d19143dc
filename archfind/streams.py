"""Standard output and error where they are closed, full, or no longer read by anybody."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def prepare() -> None:
    """A stream that the caller closed becomes the null device. Its number must be taken: the next
    file to be opened would get it, and what libraries print would be written into that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w")  # noqa: SIM115  (until the process ends)
            setattr(sys, name, stream)
        stream.reconfigure(errors="backslashreplace")  # LC_ALL=C must not fail


def write_stream(stream: TextIO, text: str) -> OSError | None:
    """Write `text` and whatever waits in the stream; the error where that can't be. From then on
    the stream goes nowhere, so that ending the process doesn't fail once more."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
