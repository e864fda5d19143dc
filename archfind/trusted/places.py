"""A file of somebody's code -> how its module is imported. Nothing is imported here."""

from __future__ import annotations

import os
import sys

from archfind.codebase.files import ARCHIVES
from archfind.types import TrustedClass

_ABOVE = 4  # folders without an __init__.py between a file and the package that it is in


def ways(place: str, file: str, name: str) -> list[TrustedClass]:
    """The ways to import the class `name` of the Python file `file`, which stands in `place`, the
    likeliest first: as a module of its package; else from the folder that the user named, so that
    its imports of neighbours hold; else from the file's own folder."""
    place = os.path.abspath(os.path.expanduser(place))
    if os.path.isfile(place) and place.lower().endswith(ARCHIVES):
        inner = os.path.abspath(file)[len(place) + 1 :]
        return [TrustedClass(place, (place,), _dotted(inner), name, os.path.join(place, inner))]
    file = os.path.abspath(file)
    folder = os.path.dirname(file)
    root = place if os.path.isdir(place) else folder
    package = _package(folder)
    tops = [package] if package else []
    if not package or package == folder:
        tops += [root] if f"{folder}{os.sep}".startswith(f"{root.rstrip(os.sep)}{os.sep}") else []
        tops += [folder]
    found: list[TrustedClass] = []
    for top in dict.fromkeys(tops):
        paths = tuple(dict.fromkeys(one for one in (top, root) if one not in sys.path))
        module = _dotted(os.path.relpath(file, top))
        found.append(TrustedClass(place, paths, module, name, file))
    return found


def _package(folder: str) -> str:
    """The folder that the outermost package around `folder` stands in; "" where it's in none."""
    inside = folder
    for _ in range(_ABOVE):
        if _is_package(inside):
            break
        inside = os.path.dirname(inside)
    if not _is_package(inside):
        return ""
    while _is_package(inside):
        inside = os.path.dirname(inside)
    return inside


def _is_package(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "__init__.py"))


def _dotted(path: str) -> str:
    """`nets/unet.py` -> nets.unet."""
    module = path.removesuffix(".py").replace(os.sep, ".").replace("/", ".")
    return module.removesuffix(".__init__")
