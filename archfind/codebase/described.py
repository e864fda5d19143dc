"""An expression of a constructor -> the parts that it may make. Conditions give several."""

from __future__ import annotations

import ast

from archfind.codebase.callees import called_frame, is_torch, meant, written_sizes
from archfind.codebase.declared import bound, dotted
from archfind.codebase.layers import BARE, LAYERS, arguments_of
from archfind.codebase.parts import (
    Anything,
    Bare,
    DeclaredContainer,
    DeclaredLayer,
    DeclaredWeight,
    Frame,
    Instance,
    Part,
    Repeated,
)
from archfind.codebase.statements import Walked, pattern_of, times, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from archfind.codebase.scanned import Codebase

_DEEPEST = 14  # expressions within each other, functions that call functions included
_SAME = frozenset("to cuda cpu eval train half float double requires_grad_ apply".split())
_AROUND = frozenset(
    "weight_norm spectral_norm compile DataParallel DistributedDataParallel checkpoint_wrapper "
    "script jit TimeDistributed deepcopy".split()
)


def parts_of(node: ast.expr, frame: Frame, codebase: Codebase, depth: int = 0) -> list[Part]:
    """What the expression may make, the likeliest first; empty for what is no module."""
    if depth > _DEEPEST:
        return [Anything(frame.module)]
    if isinstance(node, ast.Constant) and node.value is None:
        return [Bare()]
    if isinstance(node, ast.IfExp):
        return [
            *parts_of(node.body, frame, codebase, depth + 1),
            *parts_of(node.orelse, frame, codebase, depth + 1),
        ]
    if isinstance(node, ast.Name | ast.Attribute):
        return _of_name(node, frame, codebase, depth + 1)
    if isinstance(node, ast.List | ast.Tuple | ast.ListComp | ast.GeneratorExp | ast.BinOp):
        container = DeclaredContainer()
        _fill(container, [node], frame, codebase, depth + 1)
        return [container] if container.named or container.repeated else []
    if isinstance(node, ast.Call):
        return _of_call(node, frame, codebase, depth + 1)
    return []


def attribute_parts(name: str, value: ast.expr, frame: Frame, codebase: Codebase) -> list[Part]:
    """What an attribute that is set to `value` may be; a list with all that is appended to it."""
    listed = f"self.{name}"
    if listed not in frame.appended and listed not in frame.items:
        return parts_of(value, frame, codebase)
    container = DeclaredContainer()
    _appended(container, listed, frame, codebase, 0)
    return [container]


def container_of(values: Sequence[ast.expr], frame: Frame, codebase: Codebase) -> DeclaredContainer:
    """The children that these arguments of a Sequential, ModuleList or ModuleDict are."""
    container = DeclaredContainer()
    _fill(container, values, frame, codebase, 0)
    return container


def _of_name(
    node: ast.Name | ast.Attribute, frame: Frame, codebase: Codebase, depth: int
) -> list[Part]:
    name = dotted(node)
    if name in frame.appended or name in frame.items:
        container = DeclaredContainer()
        _appended(container, name, frame, codebase, depth)
        return [container]
    if name in frame.bound:
        value, outer = frame.bound[name]
        return parts_of(value, outer, codebase, depth)
    found: list[Part] = []
    for value in frame.locals.get(name, ()):
        found += parts_of(value, frame, codebase, depth)
    return found or ([Anything(frame.module)] if name in frame.unknown else [])


def _of_call(node: ast.Call, frame: Frame, codebase: Codebase, depth: int) -> list[Part]:
    name = dotted(node.func)
    last = name.rpartition(".")[2]
    if not name and not isinstance(node.func, ast.Attribute):
        return [Anything(frame.module)]  # `Conv[Conv.CONV, dims](...)`
    if isinstance(node.func, ast.Attribute) and node.func.attr in _SAME:
        return parts_of(node.func.value, frame, codebase, depth)
    if name.startswith("self.") and name.count(".") == 1 and frame.cls is not None:
        return _of_method(last, node, frame, codebase, depth)
    found: list[Part] = []
    for callee, there in meant(node.func, frame):
        found += _of_callee(callee, there, node, frame, codebase, depth)
    return found


