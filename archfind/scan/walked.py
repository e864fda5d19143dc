"""Places -> files: every regular file below them once, whatever links and loops there are."""

from __future__ import annotations

import os

from archfind.errors import CheckpointError
from archfind.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OTHER = frozenset(
    """.c .cc .cpp .css .csv .cu .gif .go .h .html .ini .ipynb .java .jpeg .jpg .js .log .lock .md
    .mp3 .mp4 .png .py .pyc .rs .rst .sh .so .svg .toml .ts .tsv .txt .wav .xml .yaml .yml
    .parquet .arrow .jsonl .whl .pdf""".split()
)  # of files that hold no weights, and needn't be opened to know it


def walked(places: Iterable[str], notes: list[str]) -> Iterator[str]:
    """The files at and below `places` that may hold weights, in the order of their names. Links to
    files are followed, links to folders aren't; what a link leads to is given once. What can't
    be listed is told in `notes`. CheckpointError for a place that isn't there."""
    seen: set[tuple[int, int]] = set()
    linked: set[tuple[int, int]] = set()  # that were given under the name of a link
    for place in places:
        if not os.path.exists(place):
            raise CheckpointError("no such file or folder", place)
        for path in [place] if not os.path.isdir(place) else _below(place, notes):
            try:
                status = os.stat(path)
            except OSError:  # gone since it was listed
                continue
            identity = status.st_dev, status.st_ino
            is_link = os.path.islink(path)
            if identity in linked or (is_link and identity in seen):
                continue
            seen.add(identity)
            if is_link:
                linked.add(identity)
            yield path


def _below(folder: str, notes: list[str]) -> Iterator[str]:
    """Without recursion, as folders may be deep; one folder's names are held at a time."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            notes.append(f"{escape(folder)}: can't be listed: {error.strerror}")
            continue
        folders: list[str] = []
        for entry in listed:
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file() and os.path.splitext(entry.name)[1].lower() not in _OTHER:
                    yield entry.path
            except OSError:  # a link to nowhere, or in a circle
                continue
        waiting += reversed(folders)
