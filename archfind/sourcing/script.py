"""The code of a TorchScript file -> Program: its text is parsed, and each statement followed with
what is known of its names; nothing of it is run."""

from __future__ import annotations

import ast

from archfind.frozen import frozen
from archfind.sourcing.program import FileProgram, Op, ProgramWeight, Ref, Unfollowed, Word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MOST = 20_000  # operations
_DEEPEST = 60  # calls within calls
_CONVERTS = ("int", "float", "bool", "annotate", "NumToTensor", "unchecked_cast")
_PLACES = ("device", "pin_memory", "layout", "memory_format")
_MANY = ("unbind", "split", "chunk", "split_with_sizes", "lstm", "gru", "rnn_tanh", "rnn_relu")


@frozen
class Held:
    """A module of the file: its path, and its class as the code calls it."""

    path: str
    cls: str


class Classes:
    """The classes of the code, by their dotted names: what each says of its attributes, and its
    methods."""

    def __init__(self, code: Mapping[str, str]) -> None:
        self.attributes: dict[str, dict[str, str]] = {}
        self.methods: dict[str, dict[str, ast.FunctionDef]] = {}
        for module, text in code.items():
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise Unfollowed(f"{module} doesn't parse") from error
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    self._add(f"{module}.{node.name}", node)

    def _add(self, name: str, node: ast.ClassDef) -> None:
        held = self.attributes.setdefault(name, {})
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                held[item.target.id] = ast.unparse(item.annotation)
            elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Subscript):
                place = item.targets[0]  # __annotations__["0"] = __torch__.nets.Net
                if isinstance(place.slice, ast.Constant):
                    held[str(place.slice.value)] = ast.unparse(item.value)
            elif isinstance(item, ast.FunctionDef):
                self.methods.setdefault(name, {})[item.name] = item

    def root(self, name: str) -> str:
        """The class that no other holds, of that name without what torch put into it."""
        inner = {cls for held in self.attributes.values() for cls in held.values()}
        runs = {cls for cls, methods in self.methods.items() if "forward" in methods}
        roots = [cls for cls in self.attributes if cls in runs - inner]
        if len(roots) != 1 or roots[0].rpartition(".")[2] != name.rpartition(".")[2]:
            raise Unfollowed("which class it is isn't plain")
        return roots[0]


