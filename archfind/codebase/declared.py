"""The classes of a Python file, as its syntax tree declares them: their bases, the arguments of
their constructors, and what they set as attributes."""

from __future__ import annotations

import ast
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Function = ast.FunctionDef | ast.AsyncFunctionDef


class UnparsedFile(Exception):
    """A file that doesn't parse: another language's, Python 2's, or a newer one's syntax."""


class Module:
    """A parsed file: its classes and functions by name, and what its imports call others."""

    __slots__ = ("classes", "functions", "names", "path", "values")

    def __init__(self, path: str, text: bytes) -> None:
        self.path = path
        self.classes: dict[str, Class] = {}
        self.functions: dict[str, Function] = {}
        self.names: dict[str, str] = {}  # what a name here is elsewhere: {"nn": "torch.nn"}
        self.values: dict[str, ast.expr] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in a stranger's strings
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UnparsedFile(str(error)) from error
        for node in _statements(tree.body):
            self._declare(node)

    def _declare(self, node: ast.stmt) -> None:
        if isinstance(node, ast.ClassDef):
            self._add(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.functions[node.name] = node
            for inner in _statements(node.body):  # a class that a function makes
                if isinstance(inner, ast.ClassDef):
                    self._add(inner)
        elif isinstance(node, ast.Import):
            for name in node.names:
                self.names[name.asname or name.name.partition(".")[0]] = (
                    name.name if name.asname else name.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            source = f"{node.module}." if node.module else ""
            self.names |= {n.asname or n.name: source + n.name for n in node.names}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            self.values[node.targets[0].id] = node.value

    def _add(self, node: ast.ClassDef) -> None:
        self.classes[node.name] = Class(node, self)
        for inner in node.body:
            if isinstance(inner, ast.ClassDef):
                self._add(inner)


class Class:
    """A class of a file: its name and line, what its bases are called, and its methods."""

    __slots__ = ("bases", "line", "methods", "module", "name")

    def __init__(self, node: ast.ClassDef, module: Module) -> None:
        self.name = node.name
        self.line = node.lineno
        self.module = module
        self.bases = [name for name in map(dotted, node.bases) if name]
        self.methods: dict[str, Function] = {
            item.name: item
            for item in _statements(node.body)
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
        }

    @property
    def parameters(self) -> dict[str, ast.expr | None]:
        """The constructor's arguments in order, with their defaults; without `self`."""
        made = self.methods.get("__init__")
        return parameters(made, is_method=True) if made else {}


def parameters(function: Function, *, is_method: bool) -> dict[str, ast.expr | None]:
    """A function's arguments in order, each with its default."""
    spec = function.args
    plain = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(plain) - len(spec.defaults)) + list(spec.defaults)
    found: dict[str, ast.expr | None] = {
        item.arg: default for item, default in zip(plain, defaults, strict=True)
    }
    if is_method and plain:
        del found[plain[0].arg]
    pairs = zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    return found | {item.arg: default for item, default in pairs}


def dotted(node: ast.expr) -> str:
    """`nn.Module` of an expression that is a name, or a name's attribute; else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        above = dotted(node.value)
        return f"{above}.{node.attr}" if above else ""
    return ""


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements with those inside of conditions and tries, where imports and fallbacks stand."""
    for node in body:
        yield node
        for inner in _bodies(node):
            yield from _statements(inner)


def _bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
        yield node.body
        yield getattr(node, "orelse", [])
        yield getattr(node, "finalbody", [])
        for handler in getattr(node, "handlers", []):
            yield handler.body


def bound(call: ast.Call, names: Iterable[str]) -> dict[str, ast.expr]:
    """A call's arguments by the names of what it calls; those behind a `*` are left out."""
    found: dict[str, ast.expr] = {}
    for name, value in zip(names, call.args):  # noqa: B905 (a call gives the first few)
        if isinstance(value, ast.Starred):
            break
        found[name] = value
    return found | {word.arg: word.value for word in call.keywords if word.arg}
