"""Files -> rows, on all cores, in the order of the files."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from archfind.database import entries
from archfind.scan.rows import COLUMNS, row_of_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archfind.scan.known import KnownRows
    from archfind.scan.rows import Row

_AHEAD = 64  # files for each process that are handed out before their turn
_ALONE = 16  # files, for which starting processes takes longer than reading


def scanned(
    paths: Iterable[str], known: KnownRows, *, jobs: int = 0, is_hashed: bool = False
) -> Iterator[Row | None]:
    """A row for each path, None for a file that holds no weights. `jobs` is how many processes
    work on them, 0 for one a core. A file that ends its process (too large for the memory, say) is
    told so in its row, and the others go on."""
    jobs = jobs or os.cpu_count() or 1
    first: list[str] = []
    rest = iter(paths)
    for path in rest:
        first.append(path)
        if len(first) > _ALONE:
            break
    if jobs == 1 or len(first) <= _ALONE:
        for path in (*first, *rest):
            made = known.row(path) or row_of_file(path, is_hashed=is_hashed)
            if made is not None:
                known.keep(path, made)
            yield made
        return
    pool = _Pool(jobs, is_hashed)
    waiting: deque[tuple[str, Row | Future[Row | None]]] = deque()
    try:
        for path in (*first, *rest):
            waiting.append((path, known.row(path) or pool.started(path)))
            if len(waiting) >= _AHEAD * jobs:
                yield _taken(*waiting.popleft(), pool, known)
        while waiting:
            yield _taken(*waiting.popleft(), pool, known)
    finally:
        pool.stop()


def _taken(path: str, made: Row | Future[Row | None], pool: _Pool, known: KnownRows) -> Row | None:
    """The row of a path, when its turn has come."""
    if isinstance(made, dict):
        return made
    try:
        done = made.result()
    except BrokenProcessPool:  # one of those under way ended the process: each is tried alone
        done = pool.alone(path)
    if done is not None:
        known.keep(path, done)
    return done


def _begun(signatures: str) -> None:
    """A process starts with the user's signatures that its parent has."""
    entries.with_signatures(signatures).__enter__()


class _Pool:
    """Processes that are started anew where a file ended one of them."""

    def __init__(self, jobs: int, is_hashed: bool) -> None:
        self._jobs, self._hashed = jobs, is_hashed
        self._pool = self._made(jobs)

    @staticmethod
    def _made(jobs: int) -> ProcessPoolExecutor:
        # Not forked: this process may have threads and open files.
        return ProcessPoolExecutor(
            jobs, get_context("spawn"), initializer=_begun, initargs=(entries.told_folder(),)
        )

    def started(self, path: str) -> Future[Row | None]:
        try:
            return self._pool.submit(row_of_file, path, is_hashed=self._hashed)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._made(self._jobs)
            return self._pool.submit(row_of_file, path, is_hashed=self._hashed)

    def alone(self, path: str) -> Row | None:
        """The row from a process of its own, or one that says that the process ended."""
        with self._made(1) as pool:
            try:
                return pool.submit(row_of_file, path, is_hashed=self._hashed).result()
            except BrokenProcessPool:
                empty = {name: kind() for name, kind in COLUMNS.items()}
                return {**empty, "path": path, "error": "the process that read it was ended"}

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
