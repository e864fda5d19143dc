"""The files of a codebase, scanned for what each declares and parsed where that is asked for."""

from __future__ import annotations

import os
import re

from archfind.codebase.declared import Module, UnparsedFile
from archfind.codebase.files import python_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from archfind.codebase.declared import Class, Function

_CLASS = re.compile(rb"^[ \t]*class[ \t]+(\w+)", re.MULTILINE)
_FUNCTION = re.compile(rb"^def[ \t]+(\w+)", re.MULTILINE)
_SET = re.compile(rb"\bself\.(\w+)|[\"'](\w+)[\"'.{%]")
_ALIKE = 4  # classes of one name that are looked at
_VISIBLE = 80  # classes that a module declares or imports
_LINEAGE = 24  # classes that one inherits from
_KEPT = 256 << 20  # bytes of archives' files


class Codebase:
    """Every Python file below a place. `unread` has the files that don't parse, with why."""

    def __init__(self, place: str, words: Collection[str]) -> None:
        """Scan for the `words` that a class sets as attributes."""
        self.read = 0  # files
        self.unread: dict[str, str] = {}
        self.words: dict[str, int] = {}  # how many of the words each file has
        self._classes: dict[str, list[str]] = {}
        self._functions: dict[str, list[str]] = {}
        self._parsed: dict[str, Module | None] = {}
        self._visible: dict[str, list[Class]] = {}
        self._texts: dict[str, bytes] = {}
        wanted = {word.encode() for word in words}
        kept = 0
        for path, text in python_files(place):
            self.read += 1
            names = _CLASS.findall(text)
            for name in {*names}:
                self._classes.setdefault(name.decode(), []).append(path)
            for name in {*_FUNCTION.findall(text)}:
                self._functions.setdefault(name.decode(), []).append(path)
            if names:
                written = {one or other for one, other in _SET.findall(text)}
                common = len(written & wanted)
                if common:
                    self.words[path] = common
            if not os.path.exists(path) and kept < _KEPT:  # inside of an archive
                self._texts[path] = text
                kept += len(text)

    def module(self, path: str) -> Module | None:
        """A file, parsed; None where it doesn't parse."""
        if path not in self._parsed:
            self._parsed[path] = self._parse(path)
        return self._parsed[path]

    def _parse(self, path: str) -> Module | None:
        text = self._texts.get(path)
        try:
            if text is None:
                with open(path, "rb") as file:
                    text = file.read()
            return Module(path, text)
        except (UnparsedFile, OSError) as error:
            self.unread[path] = str(error)
            return None

    def classes(self, name: str, module: Module) -> list[Class]:
        """The classes that `name` may mean in a module: its own, or those that it imports."""
        simple = module.names.get(name, name).rpartition(".")[2]
        if name in module.classes:
            return [module.classes[name]]
        found = (
            other.classes[simple]
            for path in self._by_nearness(self._classes.get(simple, ()), name, module)
            if (other := self.module(path)) is not None and simple in other.classes
        )
        return [cls for cls, _ in zip(found, range(_ALIKE), strict=False)]

    def visible(self, module: Module) -> list[Class]:
        """The classes that a module declares or imports."""
        if module.path not in self._visible:
            found = list(module.classes.values())
            for name, source in module.names.items():
                if source.rpartition(".")[2] in self._classes and name not in module.classes:
                    found += self.classes(name, module)[:1]
            self._visible[module.path] = found[:_VISIBLE]
        return self._visible[module.path]

    def lineage(self, cls: Class) -> list[Class]:
        """A class with the classes that it inherits from, each once, itself first."""
        found = [cls]
        for one in found:
            for name in one.bases:
                found += [b for b in self.classes(name, one.module)[:1] if b not in found]
            if len(found) > _LINEAGE:
                break
        return found

    def function(self, name: str, module: Module) -> tuple[Function, Module] | None:
        """The function that `name` means in a module, and where it stands."""
        if name in module.functions:
            return module.functions[name], module
        simple = module.names.get(name, "").rpartition(".")[2]
        for path in self._by_nearness(self._functions.get(simple, ()), name, module):
            other = self.module(path)
            if other is not None and simple in other.functions:
                return other.functions[simple], other
        return None

    def _by_nearness(self, paths: Iterable[str], name: str, module: Module) -> list[str]:
        """Files that declare a name, those first that the module's import says, then the ones that
        stand nearest to it."""
        source = {*module.names.get(name.partition(".")[0], "").split(".")}

        beginning = module.path.split("/")

        def order(path: str) -> tuple[int, int, str]:
            places = path.removesuffix(".py").split("/")
            same = sum(map(str.__eq__, places, beginning))
            return -len(source.intersection(places)), -same, path

        return sorted(paths, key=order)[: 2 * _ALIKE]
