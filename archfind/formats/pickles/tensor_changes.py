"""What a pickle does to a tensor beside describing it, so that no value is given that loading
wouldn't give: bits, casts, attributes that replace the numbers, calls that write into them."""

from __future__ import annotations

from archfind import dtypes
from archfind.escape import escape
from archfind.formats.pickles.nodes import (
    Altered,
    Global,
    Packed,
    PickledCall,
    Quantised,
    StorageRef,
    Tensor,
    UnreadStorage,
)
from archfind.formats.pickles.numpy_objects import array_of
from archfind.types import Storage

_STEPS = 8  # of one tensor; honest files have two
_LOOKED_AT = 1000  # values among a call's arguments
_SETTING = ("data", "real", "imag")  # the attributes of a tensor that hold its numbers
_BITS = ("conj", "neg")
# what takes tensors, is named like a function, and only holds them
_HOLDING = frozenset(("tuple", "list", "dict", "set", "frozenset", "slice", "object", "partial"))
_GRAPH = "torch.fx.graph_module.reduce_graph_module"  # makes them attributes of a traced network


def unread_tensor(tensor: Tensor, reason: str) -> Tensor:
    """The same tensor, whose values are not to be had."""
    return Tensor(UnreadStorage(reason), 0, tensor.size, None, tensor.dtype)


def altered(tensor: Tensor, steps: tuple[str, ...], dtype: object) -> Tensor:
    """The tensor after `steps`, by which its numbers become `dtype`."""
    storage, stored = tensor.storage, tensor.dtype
    if type(storage) is UnreadStorage:
        return Tensor(storage, 0, tensor.size, None, dtype)
    if type(storage) is Quantised:
        return unread_tensor(tensor, "its quantised numbers are changed")
    if type(storage) is Altered:
        storage, stored, steps = storage.storage, storage.stored, storage.steps + steps
    if len(steps) > _STEPS:
        return unread_tensor(tensor, "its numbers are changed over and over")
    return Tensor(Altered(storage, steps, stored), tensor.offset, tensor.size, tensor.stride, dtype)


def with_bits(tensor: Tensor, metadata: object) -> Tensor:
    """The tensor with torch's own metadata. That a bit is named sets it, whatever its value."""
    if type(metadata) is not dict or not all(type(key) is str for key in metadata):
        return unread_tensor(tensor, "its metadata is none of torch's")
    bits = tuple(bit for bit in _BITS if bit in metadata)
    if "conj" in bits and not str(tensor.dtype).startswith("complex"):
        return unread_tensor(tensor, f"it has a conj bit, which {tensor.dtype} can't have")
    if "neg" in bits and tensor.dtype == "bool":
        return unread_tensor(tensor, "it has a neg bit, which bool can't have")
    return altered(tensor, bits, tensor.dtype) if bits else tensor


def cast(tensor: Tensor, dtype: str | None, device: object) -> Tensor:
    """The tensor as loading converts it to a dtype and a device."""
    if dtype is None:
        return unread_tensor(tensor, "it is converted to a dtype that torch hasn't")
    if type(device) is str and device.partition(":")[0] == "meta":
        return Tensor(UnreadStorage("it is loaded without values"), 0, tensor.size, None, dtype)
    if dtype == tensor.dtype:
        return tensor
    return altered(tensor, (f"from {tensor.dtype}",), dtype)


def tensor_with_state(made: object, state: object) -> object:
    """A tensor whose attributes are set from a pickled state."""
    for part in state if type(state) is tuple and len(state) == 2 else (state,):
        names = (
            part
            if type(part) is dict
            else dict(part.items or ())
            if type(part) is PickledCall
            else {}
        )
        for name in _SETTING:
            if name not in names:
                continue
            reason = f"loading sets its .{name} to something else"
            if type(made) is Packed:
                return unread_tensor(made.whole, reason)
            return unread_tensor(made, reason) if type(made) is Tensor else made
    return made


def restored(made: Tensor, state: object) -> None:
    """What BUILD does to a tensor: old torch sets its grad and hooks by it, others its numbers."""
    if type(state) is not tuple or len(state) != 3:
        write_into(made, "its state is set anew")


def call_into(fn: object, args: object) -> None:
    """Calls by name of no class, or of what another call gives, may write into the tensors that
    they are given."""
    from archfind.formats.pickles.danger import is_function

    if type(fn) is not Global:
        write_into(args, "loading hands it to what a call gives, which may change it")
    elif fn.name == _GRAPH:
        return
    elif is_function(fn.name) and fn.name.rpartition(".")[2] not in _HOLDING:
        write_into(args, f"loading hands it to {escape(fn.name)}, which may change it")


def write_into(value: object, reason: str) -> None:
    """The tensors in `value`, and all that share their storage, have no values any more."""
    stack, seen = [value], 0
    while stack and seen < _LOOKED_AT:
        one = stack.pop()
        seen += 1
        kind = type(one)
        if kind is tuple or kind is list:
            stack.extend(one[:_LOOKED_AT])  # pyright: ignore
        elif kind is dict:
            stack.extend(list(one.values())[:_LOOKED_AT])  # pyright: ignore
        elif kind is Packed:
            stack.extend((one.whole, *one.parts.values()))  # pyright: ignore
        elif kind is PickledCall and array_of(one) is not None:  # pyright: ignore
            one.state = (*one.state[:4], UnreadStorage(reason))  # pyright: ignore
        elif kind is Tensor:
            stack.append(one.storage)  # pyright: ignore
            one.storage, one.offset, one.stride = UnreadStorage(reason), 0, None  # pyright: ignore
        elif kind is Altered or kind is Quantised:
            stack.append(one.storage)  # pyright: ignore
        elif kind is StorageRef:
            empty(one, reason)  # pyright: ignore


def empty(ref: StorageRef, reason: str) -> None:
    """A storage whose bytes in the file are not what loading gives."""
    nbytes = max(ref.root.numel, 0) * dtypes.ITEMSIZE.get(ref.root.dtype, 1)
    ref.root.record = Storage("", ref.key, -1, nbytes, ("absent", reason, 0))
