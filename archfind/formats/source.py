"""One regular file, opened once and read in pieces that are checked before they are allocated."""

from __future__ import annotations

import os
import stat

from archfind.errors import CheckpointError, NotACheckpoint, Truncated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not hang the caller
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_PREAD = hasattr(os, "pread")


class ByteSource:
    """A file to read from. `path` is how the caller named it, `size` its length in bytes."""

    __slots__ = ("fd", "path", "size")

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        try:
            self.fd = os.open(path, _FLAGS)
            found = os.fstat(self.fd)
        except ValueError:
            raise CheckpointError("not a usable file name: it holds a null byte") from None
        except IsADirectoryError:
            raise _folder(path) from None
        except FileNotFoundError:
            raise CheckpointError("no such file", path) from None
        except PermissionError:
            if os.path.isdir(path):  # how Windows answers to a folder
                raise _folder(path) from None
            raise CheckpointError("may not be read: permission denied", path) from None
        except OSError as error:
            # ELOOP, ENAMETOOLONG, ENXIO (a socket): the system's own words say it best
            reason = (error.strerror or "unknown error").lower()
            raise CheckpointError(f"can't be opened: {reason}", path) from None
        if not stat.S_ISREG(found.st_mode):
            self.close()
            if stat.S_ISDIR(found.st_mode):
                raise _folder(path)
            raise NotACheckpoint("is not a regular file", path)
        self.size = found.st_size

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`, or Truncated."""
        if start < 0 or length < 0 or start + length > self.size:
            raise Truncated(
                f"cut off: {start + length:,} bytes are needed, the file has {self.size:,}. "
                "Download it again.",
                self.path,
            )
        data = self._read(start, length)
        if len(data) == length:
            return data
        parts = [data]  # one read() returns 2 GB at most, and less on some file systems
        got = len(data)
        while got < length:
            data = self._read(start + got, length - got)
            if not data:
                raise Truncated("shrank while it was read", self.path)
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def head(self, length: int) -> bytes:
        """The first `length` bytes, or all of a shorter file."""
        return self.read(0, min(length, self.size))

    def tail(self, length: int) -> bytes:
        """The last `length` bytes, or all of a shorter file."""
        length = min(length, self.size)
        return self.read(self.size - length, length)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _read(self, start: int, length: int) -> bytes:
        try:
            if _PREAD:
                return os.pread(self.fd, length, start)
            os.lseek(self.fd, start, os.SEEK_SET)
            return os.read(self.fd, length)
        except OSError as error:
            reason = (error.strerror or "unknown error").lower()
            raise CheckpointError(f"can't be read: {reason}", self.path) from None

    def __enter__(self) -> ByteSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def opened_file(path: str) -> FileIO:
    """The file to read from, unbuffered; CheckpointError where it is none, or none any more: a pipe
    in its place must not hang the caller."""
    from io import FileIO

    source = ByteSource(path)
    file = FileIO(source.fd, "r")  # which closes it
    file.name = path
    source.fd = -1
    return file


def _folder(path: str) -> NotACheckpoint:
    return NotACheckpoint(
        "is a folder: give a file, or a folder's model.safetensors.index.json", path
    )
