"""The pickle opcodes for containers, the stack and the memo that are rare in a state dict.

Each function gets the machine, the bytes, and the position behind its opcode, and returns the
position of the next one. It reads all of its bytes before it changes the stack.
"""

from __future__ import annotations

import struct

from archfind.formats.pickles.dict_keys import as_key, put_items
from archfind.formats.pickles.machine import Machine
from archfind.formats.pickles.nodes import Group, PickledCall, Tensor
from archfind.formats.pickles.values import line

_U8 = struct.Struct("<Q")


# --- containers ---


def _list(vm: Machine, data: bytes, pos: int) -> int:
    items = vm.pop_mark()
    vm.stack.append(items)
    return pos


def _dict(vm: Machine, data: bytes, pos: int) -> int:
    items = vm.pop_mark()
    found: dict[object, object] = {}
    put_items(found, items)
    vm.stack.append(found)
    return pos


def _empty_set(vm: Machine, data: bytes, pos: int) -> int:
    vm.stack.append(Group([]))
    return pos


def _frozenset(vm: Machine, data: bytes, pos: int) -> int:
    items = vm.pop_mark()
    vm.stack.append(Group(items))
    return pos


def _extend(vm: Machine, items: list[object]) -> None:
    target = vm.stack[-1]
    kind = type(target)
    if kind is list:
        target.extend(items)  # pyright: ignore
    elif kind is Group:
        target.members.extend(items)  # pyright: ignore
    elif kind is PickledCall:
        if target.appended is None:  # pyright: ignore
            target.appended = []  # pyright: ignore
        target.appended.extend(items)  # pyright: ignore


def _append(vm: Machine, data: bytes, pos: int) -> int:
    item = vm.stack.pop()
    _extend(vm, [item])
    return pos


def _appends(vm: Machine, data: bytes, pos: int) -> int:
    _extend(vm, vm.pop_mark())
    return pos


def _store(vm: Machine, items: list[object]) -> None:
    target = vm.stack[-1]
    if type(target) is dict:
        put_items(target, items)  # pyright: ignore
    elif type(target) is PickledCall:
        if target.items is None:
            target.items = []
        keys = [as_key(key) for key in items[0::2]]
        target.items.extend(zip(keys, items[1::2], strict=False))
    elif type(target) is Tensor and items:
        from archfind.formats.pickles.tensor_changes import write_into

        write_into(target, "loading writes into it")


def _setitem(vm: Machine, data: bytes, pos: int) -> int:
    value = vm.stack.pop()
    key = vm.stack.pop()
    _store(vm, [key, value])
    return pos


def _setitems(vm: Machine, data: bytes, pos: int) -> int:
    _store(vm, vm.pop_mark())
    return pos


# --- stack and memo ---


def _pop(vm: Machine, data: bytes, pos: int) -> int:
    if vm.stack:
        vm.stack.pop()
    else:
        vm.pop_mark()  # POP takes a mark away where nothing stands above it
    return pos


def _pop_mark(vm: Machine, data: bytes, pos: int) -> int:
    vm.pop_mark()
    return pos


def _dup(vm: Machine, data: bytes, pos: int) -> int:
    vm.stack.append(vm.stack[-1])
    return pos


def _number(data: bytes, pos: int) -> tuple[int, int]:
    text, pos = line(data, pos)
    if len(text) > 20 or not text.isdigit():
        raise KeyError("not a memo number")
    return int(text), pos


def _get(vm: Machine, data: bytes, pos: int) -> int:
    number, pos = _number(data, pos)
    vm.stack.append(vm.memo[number])
    return pos


def _put(vm: Machine, data: bytes, pos: int) -> int:
    number, pos = _number(data, pos)
    vm.memo[number] = vm.stack[-1]
    return pos


def _proto(vm: Machine, data: bytes, pos: int) -> int:
    if data[pos] > 5:
        raise KeyError("an unknown protocol")
    return pos + 1


def _frame(vm: Machine, data: bytes, pos: int) -> int:
    _U8.unpack_from(data, pos)  # a frame is a hint to read ahead
    return pos + 8


CONTAINERS = {
    ord("l"): _list,
    ord("d"): _dict,
    0x8F: _empty_set,
    0x90: _appends,  # ADDITEMS
    0x91: _frozenset,
    ord("a"): _append,
    ord("e"): _appends,
    ord("s"): _setitem,
    ord("u"): _setitems,
    ord("0"): _pop,
    ord("1"): _pop_mark,
    ord("2"): _dup,
    ord("g"): _get,
    ord("p"): _put,
    0x80: _proto,
    0x95: _frame,
}
