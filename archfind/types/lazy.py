"""`torch.nn`, for whoever resolves an annotation that names it: it is imported then, not before."""

from __future__ import annotations


class _Modules:
    def __getattr__(self, name: str) -> object:
        from importlib import import_module

        return getattr(import_module("torch.nn"), name)


nn = _Modules()
