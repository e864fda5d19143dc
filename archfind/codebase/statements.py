"""The statements of a function: which attributes it sets, what it appends, and what it returns."""

from __future__ import annotations

import ast
import re

from archfind.codebase.declared import dotted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.codebase.parts import Frame

_SETTERS = frozenset(
    "add_module register_module register_buffer register_parameter setattr __setattr__".split()
)
_FIELD = re.compile(r"%[a-z0-9.]*|\{[^{}]*\}")


class Attribute:
    """What is set on `self`: its name, with `#` for what a loop fills in, and in which count."""

    __slots__ = ("count", "is_certain", "name", "value")

    def __init__(
        self, name: str, value: ast.expr, count: ast.expr | None, is_certain: bool
    ) -> None:
        self.name, self.value, self.count, self.is_certain = name, value, count, is_certain


class Walked:
    """The attributes that a function sets, what it returns, and the methods of its class that it
    calls for their effect."""

    __slots__ = ("attributes", "methods", "returned")

    def __init__(self) -> None:
        self.attributes: list[Attribute] = []
        self.returned: list[ast.expr] = []
        self.methods: list[str] = []


def walk(body: Sequence[ast.stmt], frame: Frame) -> Walked:
    """The function's statements in order; names that they bind are added to the frame."""
    walked = Walked()
    _walk(body, frame, walked, is_certain=True)
    return walked


def _walk(body: Sequence[ast.stmt], frame: Frame, walked: Walked, *, is_certain: bool) -> None:
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                _assign(target, node.value, frame, walked, is_certain)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            _assign(node.target, node.value, frame, walked, is_certain)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            extended = ast.Starred(node.value, ast.Load())
            frame.appended.setdefault(dotted(node.target), []).append((extended, _count(frame)))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            _call(node.value, frame, walked, is_certain)
        elif isinstance(node, ast.Return) and node.value is not None:
            walked.returned.append(node.value)
        elif isinstance(node, ast.For):
            frame.counts.append(times(node.iter))
            _walk(node.body, frame, walked, is_certain=False)
            frame.counts.pop()
        elif isinstance(node, ast.While):
            frame.counts.append(None)
            _walk(node.body, frame, walked, is_certain=False)
            frame.counts.pop()
        elif isinstance(node, ast.If):
            _walk(node.body, frame, walked, is_certain=False)
            _walk(node.orelse, frame, walked, is_certain=False)
        elif isinstance(node, ast.With):
            _walk(node.body, frame, walked, is_certain=is_certain)
        elif isinstance(node, ast.Try):
            for inner in (node.body, node.orelse, node.finalbody):
                _walk(inner, frame, walked, is_certain=False)


def times(node: ast.expr) -> ast.expr | None:
    """The expression of how often a loop over `node` runs: that of a plain range."""
    if isinstance(node, ast.Call) and dotted(node.func) == "range" and len(node.args) == 1:
        return node.args[0]
    if isinstance(node, ast.Call) and dotted(node.func) == "enumerate" and node.args:
        return times(node.args[0])
    return None


def _count(frame: Frame) -> ast.expr | None:
    """How often what stands here happens, where one loop says so."""
    return frame.counts[0] if len(frame.counts) == 1 else None


def _assign(
    target: ast.expr, value: ast.expr, frame: Frame, walked: Walked, is_certain: bool
) -> None:
    if isinstance(target, ast.Name):
        frame.locals.setdefault(target.id, []).append(value)
    elif isinstance(target, ast.Attribute) and dotted(target.value) == "self":
        frame.locals.setdefault(dotted(target), []).append(value)
        walked.attributes.append(Attribute(target.attr, value, None, is_certain))
    elif isinstance(target, ast.Subscript):
        name = dotted(target.value)
        if name:
            frame.items.setdefault(name, []).append((target.slice, value))
    elif isinstance(target, ast.Tuple | ast.List):
        values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        if len(values) == len(target.elts):
            for one, other in zip(target.elts, values, strict=True):
                _assign(one, other, frame, walked, is_certain)


def _call(node: ast.Call, frame: Frame, walked: Walked, is_certain: bool) -> None:
    """A call that stands alone: what it sets, appends or inserts."""
    name = dotted(node.func)
    owner, _, method = name.rpartition(".")
    args = node.args
    if name in ("setattr", "object.__setattr__") and args and dotted(args[0]) == "self":
        owner, method, args = "self", "setattr", args[1:]
    if method in _SETTERS and len(args) >= 2:
        pattern = pattern_of(args[0])
        if owner == "self" and pattern:
            walked.attributes.append(Attribute(pattern, args[1], _count(frame), is_certain))
        elif owner:
            frame.items.setdefault(owner, []).append((args[0], args[1]))
    elif method in ("append", "insert") and owner and args:
        frame.appended.setdefault(owner, []).append((args[-1], _count(frame)))
    elif method == "extend" and owner and args:
        starred = ast.Starred(args[0], ast.Load())
        frame.appended.setdefault(owner, []).append((starred, _count(frame)))
    elif owner == "self":
        walked.methods.append(method)


def pattern_of(node: ast.expr) -> str:
    """A name as an expression writes it, with `#` for each part that is filled in; "" where there
    is nothing to go by."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        words = (str(v.value) if isinstance(v, ast.Constant) else "#" for v in node.values)
        return "".join(words)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (pattern_of(node.left) or "#") + (pattern_of(node.right) or "#")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _FIELD.sub("#", pattern_of(node.left))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _FIELD.sub("#", pattern_of(node.func.value)) if node.func.attr == "format" else ""
    return ""
