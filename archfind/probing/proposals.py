"""Values to try for a constructor's leaves: of their own kind, and those that the class's source
and annotations name."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from archfind.probing.config import Leaf

COUNT = 12  # a whole number up to this may count blocks


def coupled(base: Mapping[str, Leaf]) -> dict[str, tuple[str, ...]]:
    """Leaves that may have to move together: the lengths of lists that are equally long, both items
    of a pair, and sizes of one name and value in several configs."""
    lengths: dict[Leaf, list[str]] = {}
    pairs: dict[str, list[str]] = {}
    named: dict[tuple[str, int], list[str]] = {}
    for path, value in base.items():
        if type(value) is int and value > COUNT and not path.rpartition(".")[2].isdigit():
            named.setdefault((leaf_name(path), value), []).append(path)
        if path.endswith(".#"):
            lengths.setdefault(value, []).append(path)
        elif path.endswith((".0", ".1")) and base.get(f"{path[:-2]}.#") == 2:
            pairs.setdefault(path[:-2], []).append(path)
    groups = [g for g in (*named.values(), *lengths.values(), *pairs.values()) if len(g) > 1]
    return {path: tuple(group) for group in groups for path in group}


def alternates(path: str, value: Leaf, known: Iterable[Leaf]) -> list[Leaf]:
    """Other values to try for a leaf, the likeliest to be accepted first."""
    found: list[Leaf] = []
    if path.endswith(".#"):
        assert isinstance(value, int)
        return [value + 1, value - 1] if value > 1 else [value + 1]
    if isinstance(value, bool):
        found = [not value]
    elif isinstance(value, int):
        found = [*known, *_integers(value)]
    elif isinstance(value, float):
        found = [value * 2, value / 2, value * 1.5, value + 1.0, *known] if value else [*known, 0.5]
    else:
        found = list(known)
    unique: list[Leaf] = []
    for item in found:
        if item != value and all(item is not old and item != old for old in unique):
            unique.append(item)
    return unique


def _integers(value: int) -> list[int]:
    if value <= COUNT:
        near = [value + 1, value - 1, value + 2, value * 2, value // 2, value * 3, 1, value + 3]
        tried = [*near, value * 4]  # 2 is a scale more often than a count, and is 8 elsewhere
    else:
        tried = [value * 2, value // 2, value * 3, value * 3 // 2, value + 8, value + 1, value * 5]
    return [n for n in tried if n > 0 and n != value]


def annotated(cls: type[nn.Module], base: Mapping[str, Leaf]) -> dict[str, list[Leaf]]:
    """Values that the annotation of a leaf allows which is None by default."""
    found: dict[str, list[Leaf]] = {}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if base.get(name, "") is not None:
            continue
        words = str(parameter.annotation)
        if "Callable" in words or "Module" in words:
            continue
        found[name] = [True] * ("bool" in words)
        found[name] += [1e-5, 2.0] * ("float" in words) + [32, 16, 48] * ("int" in words)
    return found


def leaf_name(path: str) -> str:
    """The name that code uses for a leaf: its last component that isn't a number."""
    return next((part for part in reversed(path.split(".")) if not part.isdigit()), path)


def literals(cls: type[nn.Module]) -> dict[str, list[Leaf]]:
    """The constants that a class's own source compares each name with, those that its annotations
    allow, its defaults, where the network looked at has others, and what the packages that hold it
    assign to the name."""
    found: dict[str, dict[Leaf, None]] = {}

    def add(name: str, value: object) -> None:
        if isinstance(value, str | int) and not isinstance(value, bool):
            found.setdefault(name, {})[value] = None

    hints = _hints(cls)
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        for value in typing.get_args(hints.get(name, parameter.annotation)):
            add(name, value)
        add(name, parameter.default)
    for module in {base.__module__ for base in cls.__mro__ if base.__module__[:6] != "torch."}:
        try:
            tree = ast.parse(inspect.getsource(sys.modules[module]))
        except (OSError, TypeError, KeyError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and len(node.ops) == 1:
                sides = [node.left, node.comparators[0]]
                names = [_named(side) for side in sides]
                constants = [list(_constants(side)) for side in sides]
                for name, values in ((names[0], constants[1]), (names[1], constants[0])):
                    for value in values if name else ():
                        add(name, value)
    for module in {".".join(parts[:n]) for parts in _packages(cls) for n in range(1, len(parts))}:
        for name, value in _assigned(module):
            add(name, value)
    return {name: list(values) for name, values in found.items()}


def _packages(cls: type[nn.Module]) -> list[list[str]]:
    names = {base.__module__ for base in cls.__mro__ if base.__module__[:6] != "torch."}
    return [name.split(".") for name in sorted(names)]


@functools.cache
def _assigned(module: str) -> list[tuple[str, object]]:
    """The constants that the code of a package gives to a name: a loader that tells a class's
    arguments by its keys names values that the class itself has in an `else`."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError):
        return []
    found: list[tuple[str, object]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [(at.id, node.value.value) for at in targets if isinstance(at, ast.Name)]
    return found


def _hints(cls: type[nn.Module]) -> dict[str, Any]:
    """The annotations of a constructor as what they stand for, where its module keeps them as
    text."""
    try:
        return typing.get_type_hints(cls.__init__)
    except Exception:  # names that are there for type checkers alone, or nothing of Python's
        return {}


def _named(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _constants(node: ast.expr) -> Iterable[Any]:
    if isinstance(node, ast.Constant):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for item in node.elts:
            yield from _constants(item)
