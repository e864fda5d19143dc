"""A program's operations put back into the modules that they were called in."""

from __future__ import annotations

from archfind.sourcing.layer_calls import layer_called
from archfind.sourcing.names import attribute, is_plain
from archfind.sourcing.operations import PythonTemplate, expression
from archfind.sourcing.parts import CONTAINERS, RECURRENT, ModulePart
from archfind.sourcing.program import FileProgram, Op, ProgramWeight, Ref, Unfollowed, used
from archfind.sourcing.recurrent_calls import recurrent_called
from archfind.sourcing.statements import Item, forward_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_DEEPEST = 40
_ARGUMENTS = ("x", "y", "z", *(f"x{number}" for number in range(1, 20)))


def follow(top: ModulePart, program: FileProgram) -> None:
    """Write the forward of every block of a tree that the program calls. Unfollowed where it can't
    be: an operation that isn't known, a block that is called in two ways."""
    if any(part.kind == "MultiheadAttention" for part in top.walk()):
        raise Unfollowed("the number of heads isn't said")
    follower = _Follower(top, program)
    top.kind = "Block"
    names = [name.partition(":")[0] for name in program.inputs]
    plain = len(set(names)) == len(names) > 1 and all(map(is_plain, names))
    ops = list(enumerate(program.ops))
    follower.block(top, ops, 0, program.inputs, program.outputs, names if plain else None)
    for part in top.walk():
        numbered = bool(part.children) and all(name.isdecimal() for name in part.children)
        if numbered and part.path and part.path not in follower.called and not part.tensors:
            part.kind = "ModuleList"


