"""The pickle opcodes by which unpickling would import, call and restore: here they only record."""

from __future__ import annotations

from archfind.formats.pickles.containers import CONTAINERS
from archfind.formats.pickles.machine import Machine
from archfind.formats.pickles.nodes import DType, Global, PickledCall, Tensor
from archfind.formats.pickles.values import VALUES, line, take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _global(vm: Machine, data: bytes, pos: int) -> int:
    module, pos = line(data, pos)
    name, pos = line(data, pos)
    vm.stack.append(vm.named(_text(module), _text(name)))
    return pos


def _stack_global(vm: Machine, data: bytes, pos: int) -> int:
    name = vm.stack.pop()
    module = vm.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise KeyError("a global without a name")
    vm.stack.append(vm.named(module, name))
    return pos


def _extension(width: int) -> Callable[[Machine, bytes, int], int]:
    def act(vm: Machine, data: bytes, pos: int) -> int:
        code = int.from_bytes(take(data, pos, width), "little")
        vm.stack.append(vm.named("copyreg", f"_inverted_registry[{code}]"))
        return pos + width

    return act


def _inst(vm: Machine, data: bytes, pos: int) -> int:
    module, pos = line(data, pos)
    name, pos = line(data, pos)
    args = tuple(vm.pop_mark())
    named = vm.named(_text(module), _text(name))
    vm.stack.append(vm.call(named, args))
    named.by_function = True  # protocol 0 calls functions by it as well
    return pos


def _obj(vm: Machine, data: bytes, pos: int) -> int:
    items = vm.pop_mark()
    vm.stack.append(vm.call(items[0], tuple(items[1:])))
    if type(items[0]) is Global:
        items[0].by_function = True
    return pos


def _newobj(vm: Machine, data: bytes, pos: int) -> int:
    args = vm.stack.pop()
    vm.stack[-1] = vm.call(vm.stack[-1], args)
    return pos


def _newobj_ex(vm: Machine, data: bytes, pos: int) -> int:
    named = vm.stack.pop()
    args = vm.stack.pop()
    made = vm.call(vm.stack[-1], args)
    if type(made) is PickledCall and type(named) is dict and named:
        made.state = named  # keyword arguments are as good as attributes to a reader
    vm.stack[-1] = made
    return pos


def _build(vm: Machine, data: bytes, pos: int) -> int:
    state = vm.stack.pop()
    made = vm.stack[-1]
    if type(made) is PickledCall:
        if type(made.state) is dict and type(state) is dict:
            made.state = (made.state, state)  # as if the second came from slots
        elif made.state is None or state is not None:
            made.state = state
    elif type(made) is dict and type(state) is dict:
        vm.attributes.append(state)  # of a state dict: the versions of its layers
    elif type(made) is DType:
        made.swapped = type(state) is tuple and state[1:2] == (">",)
    elif type(made) is Global and made.called < 0:
        made.called = vm.pos  # setting a class's attributes is as good as calling it
    elif type(made) is Tensor:
        from archfind.formats.pickles.tensor_changes import restored

        restored(made, state)
    return pos


def _persid(vm: Machine, data: bytes, pos: int) -> int:
    raw, pos = line(data, pos)
    vm.stack.append(vm.persistent(_text(raw)))
    return pos


def _buffer(vm: Machine, data: bytes, pos: int) -> int:
    raise KeyError("a buffer outside the pickle")


def _readonly(vm: Machine, data: bytes, pos: int) -> int:
    return pos


RARE = (
    VALUES
    | CONTAINERS
    | {
        ord("c"): _global,
        0x93: _stack_global,
        0x82: _extension(1),
        0x83: _extension(2),
        0x84: _extension(4),
        ord("i"): _inst,
        ord("o"): _obj,
        0x81: _newobj,
        0x92: _newobj_ex,
        ord("b"): _build,
        ord("P"): _persid,
        0x97: _buffer,  # NEXT_BUFFER
        0x98: _readonly,  # READONLY_BUFFER
    }
)
