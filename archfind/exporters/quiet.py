"""torch's exporters without their noise, and what they say when they fail."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Generator

from archfind.escape import escape

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def reason(error: BaseException) -> str:
    """One line about an exporter's error: the innermost cause, since the outer ones are advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = (_COLOUR.sub("", line).strip() for line in str(error).splitlines())
    return escape(f"{type(error).__name__}: {next(filter(None, lines), '')}".rstrip(": "), 160)


@contextlib.contextmanager
def quiet_exporters() -> Generator[None]:
    """Without what torch's exporters print, warn and log."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
