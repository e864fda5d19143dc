"""A state dict and a place with Python files -> the classes that account for most of its keys."""

from __future__ import annotations

import gc
from contextlib import contextmanager

from archfind.codebase.explained import Accounts
from archfind.codebase.key_tree import KeyNode, key_tree, modules
from archfind.codebase.scanned import Codebase
from archfind.progress import step
from archfind.types import CodeClass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from archfind.codebase.declared import Class

    Shape = tuple[int, ...]

_LEAST = 0.5  # of a file's tensors are in a module that is looked for by itself
_FILES = 120  # that are parsed: those with most of the names
_CLASSES = 240  # that are held against the keys
_ENOUGH = 0.25  # of the tensors a class must account for to be named


def classes_of(shapes: Mapping[str, Shape], place: str) -> tuple[list[CodeClass], int, int]:
    """The classes below `place` that a state dict may belong to, the best first, with how many
    Python files were read and how many of them don't parse. Nothing is run. CodeError where there
    is no such place."""
    root = key_tree(shapes)
    nodes = dict(modules(root, _LEAST))
    words = {name for node in nodes.values() for name in node.children if not name.isdigit()}
    words |= {name.rstrip("0123456789") for name in words}
    if not words:  # a Sequential without names: those within say more
        words = {n for node in root.children.values() for n in node.children if not n.isdigit()}
    with step("reading code"), _no_collection():
        codebase = Codebase(place, words)
        found = _ranked(codebase, nodes, len(shapes))
    return [one for one in found if one.share >= _ENOUGH], codebase.read, len(codebase.unread)


@contextmanager
def _no_collection() -> Generator[None]:
    """Syntax trees stay until the end: looking for garbage in them takes longer than all else."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _ranked(codebase: Codebase, nodes: Mapping[str, KeyNode], tensors: int) -> list[CodeClass]:
    """The classes of the files with most of the names, the best first."""
    accounts = Accounts(codebase)
    files = sorted(codebase.words, key=lambda path: (-codebase.words[path], path))[:_FILES]
    pairs: list[tuple[float, Class, str, KeyNode]] = []
    for path in files:
        module = codebase.module(path)
        for cls in module.classes.values() if module else ():
            names = accounts.names(cls)
            for prefix, node in nodes.items():
                common = _in_common(names, node)
                if common:
                    share = common / len(node.children)
                    pairs.append((share, cls, prefix, node))
    pairs.sort(key=lambda p: (-p[0], len(accounts.names(p[1])), p[1].module.path, p[1].line))
    found: list[CodeClass] = []
    for _, cls, prefix, node in pairs[:_CLASSES]:
        account, values = accounts.of_class(cls, node)
        parameters = accounts.parameters(cls)
        unsaid = tuple(
            name for name, default in parameters.items() if default is None and name not in values
        )
        found.append(
            CodeClass(
                cls.module.path, cls.line, cls.name, prefix, account.known, account.unsaid,
                tensors, account.lacking, values, unsaid,
                max(0.0, account.worth) / max(1, tensors),
            )
        )  # fmt: skip
    found.sort(key=lambda one: (-one.share, len(one.prefix), one.file, one.line))
    return found


def _in_common(names: list[str], node: KeyNode) -> int:
    exact = {*names}
    patterns = tuple(name.partition("#")[0] for name in exact if "#" in name)
    return sum(
        name in exact or (bool(patterns) and name.startswith(patterns)) for name in node.children
    )
