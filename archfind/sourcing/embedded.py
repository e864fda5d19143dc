"""The source that an old pickle carries of its classes -> Program: the forward's text is parsed,
and each statement followed with what the pickle says of its modules; nothing of it is run."""

from __future__ import annotations

import ast

from archfind.sourcing.class_sources import MOST, KnownModules, Sources
from archfind.sourcing.program import FileProgram, Op, ProgramWeight, Ref, Unfollowed
from archfind.sourcing.script import Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.sourcing.tree import Listing
    from archfind.types import TensorSpec

    Stack = tuple[tuple[str, int], ...]
    Scope = dict[str, object]

_TORCH = "torch.nn.modules."
_MODULES = ("torch", "F", "nn.functional", "torch.nn.functional", "functional")
_ROWS = ("permute", "reshape")  # methods that take sizes one by one, or as a row
_RECURRENT = ("LSTM", "GRU", "RNN")
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
}


def embedded_program(
    sources: Mapping[str, str],
    root: str,
    listing: Listing,
    index: Mapping[str, TensorSpec],
    attributes: Mapping[str, object],
) -> FileProgram:
    """The operations of a pickled module of class `root`: `listing` has the class and attributes of
    every module below it, `attributes` its own. Unfollowed where some statement isn't known."""
    try:
        follower = _Follower(Sources(sources), listing, index, attributes)
        method = follower.classes.methods[root]["forward"]
        names = [argument.arg for argument in method.args.args[1:]]
        given: list[object] = [Ref(follower.name(name)) for name in names]
        outputs = follower.called(Held("", root), method, given, ())
    except (RecursionError, KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise Unfollowed("its source has another form") from error
    inputs = tuple(ref.name for ref in given if isinstance(ref, Ref))
    return FileProgram(inputs, tuple(follower.ops), outputs, follower.named)


class _Follower(KnownModules):
    def body(self, statements: list[ast.stmt], scope: Scope, stack: Stack) -> tuple[bool, Any]:
        """Whether something is returned, and what."""
        for node in statements:
            self.passes += 1
            if self.passes > MOST:
                raise Unfollowed("too many statements")
            if isinstance(node, ast.Return):
                return True, self.value(node.value, scope, stack)
            if isinstance(node, ast.For) and not node.orelse:
                for item in self.items(node.iter, scope, stack):
                    self.assigned(node.target, item, scope, stack)
                    done, given = self.body(node.body, scope, stack)
                    if done:
                        return True, given
            elif isinstance(node, ast.If):
                way = node.body if self.known(node.test, scope, stack) else node.orelse
                done, given = self.body(way, scope, stack)
                if done:
                    return True, given
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                before = scope[node.target.id]
                after = self.value(node.value, scope, stack)
                scope[node.target.id] = self.computed(node.op, before, after, stack, "_")
            elif isinstance(node, ast.Assign) and len(node.targets) == 1:
                given = self.value(node.value, scope, stack)
                self.assigned(node.targets[0], given, scope, stack)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            elif not isinstance(node, ast.Pass):
                raise Unfollowed(f"a statement {type(node).__name__}")
        return False, None

    def assigned(self, target: ast.expr, given: object, scope: Scope, stack: Stack) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = given
        elif isinstance(target, ast.Tuple):
            for one, item in zip(
                target.elts, self.unpacked(given, len(target.elts), stack), strict=True
            ):
                self.assigned(one, item, scope, stack)
        else:
            raise Unfollowed("a target of another form")

    def called(
        self, module: Held, method: ast.FunctionDef, given: list[object], stack: Stack
    ) -> object:
        arguments = method.args
        names = [argument.arg for argument in arguments.args]
        plain = not (arguments.vararg or arguments.kwarg or arguments.kwonlyargs)
        missing = len(names) - 1 - len(given)
        if not plain or not 0 <= missing <= len(arguments.defaults) or len(stack) > 40:
            raise Unfollowed("a call with other arguments")
        usual = arguments.defaults[len(arguments.defaults) - missing :]
        rest = [self.value(one, {}, stack) for one in usual]
        self.calls += 1
        inside = stack and stack[-1][0] == module.path and method.name != "forward"
        within = stack if inside else (*stack, (module.path, self.calls))
        scope: Scope = dict(zip(names, [module, *given, *rest], strict=True))
        return self.body(method.body, scope, within)[1]

    def value(self, node: ast.expr | None, scope: Scope, stack: Stack) -> Any:
        if isinstance(node, ast.BinOp):
            left = self.value(node.left, scope, stack)
            return self.computed(node.op, left, self.value(node.right, scope, stack), stack)
        if isinstance(node, ast.Subscript):
            return self.item(node, scope, stack)
        if isinstance(node, ast.Attribute) and node.attr in ("shape", "T"):
            holder = self.value(node.value, scope, stack)
            if isinstance(holder, Ref) and node.attr == "shape":
                return ("shape", holder)
        return super().value(node, scope, stack)

    def computed(
        self, operator: ast.operator, left: Any, right: Any, stack: Stack, end: str = ""
    ) -> Any:
        numbers = all(isinstance(one, int | float) for one in (left, right))
        name = _BINARY.get(type(operator), "")
        if numbers and name in ("add", "sub", "mul"):
            return {"add": left + right, "sub": left - right, "mul": left * right}[name]
        if numbers and isinstance(operator, ast.FloorDiv) and right:
            return left // right
        if not name or not any(isinstance(one, Ref | ProgramWeight) for one in (left, right)):
            raise Unfollowed("arithmetic of another form")
        # x += y changes what else is called x
        return self.made(name + end * isinstance(left, Ref), (left, right), (), stack)

    def made(
        self,
        name: str,
        args: tuple[object, ...],
        kwargs: tuple[tuple[str, object], ...],
        stack: Stack,
    ) -> Ref:
        out = self.name()
        self.add(Op(name, args, kwargs, (out,), stack))
        return Ref(out)

    def item(self, node: ast.Subscript, scope: Scope, stack: Stack) -> Any:
        holder = self.value(node.value, scope, stack)
        if isinstance(holder, Ref):
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return self.made(
                "getitem", (holder, [self.place(p, scope, stack) for p in parts]), (), stack
            )
        number = self.value(node.slice, scope, stack)
        if type(number) is not int:
            raise Unfollowed("a place that isn't known")
        if isinstance(holder, tuple) and len(holder) == 2 and holder[0] == "shape":  # pyright: ignore
            return self.made("size", (holder[1], number), (), stack)  # pyright: ignore
        if isinstance(holder, Held):
            return self.children(holder)[number]
        return holder[number]

    def place(self, node: ast.expr, scope: Scope, stack: Stack) -> object:
        """One part of an index, as the operation takes it: a number, None, or a slice as a row."""
        if isinstance(node, ast.Slice):
            ends = (node.lower, node.upper, node.step)
            return tuple(self.value(one, scope, stack) if one is not None else None for one in ends)
        given = self.value(node, scope, stack)
        if type(given) is int or given is None:
            return given
        raise Unfollowed("an index of another form")

    def call(self, node: ast.Call, scope: Scope, stack: Stack) -> Any:
        function = node.func
        dotted = ast.unparse(function) if isinstance(function, ast.Name | ast.Attribute) else ""
        module, _, last = dotted.rpartition(".")
        if dotted == "len" and len(node.args) == 1:
            return len(self.items(node.args[0], scope, stack))
        if dotted in ("int", "float") and len(node.args) == 1:
            return self.value(node.args[0], scope, stack)
        if module in _MODULES and module.partition(".")[0] not in scope:
            return self.function(last, *self.arguments(node, scope, stack), stack)
        if isinstance(function, ast.Attribute):
            holder = self.value(function.value, scope, stack)
            if isinstance(holder, Ref | ProgramWeight):
                return self.method(last, holder, node, scope, stack)
            method = self.classes.methods.get(holder.cls, {}).get(last)
            if isinstance(holder, Held) and method is not None and not node.keywords:
                given = [self.value(one, scope, stack) for one in node.args]
                return self.called(holder, method, given, stack)
        held = self.value(function, scope, stack)
        if not isinstance(held, Held) or node.keywords:
            raise Unfollowed(f"a call of {dotted[:40]}")
        return self.module(held, [self.value(one, scope, stack) for one in node.args], stack)

    def function(
        self,
        name: str,
        args: tuple[object, ...],
        kwargs: tuple[tuple[str, object], ...],
        stack: Stack,
    ) -> Ref:
        """A function of torch. One that drops numbers in training does so only where it is told
        whether this is training: what isn't told drops them always."""
        named = dict(kwargs)
        if name.startswith("dropout") and named.get("training", args[2:3]) not in (False, (False,)):
            raise Unfollowed("a dropout that isn't told whether this is training")
        if name in ("softmax", "log_softmax") and len(args) < 2 and "dim" not in named:
            raise Unfollowed("a softmax over an axis that isn't said")
        end = "_" if named.pop("inplace", False) is True else ""
        return self.made(name + end, args, tuple(named.items()), stack)

    def arguments(
        self, node: ast.Call, scope: Scope, stack: Stack
    ) -> tuple[tuple[object, ...], tuple[tuple[str, object], ...]]:
        args = tuple(self.value(one, scope, stack) for one in node.args)
        return args, tuple((str(n.arg), self.value(n.value, scope, stack)) for n in node.keywords)

    def method(self, name: str, holder: object, node: ast.Call, scope: Scope, stack: Stack) -> Any:
        args, kwargs = self.arguments(node, scope, stack)
        if name == "size":
            return self.made("size", (holder, *args), (), stack) if args else ("shape", holder)
        if name in _ROWS and len(args) > 1:
            args = (list(args),)
        return self.made(name, (holder, *args), kwargs, stack)

    def module(self, held: Held, given: list[object], stack: Stack) -> object:
        """The call of a module: of a class with a source its forward, of torch's own a layer."""
        method = self.classes.methods.get(held.cls, {}).get("forward")
        if method is not None:
            return self.called(held, method, given, stack)
        if not held.cls.startswith(_TORCH):
            raise Unfollowed(f"no source of {held.cls[:60]}")
        self.calls += 1
        within = (*stack, (held.path, self.calls))
        if held.cls.endswith(".Sequential") and len(given) == 1:
            value: object = given[0]
            for child in self.children(held):
                value = self.module(child, [value], within)
            return value
        if held.cls.rpartition(".")[2] in _RECURRENT:
            outs = [self.name(), self.name()]
            self.add(Op("layer", tuple(given), (), tuple(outs), within, True))
            return [Ref(out) for out in outs]
        out = self.name()
        self.add(Op("layer", tuple(given), (), (out,), within))
        return Ref(out)