def script_program(code: Mapping[str, str], root: str) -> FileProgram:
    """The operations of the module of a file's class `root`. Unfollowed where some statement isn't
    known."""
    try:
        classes = Classes(code)
        follower = Follower(classes)
        cls = classes.root(root)
        method = classes.methods[cls]["forward"]
        names = [argument.arg for argument in method.args.args[1:]]
        given: list[object] = [Ref(follower.name(name)) for name in names]
        outputs = follower.called(Held("", cls), method, given, ())
    except (RecursionError, KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise Unfollowed("its code has another form") from error
    inputs = tuple(ref.name for ref in given if isinstance(ref, Ref))
    return FileProgram(inputs, tuple(follower.ops), outputs, follower.named)


class Follower:
    def __init__(self, classes: Any) -> None:
        self.classes = classes
        self.ops: list[Op] = []
        self.named: dict[str, str] = {}
        self.count = 0
        self.calls = 0

    def name(self, wanted: str = "v") -> str:
        self.count += 1
        return f"{wanted}:{self.count}"

    def called(
        self,
        module: Held,
        method: ast.FunctionDef,
        given: list[object],
        stack: tuple[tuple[str, int], ...],
    ) -> object:
        """What a module's method gives."""
        if len(stack) >= _DEEPEST:
            raise Unfollowed("calls nested too deep")
        self.calls += 1
        self.named.setdefault(module.path, _plain_class(module.cls))
        names = [argument.arg for argument in method.args.args]
        if len(names) != len(given) + 1:
            raise Unfollowed("a call with other arguments")
        scope: dict[str, object] = dict(zip(names, [module, *given], strict=True))
        within = (*stack, (module.path, self.calls))
        for statement in method.body:
            if isinstance(statement, ast.Return):
                return self.value(statement.value, scope, within)
            self.statement(statement, scope, within)
        return None

    def statement(
        self, node: ast.stmt, scope: dict[str, object], stack: tuple[tuple[str, int], ...]
    ) -> None:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        elif isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.Expr):
            self.value(node.value, scope, stack)
            return
        else:
            raise Unfollowed(f"a statement {type(node).__name__}")
        if len(targets) != 1:
            raise Unfollowed("several targets")
        given = self.value(value, scope, stack)
        target = targets[0]
        if isinstance(target, ast.Name):
            scope[target.id] = given
        elif isinstance(target, ast.Tuple):
            names = [one.id for one in target.elts if isinstance(one, ast.Name)]
            if len(names) != len(target.elts):
                raise Unfollowed("a target of another form")
            scope.update(zip(names, self.unpacked(given, len(names), stack), strict=True))
        else:
            raise Unfollowed("a target of another form")

    def unpacked(
        self, given: object, count: int, stack: tuple[tuple[str, int], ...]
    ) -> list[object]:
        if isinstance(given, list | tuple) and len(given) == count:  # pyright: ignore
            return list(given)  # pyright: ignore
        if not isinstance(given, Ref):
            raise Unfollowed("what isn't a row is unpacked")
        outs = [self.name() for _ in range(count)]
        self.add(Op("unpack", (given,), (), tuple(outs), stack, True))
        return [Ref(out) for out in outs]

    def add(self, op: Op) -> None:
        self.ops.append(op)
        if len(self.ops) > _MOST:
            raise Unfollowed("too many operations")

    def value(
        self, node: ast.expr | None, scope: dict[str, object], stack: tuple[tuple[str, int], ...]
    ) -> Any:
        if node is None:
            return None
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bool | int | float | str) or node.value is None:
                return node.value
        elif isinstance(node, ast.Name) and node.id in scope:
            return scope[node.id]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self.value(node.operand, scope, stack)
            if isinstance(number, int | float):
                return -number
        elif isinstance(node, ast.List):
            return [self.value(one, scope, stack) for one in node.elts]
        elif isinstance(node, ast.Tuple):
            return tuple(self.value(one, scope, stack) for one in node.elts)
        elif isinstance(node, ast.Attribute):
            return self.attribute(self.value(node.value, scope, stack), node.attr)
        elif isinstance(node, ast.Call):
            return self.call(node, scope, stack)
        raise Unfollowed(f"an expression {ast.unparse(node)[:60]}")

    def attribute(self, holder: object, name: str) -> object:
        if not isinstance(holder, Held):
            raise Unfollowed("an attribute of what is no module")
        kind = self.classes.attributes[holder.cls].get(name, "")
        path = f"{holder.path}.{name}".lstrip(".")
        if kind in self.classes.attributes:
            return Held(path, kind)
        if kind in ("Tensor", "Optional[Tensor]"):
            return ProgramWeight(path)
        raise Unfollowed(f"an attribute {kind[:40] or name[:40]}")

    def call(
        self, node: ast.Call, scope: dict[str, object], stack: tuple[tuple[str, int], ...]
    ) -> Any:
        function = node.func
        dotted = ast.unparse(function) if isinstance(function, ast.Name | ast.Attribute) else ""
        args = node.args
        if dotted == "getattr" and isinstance(args[1], ast.Constant):
            return self.attribute(self.value(args[0], scope, stack), str(args[1].value))
        last = dotted.rpartition(".")[2]
        if dotted in _CONVERTS or (dotted.startswith("ops.prim.") and last in _CONVERTS):
            return self.value(args[-1], scope, stack)
        if dotted.startswith("torch.") and dotted.count(".") == 1:
            if last == "device":
                return None
            given = tuple(self.value(one, scope, stack) for one in args)
            kwargs = tuple(
                (str(one.arg), self._keyword(str(one.arg), one.value, scope, stack))
                for one in node.keywords
                if one.arg not in _PLACES
            )
            place = _DTYPE_AT.get(last, 0)  # dtypes are numbers in TorchScript's code
            if place and len(given) > place and type(given[place]) is int:
                given = (*given[:place], dtype_of_number(given[place]), *given[place + 1 :])
            out = self.name()
            self.add(Op(last, given, kwargs, (out,), stack))
            return Ref(out)
        if isinstance(function, ast.Attribute):
            holder = self.value(function.value, scope, stack)
            method = self.classes.methods.get(holder.cls, {}).get(function.attr)
            if isinstance(holder, Held) and method is not None and not node.keywords:
                given = [self.value(one, scope, stack) for one in args]
                return self.called(holder, method, given, stack)
        raise Unfollowed(f"a call of {dotted[:40]}")

    def _keyword(
        self,
        name: str,
        node: ast.expr,
        scope: dict[str, object],
        stack: tuple[tuple[str, int], ...],
    ) -> object:
        value = self.value(node, scope, stack)
        if name == "dtype" and isinstance(value, int):
            return dtype_of_number(value)
        return value


_DTYPE_AT = {"to": 1, "softmax": 2, "log_softmax": 2}
# c10::ScalarType
_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32",
    7: "float64", 11: "bool", 15: "bfloat16",
}  # fmt: skip


def dtype_of_number(number: int) -> Word:
    """torch's dtype of a number."""
    if number not in _DTYPES:
        raise Unfollowed(f"a dtype {number}")
    return Word(f"torch.{_DTYPES[number]}")


def _plain_class(name: str) -> str:
    parts = name.removeprefix("__torch__.").split(".")
    return ".".join(part for part in parts if not part.startswith("___torch_mangle_"))
