"""The classes whose source an old pickle carries, and what the pickle says of their modules."""

from __future__ import annotations

import ast
import textwrap

from archfind.sourcing.program import ProgramWeight, Unfollowed
from archfind.sourcing.script import Follower, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.sourcing.tree import Listing
    from archfind.types import TensorSpec

    Stack = tuple[tuple[str, int], ...]
    Scope = dict[str, object]

MOST = 4_000  # passes of loops


class Sources:
    """The methods of the pickled classes by name; none for torch's own."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.attributes: dict[str, dict[str, str]] = {}
        self.methods: dict[str, dict[str, ast.FunctionDef]] = {}
        for name, text in sources.items():
            if name.startswith("torch."):
                continue
            try:
                tree = ast.parse(textwrap.dedent(text))
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise Unfollowed(f"{name} doesn't parse") from error
            node = tree.body[0] if tree.body else None
            if not isinstance(node, ast.ClassDef) or node.decorator_list:
                raise Unfollowed(f"{name} is no plain class")
            functions = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            plain = {item.name: item for item in functions if not item.decorator_list}
            bases = [ast.unparse(base) for base in node.bases]
            if bases not in (["nn.Module"], ["torch.nn.Module"], ["Module"]):
                raise Unfollowed(f"{name} has a base of its own")
            if "__call__" in plain:
                raise Unfollowed(f"{name} has a call of its own")
            self.methods[name] = plain


class KnownModules(Follower):
    """Follows what a pickle decides: its modules and their numbers, loops over them, conditions."""

    def __init__(
        self,
        classes: Sources,
        listing: Listing,
        index: Mapping[str, TensorSpec],
        attributes: Mapping[str, object],
    ) -> None:
        super().__init__(classes)
        self.listing = listing
        self.index = index
        self.own = attributes
        self.named = {path: cls for path, (cls, _) in listing.items()}
        self.passes = 0

    def items(self, node: ast.expr, scope: Scope, stack: Stack) -> list[object]:
        """What a loop goes over: modules of a list, numbers, a row."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "range":
                numbers = [self.value(one, scope, stack) for one in node.args]
                if all(type(n) is int and abs(n) < MOST for n in numbers):
                    return list(range(*numbers))
            if node.func.id == "enumerate" and len(node.args) == 1:
                return list(enumerate(self.items(node.args[0], scope, stack)))
            if node.func.id == "zip":
                return list(zip(*(self.items(one, scope, stack) for one in node.args)))  # noqa: B905
        given = self.value(node, scope, stack)
        if isinstance(given, Held):
            return list(self.children(given))
        if isinstance(given, list | tuple):
            return list(given)  # pyright: ignore
        raise Unfollowed("a loop over something else")

    def children(self, held: Held) -> list[Held]:
        if not held.cls.endswith((".Sequential", ".ModuleList")):
            raise Unfollowed("a module that is no list")
        start = f"{held.path}." if held.path else ""
        paths = [p for p in self.listing if p.startswith(start) and "." not in p[len(start) :]]
        return [Held(path, self.listing[path][0]) for path in paths if path]

    def known(self, node: ast.expr, scope: Scope, stack: Stack) -> bool:
        """A condition that the pickle decides."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self.known(node.operand, scope, stack)
        if isinstance(node, ast.BoolOp):
            rows = [self.known(one, scope, stack) for one in node.values]
            return all(rows) if isinstance(node.op, ast.And) else any(rows)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left = self.value(node.left, scope, stack)
            right = self.value(node.comparators[0], scope, stack)
            kind = type(node.ops[0])
            if kind in (ast.Is, ast.IsNot) and right is None:
                return (left is None) == (kind is ast.Is)
            numbers = all(isinstance(one, bool | int | float | str) for one in (left, right))
            if numbers and kind in (ast.Eq, ast.NotEq):
                return (left == right) == (kind is ast.Eq)
        given = self.value(node, scope, stack)
        if isinstance(given, bool | int) or given is None:
            return bool(given)
        raise Unfollowed("a condition that only running it decides")

    def attribute(self, holder: object, name: str) -> object:
        if not isinstance(holder, Held):
            raise Unfollowed("an attribute of what is no module")
        path = f"{holder.path}.{name}".lstrip(".")
        if path in self.listing:
            return Held(path, self.listing[path][0])
        if path in self.index:
            return ProgramWeight(path)
        if name == "training":
            return False
        told = self.own if not holder.path else self.listing[holder.path][1]
        value = told[name]
        if isinstance(value, bool | int | float | str):
            return value
        raise Unfollowed("an attribute that is no number")
