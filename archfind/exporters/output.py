"""A file written once, from start to end, about as fast as the disk takes it.

What goes in is gathered in blocks that lie on whole pages of the file: writes that cut pages in two
cost half as much again. Blocks are handed to the disk while later ones are read, so that little is
left for the flush at the end, and checksums are another thread's work.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from archfind.errors import ExportError
from archfind.formats.source import opened_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from types import TracebackType
    from typing import Self

    from archfind.exporters.pieces import Extent, TensorToWrite

    Sum = int | Future[int]

BLOCK = 1 << 20  # bytes: it is read, summed and written while it is in the processor's cache
_WRITE = 1 << 18  # bytes; for larger writes the kernel looks longer for memory in one piece
_BLOCKS = 4  # how many checksums may lag behind
_HANDED = 32 * BLOCK  # bytes that the disk is given at once
_SMALL = 1 << 14  # bytes whose checksum takes less time than asking another thread for it


class NewFile:
    """A new file at `path`, to be used in a `with`, which flushes it to the disk. `at` is where the
    next byte goes. OSError where there is no room."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._out = os.open(path, flags, 0o666)
        self._summer, self._flusher = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._block = memoryview(bytearray(BLOCK))
        self._used: deque[tuple[memoryview, Future[int] | None]] = deque()
        self._filled = 0
        self._given = 0  # bytes that the disk was handed
        self._sum: Sum = 0
        self._latest: Future[int] | None = None
        self._is_summed = False
        self._source: FileIO | None = None
        self.at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._put(self._block[: self._filled])
                os.fsync(self._out)  # it is moved into place: there it must survive a power cut
        finally:
            self._summer.shutdown()
            self._flusher.shutdown()
            if self._source is not None:
                self._source.close()
            os.close(self._out)

    def write(self, data: bytes | memoryview) -> None:
        """All of `data`, which is copied."""
        view = memoryview(data)
        while len(view):
            room = self._block[self._filled : self._filled + len(view)]
            room[:] = view[: len(room)]
            self._took(room)
            view = view[len(room) :]

    def copy(self, extent: Extent) -> None:
        """An extent's bytes. ExportError where its file ends before them."""
        if self._source is None or self._source.name != extent.file:
            if self._source is not None:
                self._source.close()
            self._source = opened_file(extent.file)
        self._source.seek(extent.start)
        left = extent.length
        while left:
            room = self._block[self._filled : self._filled + left]
            got = self._source.readinto(room)
            if not got:
                raise ExportError("ends inside a tensor; download it again", extent.file)
            self._took(room[:got])
            left -= got

    def piece(self, piece: TensorToWrite) -> None:
        """A tensor's bytes."""
        if piece.plain is not None:
            self.copy(piece.plain)
        else:
            for chunk in piece.chunks():
                self.write(chunk)

    def summed(self, data: bytes | TensorToWrite) -> Sum:
        """Writes `data` and gives its crc32, once it is known."""
        self._sum, self._is_summed = 0, True
        if isinstance(data, bytes):
            self.write(data)
        else:
            self.piece(data)
        self._is_summed = False
        return self._sum

    def patch(self, at: int, data: bytes) -> None:
        """Overwrites what was written before, at `at`."""
        done = self.at - self._filled
        if at >= done:
            self._block[at - done : at - done + len(data)] = data
        elif at + len(data) > done:
            self.patch(at, data[: done - at])
            self.patch(done, data[done - at :])
        else:
            os.lseek(self._out, at, os.SEEK_SET)
            os.write(self._out, data)
            os.lseek(self._out, done, os.SEEK_SET)

    def _took(self, view: memoryview) -> None:
        """`view`, the next part of the block, has been filled."""
        if self._is_summed:
            before = self._sum
            if isinstance(before, int) and len(view) < _SMALL:
                self._sum = zlib.crc32(view, before)
            else:
                self._sum = self._latest = self._summer.submit(_crc32, view, before)
        self._filled += len(view)
        self.at += len(view)
        if self._filled == BLOCK:
            self._put(self._block)
            self._used.append((self._block, self._latest))
            self._filled = 0
            self._block = self._next()

    def _next(self) -> memoryview:
        if len(self._used) < _BLOCKS:
            return memoryview(bytearray(BLOCK))
        block, latest = self._used.popleft()
        if latest is not None:
            latest.result()  # sums are taken in order: with this one, every sum of the block is
        return block

    def _put(self, view: memoryview) -> None:
        while len(view):
            view = view[os.write(self._out, view[:_WRITE]) :]
        if self.at - self._given >= _HANDED and hasattr(os, "posix_fadvise"):
            # "not needed soon": the kernel begins to write what it would keep until the flush
            start, self._given = self._given, self.at
            size = self._given - start
            advice = os.POSIX_FADV_DONTNEED
            self._flusher.submit(os.posix_fadvise, self._out, start, size, advice)


def awaited_checksum(checksum: Sum) -> int:
    """A checksum, waited for."""
    return checksum if isinstance(checksum, int) else checksum.result()


def _crc32(view: memoryview, before: Sum) -> int:
    return zlib.crc32(view, awaited_checksum(before))