def _of_callee(
    callee: str, there: Frame, node: ast.Call, frame: Frame, codebase: Codebase, depth: int
) -> list[Part]:
    """What a call makes, of which `callee` is the dotted name of what is called in the frame
    `there`."""
    last = callee.rpartition(".")[2]
    if last in _AROUND and node.args:
        return parts_of(node.args[0], frame, codebase, depth)
    if last in ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"):
        container = DeclaredContainer()
        _fill(container, node.args, frame, codebase, depth)
        return [container]
    if last in ("Parameter", "UninitializedParameter", "Buffer"):
        return [DeclaredWeight(written_sizes(node.args[0]) if node.args else None, frame)]
    of_torch = is_torch(callee, there)
    if not of_torch:
        classes = codebase.classes(callee, there.module)
        if classes:
            return [Instance(cls, bound(node, list(cls.parameters)), frame) for cls in classes]
        function = codebase.function(callee, there.module)
        if function is not None:
            inner = called_frame(function[0], None, function[1], node, frame, is_method=False)
            return _of_returned(walk(function[0].body, inner), inner, codebase, depth)
    if last in LAYERS and (of_torch or "." not in callee):
        return [DeclaredLayer(last, bound(node, arguments_of(last)), frame)]
    if last in BARE:
        return [Bare()]
    is_open = callee in there.unknown or not of_torch
    return [Anything(frame.module)] if callee and is_open else []


def _of_method(
    name: str, node: ast.Call, frame: Frame, codebase: Codebase, depth: int
) -> list[Part]:
    """What a method of the class, or of one of its bases, returns."""
    assert frame.cls is not None
    for cls in codebase.lineage(frame.cls):
        if name in cls.methods:
            method = cls.methods[name]
            inner = called_frame(method, frame.cls, cls.module, node, frame, is_method=True)
            return _of_returned(walk(method.body, inner), inner, codebase, depth)
    return [Anything(frame.module)]


def _of_returned(walked: Walked, frame: Frame, codebase: Codebase, depth: int) -> list[Part]:
    found: list[Part] = []
    for value in walked.returned:
        found += parts_of(value, frame, codebase, depth + 1)
    return found or [Anything(frame.module)]


def _fill(
    container: DeclaredContainer,
    values: Sequence[ast.expr],
    frame: Frame,
    codebase: Codebase,
    depth: int,
) -> None:
    """The children that a container is given: in a list or one by one, by name in a dict."""
    if depth > _DEEPEST:
        return
    is_single = len(values) == 1 and not isinstance(values[0], ast.Starred)
    if is_single and _fill_of(container, values[0], frame, codebase, depth):
        return
    is_numbered = True
    for number, value in enumerate(values):
        if isinstance(value, ast.Starred):
            is_numbered = False  # what follows stands at any number
            _fill(container, [value.value], frame, codebase, depth + 1)
            continue
        parts = parts_of(value, frame, codebase, depth + 1)
        if is_numbered:
            container.named.setdefault(str(number), []).extend(parts)
        else:
            container.repeated += [Repeated(part, None, frame) for part in parts]


def _fill_of(
    container: DeclaredContainer, value: ast.expr, frame: Frame, codebase: Codebase, depth: int
) -> bool:
    """The children that one expression gives; whether it's such an expression."""
    if isinstance(value, ast.List | ast.Tuple):
        pairs = [one.elts for one in value.elts if isinstance(one, ast.Tuple)]
        if pairs and len(pairs) == len(value.elts) and all(len(pair) == 2 for pair in pairs):
            for name, part in pairs:
                _name(container, name, part, frame, codebase, depth)
        else:
            _fill(container, value.elts, frame, codebase, depth + 1)
            if len(value.elts) == 1 and not isinstance(value.elts[0], ast.Starred):
                parts = parts_of(value.elts[0], frame, codebase, depth + 1)
                container.named.setdefault("0", []).extend(parts)
        return True
    if isinstance(value, ast.ListComp | ast.GeneratorExp):
        count = times(value.generators[0].iter) if len(value.generators) == 1 else None
        parts = parts_of(value.elt, frame, codebase, depth + 1)
        container.repeated += [Repeated(part, count, frame) for part in parts]
        return True
    if isinstance(value, ast.Dict):
        for name, part in zip(value.keys, value.values, strict=True):
            if name is not None:
                _name(container, name, part, frame, codebase, depth)
        return True
    if isinstance(value, ast.DictComp):
        _name(container, value.key, value.value, frame, codebase, depth)
        return True
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult):
        return _fill_times(container, value, frame, codebase, depth)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        both = [ast.Starred(side, ast.Load()) for side in (value.left, value.right)]
        _fill(container, both, frame, codebase, depth + 1)
        return True
    if isinstance(value, ast.Call) and dotted(value.func).rpartition(".")[2] in (
        "OrderedDict",
        "list",
        "tuple",
        "dict",
        "filter",
    ):
        for word in value.keywords:
            if word.arg:
                _name(container, ast.Constant(word.arg), word.value, frame, codebase, depth)
        if value.args:
            _fill(container, [value.args[-1]], frame, codebase, depth + 1)
        return True
    return isinstance(value, ast.Name | ast.Attribute) and _fill_name(
        container, value, frame, codebase, depth
    )


