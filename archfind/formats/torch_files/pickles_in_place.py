"""Pickles that lie in a file as they are: read as far as they go, in growing pieces."""

from __future__ import annotations

from archfind.errors import LimitExceeded
from archfind.formats import limits
from archfind.formats.pickles.machine import Machine
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.formats.torch_files.torch_objects import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_LOOK = 1 << 18  # the pickles of 300 tensors take about 80 kB


def machine_at(
    source: ByteSource,
    report: Report,
    reader: Reader,
    where: str,
    start: int = 0,
    end: int = -1,
    load: Callable[[object], object] | None = None,
    look: int = FIRST_LOOK,
    base: int | None = None,
) -> Machine:
    """A machine over the bytes from `start` to `end`, of which it fetches what it needs."""
    size = (source.size if end < 0 else end) - start

    def more(have: int) -> bytes | None:
        if have >= size:
            return None
        if have >= limits.PICKLE_BYTES:
            raise LimitExceeded(
                f"refused: {where} takes more than {limits.PICKLE_BYTES >> 20} MB", source.path
            )
        return source.read(start, min(size, have * 4, limits.PICKLE_BYTES))

    data = source.read(start, min(size, look))
    storages = None if load else reader.storages
    machine = Machine(source.path, where, data, reader.calls, load or reader.load, more, storages)
    report.begin(machine, reader, start if base is None else base)
    return machine
