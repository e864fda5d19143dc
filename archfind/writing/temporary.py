"""Folders `.archfind-*`, in which new files are made: `new`, and a `lock` that dies with archfind.

A process that is killed leaves its folder. The next one that writes there removes it, if nobody
holds the lock: the system takes it from a process that ends, however it ends.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile

try:
    import fcntl
except ImportError:  # Windows: there nothing is removed
    fcntl = None

PREFIX = ".archfind-"
_NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")
_LOCK, _NEW = "lock", "new"
_TRIES = 10  # for each, another process has to remove a folder in the instant before it's locked


def make(parent: str) -> tuple[str, int]:
    """A folder in `parent` and the descriptor of its lock, which stays open while it is used.
    OSError where it can't be made."""
    for attempt in range(_TRIES):
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        try:
            return folder, _locked(folder)
        except FileNotFoundError:
            if attempt == _TRIES - 1:
                raise
        except OSError:
            remove(folder)
            raise
    raise AssertionError("not reached")


def temporary_folder(folder: str) -> str:
    """Where the new files go."""
    return os.path.join(folder, _NEW)


def remove(folder: str) -> None:
    """The lock last: what is left of a removal that is cut short can still be known."""
    shutil.rmtree(temporary_folder(folder), ignore_errors=True)
    if not os.path.lexists(temporary_folder(folder)):
        for end, path in ((os.unlink, os.path.join(folder, _LOCK)), (os.rmdir, folder)):
            try:
                end(path)
            except OSError:
                continue


def remove_abandoned(parent: str) -> None:
    """Remove the folders that killed processes of this user, on this machine, left in `parent`."""
    with os.scandir(parent) as entries:
        names = [entry.path for entry in entries if _NAME.fullmatch(entry.name)]
    for path in names:
        try:
            status = os.lstat(path)
            if fcntl is not None and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove_abandoned(path)
        except OSError:
            continue  # another process was quicker, or still runs


def _remove_abandoned(folder: str) -> None:
    assert fcntl is not None
    if not os.listdir(folder):
        return os.rmdir(folder)  # killed before it had a lock
    lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(lock).st_mode) and os.read(lock, 999) == _stamp():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
    finally:
        os.close(lock)


def _locked(folder: str) -> int:
    """The lock is held before its file says whose it is: nobody takes a new one for abandoned."""
    lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if _is_locked(lock):
            os.write(lock, _stamp())
        os.mkdir(temporary_folder(folder))
    except OSError:
        os.close(lock)
        raise
    return lock


def _is_locked(lock: int) -> bool:
    """Lock an open file; False where the system or its file system has no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _stamp() -> bytes:
    """Whose lock it is: on shared disks, another machine's is none here."""
    return f"archfind on {os.uname().nodename}\n".encode()