def _fill_name(
    container: DeclaredContainer,
    value: ast.Name | ast.Attribute,
    frame: Frame,
    codebase: Codebase,
    depth: int,
) -> bool:
    """The children in a list or dict that a name stands for."""
    name = dotted(value)
    if name in frame.bound:
        inner, outer = frame.bound[name]
        _fill(container, [inner], outer, codebase, depth + 1)
        return True
    is_list = name in frame.appended or name in frame.items
    for inner in frame.locals.get(name, ()):
        if isinstance(inner, ast.List | ast.Tuple | ast.ListComp | ast.Dict | ast.BinOp) or (
            isinstance(inner, ast.Call) and not parts_of(inner, frame, codebase, depth + 1)
        ):
            _fill(container, [inner], frame, codebase, depth + 1)
            is_list = True
    if is_list:
        _appended(container, name, frame, codebase, depth + 1)
    return is_list


def _fill_times(
    container: DeclaredContainer, value: ast.BinOp, frame: Frame, codebase: Codebase, depth: int
) -> bool:
    """`[block] * depth`."""
    listed, count = value.left, value.right
    if not isinstance(listed, ast.List):
        listed, count = count, listed
    if not isinstance(listed, ast.List):
        return False
    for one in listed.elts:
        parts = parts_of(one, frame, codebase, depth + 1)
        container.repeated += [
            Repeated(part, count if len(listed.elts) == 1 else None, frame) for part in parts
        ]
    return True


def _appended(
    container: DeclaredContainer, name: str, frame: Frame, codebase: Codebase, depth: int
) -> None:
    """What is appended to a list, or put into a dict, besides what it began with."""
    if depth > _DEEPEST:
        return
    for value in frame.locals.get(name, ()):
        if isinstance(value, ast.List | ast.Tuple | ast.Call) and not isinstance(value, ast.Name):
            inner = value.args if isinstance(value, ast.Call) else [value]
            begun = DeclaredContainer()
            _fill(begun, inner, frame, codebase, depth + 1)
            for child, parts in begun.named.items():
                container.named.setdefault(child, []).extend(parts)
            container.repeated += begun.repeated
    several = len(frame.appended.get(name, ())) > 1
    for value, count in frame.appended.get(name, ()):
        if isinstance(value, ast.Starred):
            begun = DeclaredContainer()
            _fill(begun, [value.value], frame, codebase, depth + 1)
            every = [*begun.repeated]
            every += [Repeated(p, None, frame) for parts in begun.named.values() for p in parts]
            container.repeated += every
        else:
            parts = parts_of(value, frame, codebase, depth + 1)
            told = None if several else count
            container.repeated += [Repeated(part, told, frame) for part in parts]
    for key, value in frame.items.get(name, ()):
        _name(container, key, value, frame, codebase, depth)


def _name(
    container: DeclaredContainer,
    name: ast.expr,
    value: ast.expr,
    frame: Frame,
    codebase: Codebase,
    depth: int,
) -> None:
    parts = parts_of(value, frame, codebase, depth + 1)
    container.named.setdefault(pattern_of(name) or "#", []).extend(parts)