class _Follower:
    def __init__(self, top: ModulePart, program: FileProgram) -> None:
        self.top = top
        self.classes = program.classes
        self.called: dict[str, object] = {}
        self.last: dict[str, int] = {}  # the last operation that reads something
        for number, op in enumerate(program.ops):
            for ref in used(op):
                self.last[ref.name] = number
        outputs = program.outputs
        for ref in outputs if isinstance(outputs, list | tuple) else (outputs,):  # pyright: ignore
            if not isinstance(ref, Ref):
                raise Unfollowed("what it gives has another form")
            self.last[ref.name] = len(program.ops)

    def block(
        self,
        part: ModulePart,
        ops: Sequence[tuple[int, Op]],
        depth: int,
        inputs: Sequence[str],
        outputs: object,
        names: Sequence[str] | None = None,
    ) -> None:
        """Write the forward of a block whose operations these are, `depth` calls below the top."""
        if depth > _DEEPEST or len(inputs) > len(_ARGUMENTS):
            raise Unfollowed("blocks nested too deep")
        takes = tuple(names or _ARGUMENTS[: len(inputs)])
        items: list[Item] = []
        children: list[tuple[str, str, str]] = []  # what is called, what it reads, what it gives
        at = 0
        while at < len(ops):
            end = at + 1
            if len(ops[at][1].stack) <= depth + 1:
                items.append(self.item(ops[at][1], part))
            else:
                call = ops[at][1].stack[depth + 1]
                while end < len(ops) and ops[end][1].stack[depth + 1 : depth + 2] == (call,):
                    end += 1
                made = self.module(part, ops[at:end], depth + 1, call[0])
                items += made
                reads = [ref.name for one in made for ref, _ in _refs(one.expression)]
                single = len(made) == len(reads) == len(made[0].outs) == 1 if made else False
                children += [(call[0], reads[0], made[0].outs[0])] if single else []
            at = end
        if self.is_row(part, items, children, inputs, outputs):
            self.settle(part, ("Sequential",), [])
            part.kind = "Sequential"
            return
        lines = forward_lines(items, inputs, outputs, takes)
        self.settle(part, (takes, tuple(lines)), lines)
        part.takes = takes
        part.gives = _gives(outputs)

    def settle(self, part: ModulePart, key: object, lines: list[str]) -> None:
        if self.called.setdefault(part.path, key) != key:
            raise Unfollowed("a block is called in two ways")
        part.forward = lines or None

    def is_row(
        self,
        part: ModulePart,
        items: Sequence[Item],
        children: Sequence[tuple[str, str, str]],
        inputs: Sequence[str],
        outputs: object,
    ) -> bool:
        """Whether a torch.nn.Sequential calls its modules in their order, each once."""
        stated = self.classes.get(part.path, "")
        if not stated.startswith("torch.nn.") or not stated.endswith(".Sequential"):
            return False
        if len(children) != len(items) or len(inputs) != 1 or part.tensors:
            return False
        numbers = [path.rpartition(".")[2] for path, _, _ in children]
        if not all(name.isdecimal() for name in part.children) or not numbers:
            return False
        if not all(name.isdecimal() for name in numbers):
            return False
        order = [int(name) for name in numbers]
        chained = [inputs[0], *(out for _, _, out in children)]
        reads = [read for _, read, _ in children]
        ordered = order == sorted(set(order)) and set(numbers) >= set(part.children)
        return ordered and reads == chained[:-1] and outputs == Ref(chained[-1])

    def module(
        self, holder: ModulePart, ops: Sequence[tuple[int, Op]], depth: int, path: str
    ) -> list[Item]:
        """The call of the module at `path`, as one step; of a layer that isn't called as torch.nn
        calls it, its operations."""
        part = self.part(path)
        run = [op for _, op in ops]
        inside = {out for op in run for out in op.outs}
        reads = [ref.name for op in run for ref in used(op) if ref.name not in inside]
        inputs = tuple(dict.fromkeys(reads))
        after = ops[-1][0]
        outputs = [out for op in run for out in op.outs if self.last.get(out, -1) > after]
        if not outputs:
            return []
        call = self.access(holder, path)
        stated = self.classes.get(path, "")
        if len(run) == 1 and run[0].name == "layer":
            return [self.layer(call, run[0], bool(part.arguments.get("inplace")))]
        if part.kind in RECURRENT:
            read, (steps, *states) = recurrent_called(part, run, outputs)
            pair = states[0] if len(states) == 1 else f"{steps}:states"  # of an LSTM
            made = Item(PythonTemplate((f"{call}(", (read, False), ")")), (steps, pair), True)
            places = [(n, s) for n, s in enumerate(states) if len(states) > 1 and s in outputs]
            held = [(PythonTemplate(((Ref(pair), True), f"[{n}]")), (s,)) for n, s in places]
            return [made, *(Item(*one) for one in held)]
        own = _own(part)
        layer = layer_called(own, run, stated) if len(outputs) == 1 else None
        if layer is not None:
            key = (own.kind, tuple(own.arguments.items()))
            if self.called.setdefault(path, key) != key:
                raise Unfollowed("a layer is called in two ways")
            part.kind, part.arguments = own.kind, own.arguments
            part.ins, part.outs = own.ins, own.outs
            changes = bool(part.arguments.get("inplace"))
            made = PythonTemplate((f"{call}(", (layer[1], False), ")"))
            return [Item(made, tuple(outputs), False, changes)]
        if not part.is_block and part.kind not in CONTAINERS:
            return [self.item(op, holder) for op in run]
        given = tuple(map(Ref, outputs))
        part.kind = "Block"
        self.block(part, ops, depth, inputs, given[0] if len(given) == 1 else given)
        pieces: list[str | tuple[Ref, bool]] = [f"{call}("]
        for number, name in enumerate(inputs):
            pieces += [", "] if number else []
            pieces.append((Ref(name), False))
        return [Item(PythonTemplate((*pieces, ")")), tuple(outputs), len(outputs) > 1)]

    def layer(self, call: str, op: Op, changes: bool) -> Item:
        """A layer of torch.nn that is called as a whole, with the arguments that the file says."""
        pieces: list[str | tuple[Ref, bool]] = [f"{call}("]
        for number, value in enumerate(op.args):
            if not isinstance(value, Ref):
                raise Unfollowed("a layer reads something else")
            pieces += [", "] if number else []
            pieces.append((value, False))
        return Item(PythonTemplate((*pieces, ")")), op.outs, op.multiple, changes)

    def item(self, op: Op, holder: ModulePart) -> Item:
        made = expression(op, lambda key: self.tensor(holder, key))
        return Item(made, op.outs, op.multiple, op.name.endswith("_"))

    def part(self, path: str) -> ModulePart:
        part, so_far = self.top, ""
        for name in path.split("."):
            so_far = f"{so_far}.{name}".lstrip(".")
            if part.children.get(name) is None:
                if not part.is_block and part.kind not in CONTAINERS:
                    raise Unfollowed("a module below a layer")
                part.children[name] = ModulePart(name, so_far)
            part = part.children[name]
        return part

    def access(self, holder: ModulePart, path: str) -> str:
        """How a forward of `holder` calls the module at a path."""
        start = f"{holder.path}." if holder.path else ""
        if not path.startswith(start) or path == holder.path:
            raise Unfollowed("a module outside of the block that calls it")
        part, text = holder, "self"
        for name in path.removeprefix(start).split("."):
            numbered = part is not holder and all(one.isdecimal() for one in part.children)
            text = f"{text}[{int(name)}]" if numbered else text + attribute(name)[4:]
            part = part.children[name]
        return text

    def tensor(self, holder: ModulePart, key: str) -> str:
        path, _, name = key.rpartition(".")
        place = path
        while place and not _exists(self.top, place):
            place = place.rpartition(".")[0]
        part = self.part(place) if place else self.top
        held = "_buffers" if not _is_float(part, name) else "_parameters"
        above = "self" if part is holder else self.access(holder, place)
        rest = key.removeprefix(f"{place}.") if place else key
        if rest == name and name in part.tensors:
            return above + attribute(name, held)[4:]
        if not part.is_block and all(map(is_plain, rest.split("."))):
            return f"{above}.{rest}"  # of a layer
        raise Unfollowed("a tensor that no module has")


def _is_float(part: ModulePart, name: str) -> bool:
    spec = part.tensors.get(name)
    return spec is None or spec.dtype.startswith(("float", "bfloat", "complex"))


def _exists(top: ModulePart, path: str) -> bool:
    part: ModulePart | None = top
    for name in path.split("."):
        part = part.children.get(name) if part is not None else None
    return part is not None


def _own(part: ModulePart) -> ModulePart:
    """A copy of a layer, to be given arguments."""
    copy = ModulePart(part.name, part.path)
    copy.kind, copy.arguments, copy.dims = part.kind, dict(part.arguments), part.dims
    copy.tensors, copy.children = part.tensors, part.children
    copy.ins, copy.outs = part.ins, part.outs
    return copy


def _refs(made: PythonTemplate) -> list[tuple[Ref, bool]]:
    return [piece for piece in made.pieces if not isinstance(piece, str)]


def _gives(outputs: object) -> str:
    if isinstance(outputs, list):
        return "list[Tensor]"
    if isinstance(outputs, tuple):
        return f"tuple[{', '.join(['Tensor'] * len(outputs))}]"  # pyright: ignore
    return "Tensor"


def weights(program: FileProgram) -> set[str]:
    """The keys of all tensors that a program reads."""
    values = [value for op in program.ops for value in (*op.args, *(v for _, v in op.kwargs))]
    held: set[str] = set()
    while values:
        value = values.pop()
        if isinstance(value, list | tuple):
            values += value  # pyright: ignore
        elif isinstance(value, ProgramWeight):
            held.add(value.key)
    return held
