"""Sizes that a file shows, and the expressions that made them -> the constructor's arguments."""

from __future__ import annotations

import ast

from archfind.codebase.declared import dotted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.codebase.parts import Frame

    Told = tuple[ast.expr, Frame, object]
    Number = int | float

_DEEPEST = 12
_ROUNDS = 4


class Contradiction(Exception):
    """The code writes another size than the file has."""


def arguments_by_sizes(told: Iterable[Told], names: Iterable[str]) -> dict[str, object]:
    """The arguments of these names as the sizes tell them; where they tell several values, the one
    that most do."""
    facts = list(told)
    known: dict[str, object] = {}
    for _ in range(_ROUNDS):
        votes: dict[str, dict[object, int]] = {}
        for expression, frame, value in facts:
            try:
                for name, one in told_by_value(expression, frame, value, known).items():
                    counts = votes.setdefault(name, {})
                    counts[one] = counts.get(one, 0) + 1
            except Contradiction:
                continue
        anew = {name: max(counts, key=lambda v: counts[v]) for name, counts in votes.items()}
        if anew == known:
            break
        known = anew
    return _lists({name: value for name, value in known.items() if _outer(name) in {*names}})


def told_by_value(
    node: ast.expr, frame: Frame, value: object, known: Mapping[str, object], depth: int = 0
) -> dict[str, object]:
    """What an expression's value says of the arguments in it. Contradiction where it's a number of
    the code, and another."""
    if depth > _DEEPEST:
        return {}
    if isinstance(node, ast.Constant):
        is_number = isinstance(node.value, int) and not isinstance(node.value, bool)
        if is_number and isinstance(value, int) and node.value != value:
            raise Contradiction
        return {}
    if isinstance(node, ast.Tuple | ast.List) and isinstance(value, tuple):
        found: dict[str, object] = {}
        if len(node.elts) == len(value):
            for one, size in zip(node.elts, value, strict=True):
                found |= told_by_value(one, frame, size, known, depth + 1)
        return found
    if isinstance(node, ast.Name | ast.Attribute):
        return _of_name(node, frame, value, known, depth)
    if isinstance(node, ast.Subscript):
        return _of_item(node, frame, value)
    if isinstance(node, ast.Call) and dotted(node.func) in ("int", "round") and node.args:
        return told_by_value(node.args[0], frame, value, known, depth + 1)
    if isinstance(node, ast.Call) and dotted(node.func) == "len" and node.args:
        name = dotted(node.args[0])
        return {f"len({name})": value} if name in frame.unknown else {}
    if isinstance(node, ast.BinOp) and isinstance(value, int | float):
        return _of_operation(node, frame, value, known, depth)
    return {}


def _of_name(
    node: ast.Name | ast.Attribute,
    frame: Frame,
    value: object,
    known: Mapping[str, object],
    depth: int,
) -> dict[str, object]:
    name = dotted(node)
    if name in frame.bound:
        inner, outer = frame.bound[name]
        return told_by_value(inner, outer, value, known, depth + 1)
    given = frame.locals.get(name, [])
    if len(given) == 1 and dotted(given[0]) != name:
        return told_by_value(given[0], frame, value, known, depth + 1)
    return {name: value} if name in frame.unknown and not given else {}


def _of_item(node: ast.Subscript, frame: Frame, value: object) -> dict[str, object]:
    """`dims[0]` of an argument."""
    name, at = dotted(node.value), node.slice
    if name in frame.unknown and isinstance(at, ast.Constant) and isinstance(at.value, int):
        return {f"{name}[{at.value}]": value} if at.value >= 0 else {}
    return {}


def _of_operation(
    node: ast.BinOp, frame: Frame, value: Number, known: Mapping[str, object], depth: int
) -> dict[str, object]:
    left = number_of_expression(node.left, frame, known, depth + 1)
    right = number_of_expression(node.right, frame, known, depth + 1)
    kind = type(node.op)
    other: Number | None = None
    if right is not None and left is None:
        if kind is ast.Mult and right and value % right == 0:
            other = value // right
        elif kind in (ast.FloorDiv, ast.Div):
            other = value * right
        elif kind is ast.Add:
            other = value - right
        elif kind is ast.Sub:
            other = value + right
        return (
            {}
            if other is None
            else told_by_value(node.left, frame, _whole(other), known, depth + 1)
        )
    if left is not None and right is None:
        if kind is ast.Mult and left and value % left == 0:
            other = value // left
        elif kind is ast.Add:
            other = value - left
        elif kind is ast.Sub:
            other = left - value
        return (
            {}
            if other is None
            else told_by_value(node.right, frame, _whole(other), known, depth + 1)
        )
    return {}


def number_of_expression(
    node: ast.expr, frame: Frame, known: Mapping[str, object], depth: int = 0
) -> Number | None:
    """The number that an expression comes to with the arguments that are known; None where one of
    them isn't."""
    if depth > _DEEPEST:
        return None
    if isinstance(node, ast.Constant):
        is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        return node.value if is_number else None  # pyright: ignore[reportReturnType]
    if isinstance(node, ast.Name | ast.Attribute):
        name = dotted(node)
        if name in frame.bound:
            inner, outer = frame.bound[name]
            return number_of_expression(inner, outer, known, depth + 1)
        given = frame.locals.get(name, [])
        if len(given) == 1 and dotted(given[0]) != name:
            return number_of_expression(given[0], frame, known, depth + 1)
        value = known.get(name) if name in frame.unknown and not given else None
        return value if isinstance(value, int | float) else None
    if isinstance(node, ast.BinOp):
        left = number_of_expression(node.left, frame, known, depth + 1)
        right = number_of_expression(node.right, frame, known, depth + 1)
        if left is None or right is None:
            return None
        return _computed(type(node.op), left, right)
    if isinstance(node, ast.Call) and dotted(node.func) == "int" and node.args:
        inner = number_of_expression(node.args[0], frame, known, depth + 1)
        return None if inner is None else int(inner)
    return None


def _computed(kind: type[ast.operator], left: Number, right: Number) -> Number | None:
    if kind is ast.Mult:
        return left * right
    if kind is ast.Add:
        return left + right
    if kind is ast.Sub:
        return left - right
    if kind is ast.FloorDiv and right:
        return left // right
    if kind is ast.Div and right:
        return left / right
    if kind is ast.Pow and 0 <= right <= 32 and abs(left) <= 4096:
        return left**right
    return None


def _whole(value: Number) -> Number:
    return int(value) if value == int(value) else value


def _outer(name: str) -> str:
    return name.removeprefix("len(").rstrip(")").partition("[")[0]


def _lists(known: Mapping[str, object]) -> dict[str, object]:
    """Items of an argument as the list that they are, where all up to the last are known."""
    found = {name: value for name, value in known.items() if "[" not in name and "(" not in name}
    for name in dict.fromkeys(_outer(name) for name in known if "[" in name):
        items = {
            int(k[len(name) + 1 : -1]): v for k, v in known.items() if k.startswith(f"{name}[")
        }
        length = known.get(f"len({name})", len(items))
        if length == len(items) and sorted(items) == list(range(len(items))):
            found[name] = [items[number] for number in range(len(items))]
    return found
