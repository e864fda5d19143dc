"""A class of code that the user trusts, imported in this process, and its networks."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Generator, Mapping
from typing import Any

from torch import nn

from archfind.errors import CodeError
from archfind.escape import escape
from archfind.probing.config import Config, moved
from archfind.probing.probe import on_meta
from archfind.trusted.calls import default_arguments
from archfind.trusted.learnt import located
from archfind.types import TrustedClass

_WORDS = 300  # characters of an error of somebody's code


def imported_class(trusted: TrustedClass) -> type[nn.Module]:
    """The class, its code imported in this process. CodeError with the module and what it raised,
    where it can't be, or where its user hasn't said that it may."""
    if not trusted.is_allowed:
        text = (
            f"building it would import {trusted.dotted}, as a signature says that wasn't learnt "
            "on this machine; add --trust if you trust that code"
        )
        raise CodeError(escape(text), trusted.place)
    file = trusted.file or located(trusted.module)
    with _looked_in(trusted.paths):
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(trusted.module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever somebody's code raises, SystemExit among it
            text = f"importing {trusted.module} failed: {error_in_words(error)}"
            raise CodeError(escape(text), file) from error
    came = getattr(module, "__file__", None) or ""
    if not _is_file(came, file):
        text = f"{trusted.module} is another module here, of {came or 'Python itself'}"
        raise CodeError(escape(f"{text}; rename one, or use a process of its own"), file)
    cls = getattr(module, trusted.name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        text = f"{trusted.module} has no nn.Module {trusted.name} at its top once it's imported"
        raise CodeError(escape(text), file)
    return cls


def error_in_words(error: BaseException) -> str:
    """An exception of somebody's code in one line."""
    said = " ".join(str(error).split())[:_WORDS]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def created(trusted: TrustedClass, arguments: Mapping[str, Any]) -> nn.Module:
    """The network with these arguments, which may be leaves of its configs ("config.depth")."""
    cls = imported_class(trusted)
    with _looked_in(trusted.paths), contextlib.redirect_stdout(io.StringIO()):
        return cls(**called(cls, trusted, arguments))


def class_on_meta(trusted: TrustedClass, arguments: Mapping[str, Any]) -> nn.Module:
    """The same without storage, where the class allows."""
    cls = imported_class(trusted)
    with _looked_in(trusted.paths):
        return on_meta(cls, called(cls, trusted, arguments))


def called(cls: type[nn.Module], trusted: TrustedClass, arguments: Mapping[str, Any]) -> Config:
    """What the constructor is given: the code's own defaults where nothing is told."""
    own, required = default_arguments(cls)
    whole: Config = dict(trusted.arguments)
    own = {**own, **whole}
    leaves: dict[str, Any] = {}
    for path, value in arguments.items():
        root, dot, _ = path.partition(".")
        if dot and (root in trusted.objects or trusted.arguments):
            leaves[path] = value
        elif path in trusted.objects:
            if value != trusted.objects[path]:
                whole[path] = _of_torch(value)
        else:
            whole[path] = value
    for name in {path.partition(".")[0] for path in leaves}:
        whole[name] = own[name] if name in own else _config_of(required[name])
    for name, parameter in required.items():
        if name not in whole and name in trusted.objects:
            whole[name] = _config_of(parameter)
    return moved(whole, leaves)


def _config_of(parameter: Any) -> Any:
    from archfind.trusted.calls import guesses

    return guesses(parameter, (), ())[0]


def _of_torch(value: Any) -> Any:
    """`nn.GELU` of torch.nn, where a setting names it; anything else as it is."""
    if isinstance(value, str):
        name = value.removeprefix("torch.").removeprefix("nn.")
        made = getattr(nn, name, None) if name != value else None
        return made if isinstance(made, type) else value
    return value


def _is_file(one: str, other: str) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.abspath(one) == os.path.abspath(other)  # inside of an archive


@contextlib.contextmanager
def _looked_in(paths: tuple[str, ...]) -> Generator[None]:
    """Modules are looked for in these folders first, as long as this lasts."""
    new = [path for path in paths if path not in sys.path]
    sys.path[:0] = new
    try:
        yield
    finally:
        for path in new:
            with contextlib.suppress(ValueError):
                sys.path.remove(path)
