"""A folder, a file, a wheel or an installed package -> its Python files, as text.

Nothing is imported: a package is found by its name alone, and a dotted name is followed by folders.
"""

from __future__ import annotations

import os
import sys
import zipfile
from importlib.machinery import PathFinder

from archfind.errors import CodeError
from archfind.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 2_000_000  # bytes of a file that is read: generated tables are longer
MOST = 200_000  # files
_SKIPPED = {"__pycache__", "node_modules", "site-packages"}
ARCHIVES = (".whl", ".zip", ".egg")


def python_files(place: str) -> Iterator[tuple[str, bytes]]:
    """Each Python file below `place`, with its path as a user would open it. CodeError where there
    is no such folder, file or package."""
    path = os.path.expanduser(place)
    if os.path.isfile(path) and path.lower().endswith(ARCHIVES):
        yield from _in_archive(path)
    elif os.path.isfile(path):
        yield from _read([path])
    elif os.path.isdir(path):
        yield from _read(_below(path))
    else:
        yield from _read(_of_package(place))


def _of_package(name: str) -> Iterator[str]:
    """The files of an installed package, or of a module in one."""
    words = name.replace("/", ".").split(".")
    found = PathFinder.find_spec(words[0], sys.path) if all(map(str.isidentifier, words)) else None
    if found is None:
        text = "is no folder, Python file, wheel or installed package; give one that has the class"
        raise CodeError(text, escape(name))
    folders = list(found.submodule_search_locations or ())
    if not folders and found.origin and len(words) == 1:
        yield found.origin
    for folder in folders:
        inner = os.path.join(folder, *words[1:])
        if os.path.isdir(inner):
            yield from _below(inner)
        elif os.path.isfile(f"{inner}.py"):
            yield f"{inner}.py"


def _below(folder: str) -> Iterator[str]:
    """Python files at any depth; links to folders aren't followed, so that there are no circles."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not f.startswith("."))
        yield from (os.path.join(above, name) for name in sorted(names) if name.endswith(".py"))


def _read(paths: Iterator[str] | list[str]) -> Iterator[tuple[str, bytes]]:
    for number, path in enumerate(paths):
        if number >= MOST:
            raise CodeError(f"more than {MOST:,} Python files; give a folder inside", escape(path))
        try:
            if os.path.isfile(path) and os.path.getsize(path) <= LARGEST:
                with open(path, "rb") as file:
                    yield path, file.read(LARGEST)
        except OSError:
            continue  # one that can't be read has no class for us


def _in_archive(path: str) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist()[:MOST]:
                if item.filename.endswith(".py") and item.file_size <= LARGEST:
                    with archive.open(item) as file:
                        yield f"{path}/{item.filename}", file.read(LARGEST)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise CodeError("can't be read as a zip archive", escape(path)) from error
