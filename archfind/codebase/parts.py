"""What a constructor's expression makes: a layer of torch, a tensor, an instance of a class, or a
container of those."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Sequence

    from archfind.codebase.declared import Class, Module


class Frame:
    """Where an expression stands: names of its function, and what they were bound to. The frame of
    a constructor leaves its arguments open (`unknown`), that of another function has what it was
    called with, each an expression in the caller's frame."""

    __slots__ = ("appended", "bound", "cls", "counts", "items", "locals", "module", "unknown")

    def __init__(self, module: Module, cls: Class | None, unknown: Sequence[str] = ()) -> None:
        self.module = module
        self.cls = cls
        self.unknown = frozenset(unknown)
        self.bound: dict[str, tuple[ast.expr, Frame]] = {}
        self.locals: dict[str, list[ast.expr]] = {}
        # What is appended to a list ("layers", "self.blocks"), with how often, where a loop says.
        self.appended: dict[str, list[tuple[ast.expr, ast.expr | None]]] = {}
        self.items: dict[str, list[tuple[ast.expr, ast.expr]]] = {}  # layers["conv"] = ...
        self.counts: list[ast.expr | None] = []  # of the loops that are open


class DeclaredLayer:
    """One of torch's layers, with its arguments by name."""

    __slots__ = ("arguments", "frame", "kind")

    def __init__(self, kind: str, arguments: dict[str, ast.expr], frame: Frame) -> None:
        self.kind, self.arguments, self.frame = kind, arguments, frame


class Bare:
    """Something without tensors."""

    __slots__ = ()


class DeclaredWeight:
    """A parameter or buffer, with its sizes where the code writes them."""

    __slots__ = ("frame", "sizes")

    def __init__(self, sizes: Sequence[ast.expr] | None, frame: Frame) -> None:
        self.sizes, self.frame = sizes, frame


class Instance:
    """An instance of a class of the codebase, with the arguments that it's given."""

    __slots__ = ("arguments", "cls", "frame")

    def __init__(self, cls: Class, arguments: dict[str, ast.expr], frame: Frame) -> None:
        self.cls, self.arguments, self.frame = cls, arguments, frame


class Repeated:
    """Children of a container that any number stands for, with the expression of how many."""

    __slots__ = ("count", "frame", "part")

    def __init__(self, part: Part, count: ast.expr | None, frame: Frame) -> None:
        self.part, self.count, self.frame = part, count, frame


class DeclaredContainer:
    """A Sequential, ModuleList or ModuleDict: children by name, by a pattern of names, and those
    that any number stands for."""

    __slots__ = ("named", "repeated")

    def __init__(self) -> None:
        self.named: dict[str, list[Part]] = {}
        self.repeated: list[Repeated] = []


class Anything:
    """What the code alone doesn't say: the result of another library's function, or an argument
    (`block(64, 64)`), which is likely a class of the same module."""

    __slots__ = ("module",)

    def __init__(self, module: Module) -> None:
        self.module = module


Part = DeclaredLayer | Bare | DeclaredWeight | Instance | DeclaredContainer | Anything
