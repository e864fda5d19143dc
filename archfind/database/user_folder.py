"""Where a user's own signatures are, and the texts in a folder of them. On the cold path of
`archfind guess`: where a user has none, it costs one look at the disk."""

from __future__ import annotations

import os
import stat
import sys

from archfind.errors import SignatureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.user_text import UserText

VARIABLE = "ARCHFIND_SIGNATURES"
_FILES = 5_000  # of one folder
_BYTES = 64 << 20  # of all of them
_DEPTH = 4  # folders below folders: a name has two parts
_ENDING = ".txt"


def data_folder() -> str:
    """The user's folder of archfind's data, as the platform has it: below XDG_DATA_HOME, or what
    stands for it."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    return os.path.join(base, "archfind")


def user_signatures_folder(signatures: str) -> str:
    """The folder of a user's own signatures: the one that is told, the environment's, or that
    among the user's data."""
    told = signatures or os.environ.get(VARIABLE, "")
    return os.path.expanduser(told) if told else os.path.join(data_folder(), "signatures")


def listed(folder: str) -> list[tuple[str, int, int]]:
    """The texts at and below a folder, with their bytes and when they were changed, in order;
    links to folders aren't followed. SignatureError where there are too many."""
    found: list[tuple[str, int, int]] = []
    waiting = [(folder, 0)]
    while waiting:
        place, depth = waiting.pop()
        try:
            with os.scandir(place) as items:
                rows = sorted(items, key=lambda item: item.name)
        except OSError as error:
            raise SignatureError(f"can't be listed: {error.strerror}", place) from error
        for item in rows:
            if item.name.startswith("."):
                continue
            if item.is_dir(follow_symlinks=False) and depth < _DEPTH:
                waiting.append((item.path, depth + 1))
            elif item.name.endswith(_ENDING):
                try:
                    status = item.stat()
                except OSError:
                    continue  # gone since, or a link to nothing
                if stat.S_ISREG(status.st_mode):
                    found.append((item.path, status.st_size, status.st_mtime_ns))
        if len(found) > _FILES or len(waiting) > _FILES:
            raise SignatureError(f"more than {_FILES:,} files below it", folder)
    if sum(size for _, size, _ in found) > _BYTES:
        raise SignatureError(f"more than {_BYTES:,} bytes of signatures", folder)
    return sorted(found)


def texts(rows: list[tuple[str, int, int]]) -> tuple[list[UserText], list[SignatureError]]:
    """The signatures in listed files, and what is wrong with the files that hold none. Of two with
    one name the first stands."""
    from archfind.database.user_text import parsed_signature  # late: most users have none

    found: dict[str, UserText] = {}
    wrong: list[SignatureError] = []
    for path, _, _ in rows:
        try:
            one = parsed_signature(content(path), path)
            if one.name in found:
                other = found[one.name].path
                raise SignatureError(f"{one.name} is also the name of {other}", path)
        except SignatureError as error:
            wrong.append(error)
        else:
            found[one.name] = one
    return list(found.values()), wrong


def content(path: str) -> bytes:
    """A text's bytes, no more than a signature may have, and one. SignatureError where it can't be
    read."""
    from archfind.database.user_text import BYTES

    try:
        with open(path, "rb") as file:
            return file.read(BYTES + 1)
    except OSError as error:
        raise SignatureError(f"can't be read: {error.strerror}", path) from error
