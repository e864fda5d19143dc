"""What a call in a constructor calls, and the frame of a function that is called."""

from __future__ import annotations

import ast

from archfind.codebase.declared import bound, dotted, parameters
from archfind.codebase.parts import Frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.codebase.declared import Class, Function, Module

_DEEPEST = 14  # names that stand for others
_FILLED = frozenset("zeros ones empty randn rand full".split())


def meant(node: ast.expr, frame: Frame, depth: int = 0) -> list[tuple[str, Frame]]:
    """The dotted names of what may be called, each with the frame in which it means that: a name
    that stands for a class (`norm = nn.LayerNorm`), or for one of two, is followed."""
    if isinstance(node, ast.IfExp):
        both = (node.body, node.orelse)
        return [one for side in both for one in meant(side, frame, depth + 1)]
    if isinstance(node, ast.BoolOp):
        return [one for side in node.values for one in meant(side, frame, depth + 1)]
    if isinstance(node, ast.Call) and dotted(node.func).endswith("partial") and node.args:
        return meant(node.args[0], frame, depth + 1)
    name = dotted(node)
    if not name or depth > _DEEPEST:
        return []
    if name in frame.bound:
        value, outer = frame.bound[name]
        return meant(value, outer, depth + 1)
    followed: list[tuple[str, Frame]] = []
    for value in frame.locals.get(name, ()):
        followed += [] if dotted(value) == name else meant(value, frame, depth + 1)
    if name in frame.unknown and frame.cls is not None:
        default = frame.cls.parameters.get(name)
        followed += meant(default, frame, depth + 1) if default is not None else []
    return followed or [(name, frame)]


def is_torch(name: str, frame: Frame) -> bool:
    first, _, rest = name.partition(".")
    whole = frame.module.names.get(first, first) + (f".{rest}" if rest else "")
    return whole.startswith(("torch.", "nn.")) and not whole.startswith("torch.hub")


def called_frame(
    function: Function,
    cls: Class | None,
    module: Module,
    node: ast.Call,
    outer: Frame,
    *,
    is_method: bool,
) -> Frame:
    """The frame of a function that is called: its arguments bound, or its defaults."""
    inner = Frame(module, cls)
    names = parameters(function, is_method=is_method)
    for name, default in names.items():
        if default is not None:
            inner.bound[name] = default, Frame(module, None)
    for name, value in bound(node, list(names)).items():
        inner.bound[name] = value, outer
    return inner


def written_sizes(node: ast.expr) -> list[ast.expr] | None:
    """The sizes of a tensor as the call that makes it writes them."""
    while isinstance(node, ast.BinOp):  # torch.randn(...) * 0.02
        node = node.left if isinstance(node.left, ast.Call | ast.BinOp) else node.right
    if not isinstance(node, ast.Call):
        return None
    if dotted(node.func).rpartition(".")[2] not in _FILLED:
        return None
    values = node.args
    if len(values) == 1 and isinstance(values[0], ast.Tuple | ast.List):
        values = values[0].elts
    if any(isinstance(value, ast.Starred) for value in values):
        return None
    return list(values)
