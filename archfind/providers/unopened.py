"""Packages whose own file runs late: when somebody asks for one of its names.

A package may import everything that it has, and what that needs, for the sake of its registry. Who
wants one module of it must import the package first, so pays for all of it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

_opening = RLock()


class _Unopened(ModuleType):
    """Stands for the package and becomes it: the same module in sys.modules, so that who imports
    the package gets all of it, and modules of it that were imported before stay what they are.
    (importlib's LazyLoader isn't for packages: reading __path__, which importing does, loads.)"""

    def __getattr__(self, name: str) -> Any:
        with _opening:
            if type(self) is _Unopened:  # nobody was faster
                self.__class__ = ModuleType  # pyright: ignore[reportAttributeAccessIssue]
                spec = self.__spec__
                assert spec is not None and spec.loader is not None
                spec.loader.exec_module(self)
        return getattr(self, name)


def unopened(name: str) -> ModuleSpec:
    """Where the package is, which can be imported from now without its file being run.
    ModuleNotFoundError where there is none."""
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    if name not in sys.modules:
        module = module_from_spec(spec)
        module.__class__ = _Unopened
        sys.modules[name] = module
    return spec
