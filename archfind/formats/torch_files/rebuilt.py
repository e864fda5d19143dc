"""torch's calls that rebuild a tensor, each read from all of its arguments.

What an argument does to the numbers is kept with the tensor, or the tensor has no values; nothing
is left out in silence.
"""

from __future__ import annotations

from archfind import dtypes
from archfind.formats.pickles import numpy_objects
from archfind.formats.pickles.nodes import (
    Global,
    Packed,
    PickledCall,
    Quantised,
    StorageRef,
    Tensor,
    UnreadStorage,
)
from archfind.formats.pickles.numpy_objects import padded_arguments


def dtype_of(value: object) -> str | None:
    """The dtype that a storage class or a torch dtype stands for."""
    if type(value) is str:
        return dtypes.of_torch("torch." + value)
    if type(value) is not Global:
        return None
    return dtypes.of_storage(value.name) or dtypes.of_torch(value.name)


def rebuilt_tensor(args: object) -> object:
    if type(args) is tuple and len(args) > 3:
        storage = args[0]
        if type(storage) is StorageRef:
            return Tensor(storage, args[1], args[2], args[3], storage.dtype)
    return PickledCall(Global("torch.Tensor", None, 0), args)


def tensor_v2(args: object) -> object:
    made = rebuilt_tensor(args)
    if type(args) is tuple and len(args) > 6 and args[6] and type(made) is Tensor:
        from archfind.formats.pickles.tensor_changes import with_bits

        return with_bits(made, args[6])
    return made


def tensor_v3(args: object) -> object:
    made = rebuilt_tensor(args)
    given, metadata = padded_arguments(args, 8)[6:8]
    if type(made) is not Tensor:
        return made
    from archfind.formats.pickles.tensor_changes import unread_tensor, with_bits

    dtype = dtype_of(given)
    if dtype is None:
        made = unread_tensor(made, "its dtype is not known")
        name = given.name if type(given) is Global else ""
        made.dtype = name[len("torch.") :] if name.startswith("torch.") else "unknown"
        return made
    made.dtype = dtype
    return with_bits(made, metadata) if metadata else made


def meta(args: object) -> object:
    dtype, size, stride = padded_arguments(args, 3)[:3]
    why = UnreadStorage("it was saved on the meta device, without values")
    return Tensor(why, 0, size, stride, dtype_of(dtype) or "float32")


def wrapper(args: object) -> object:
    _, dtype, size, stride = padded_arguments(args, 4)[:4]
    why = UnreadStorage("it is of a class that keeps its values elsewhere")
    return Tensor(why, 0, size, stride, dtype_of(dtype) or "float32")


def nested(args: object) -> object:
    """A nested tensor has no shape of its own; what is shown is that of its buffer."""
    buffer = padded_arguments(args, 1)[0]
    if type(buffer) is not Tensor:
        return PickledCall(Global("torch.Tensor", None, 0), args)
    from archfind.formats.pickles.tensor_changes import unread_tensor

    return unread_tensor(buffer, "it is a nested tensor, shown as its buffer")


def rebuilt_quantised(args: object) -> object:
    """The dtype is that of the storage; beside it stands what the numbers mean."""
    made = rebuilt_tensor(args)
    if type(made) is not Tensor:
        return made
    if str(made.dtype).startswith("q"):
        found = _quantiser(padded_arguments(args, 5)[4])
        if found is not None:
            made.storage = Quantised(made.storage, *found)
        return made
    from archfind.formats.pickles.tensor_changes import unread_tensor

    return unread_tensor(made, f"it is a quantised tensor of {made.dtype}, which torch hasn't")


def _quantiser(said: object) -> tuple[object, object, int] | None:
    """Scale, zero point and axis; None, so that the reader refuses the tensor, for schemes that
    aren't affine."""
    if type(said) is not tuple or not said or type(said[0]) is not Global:
        return None
    scheme, *values = said
    kinds = [type(value) for value in values]
    if scheme.name == "torch.per_tensor_affine" and kinds in ([float, int], [int, int]):
        return float(values[0]), values[1], -1
    if scheme.name == "torch.per_channel_affine" and kinds == [Tensor, Tensor, int]:
        return values[0], values[1], values[2]
    return None


def sparse(args: object) -> object:
    data = padded_arguments(args, 2)[1]
    if type(data) is not tuple or len(data) < 3:
        return PickledCall(Global("torch.sparse", None, 0), args)
    after = 1 if len(data) == 3 or type(data[3]) is not tuple else 2  # COO has one index, CSR two
    values, size = data[after], data[after + 1]
    # the shape is the dense one; there is no run of bytes that holds it
    why = UnreadStorage("it is sparse")
    return Tensor(why, 0, size, None, values.dtype if type(values) is Tensor else "float32")


def first(args: object) -> object:
    return padded_arguments(args, 1)[0]


def parameter_with_state(args: object) -> object:
    data, _, _, state = padded_arguments(args, 4)[:4]
    return _stated(data, state) if state else data


def _stated(made: object, state: object) -> object:
    from archfind.formats.pickles.tensor_changes import tensor_with_state

    return tensor_with_state(made, state)


def subclass(args: object) -> object:
    fn, cls, inner, state = padded_arguments(args, 4)[:4]
    made: object = None
    if type(fn) is Global and fn.make is not None:
        made = fn.make(inner)  # pyright: ignore
    else:
        from archfind.formats.pickles.tensor_changes import call_into

        call_into(fn, inner)
        if type(fn) is Global:
            fn.by_function = True  # loading calls it
    if type(made) is not Tensor:
        return PickledCall(cls, inner)
    if type(made.storage) is UnreadStorage and type(cls) is Global and type(state) is dict:
        return _stated(_packed(cls.name, made, state), state)  # pyright: ignore
    return _stated(made, state) if state else made


def subclass_v1(args: object) -> object:
    """As the later one, but that its state replaces `__dict__`, where no number lies."""
    made = subclass(padded_arguments(args, 3)[:3])
    state = padded_arguments(args, 4)[3]
    if type(made) is Tensor and type(made.storage) is UnreadStorage and type(state) is dict:
        cls = padded_arguments(args, 2)[1]
        return _packed(cls.name, made, state) if type(cls) is Global else made  # pyright: ignore
    return made


def _packed(cls: str, whole: Tensor, state: dict[object, object]) -> Tensor | Packed:
    """torchao's classes hold tensors in attributes, some within others of such classes: the
    innermost has the data, and its class says what it means."""
    parts: dict[str, Tensor] = {}
    for name, value in state.items():
        if type(value) is Packed:
            cls, parts = value.cls, {**value.parts, **parts}
        elif (
            type(value) is Tensor and type(name) is str and type(value.storage) is not UnreadStorage
        ):
            parts[name] = value
    return Packed(cls, whole, parts) if parts else whole


def converted(args: object) -> object:
    """Numbers of one kind, converted on loading: bfloat16 was written as float32."""
    data, dtype, device = padded_arguments(args, 3)[:3]
    if type(data) is PickledCall:
        data = numpy_objects.array_of(data) or data
    if type(data) is not Tensor:
        return data
    from archfind.formats.pickles.tensor_changes import cast

    return cast(data, dtype_of(dtype), device)


CALLS = {
    "torch._utils._rebuild_tensor": rebuilt_tensor,
    "torch._utils._rebuild_tensor_v2": tensor_v2,
    "torch._utils._rebuild_tensor_v3": tensor_v3,
    "torch._utils._rebuild_qtensor": rebuilt_quantised,
    "torch._utils._rebuild_nested_tensor": nested,
    "torch._utils._rebuild_parameter": first,
    "torch._utils._rebuild_parameter_with_state": parameter_with_state,
    "torch._utils._rebuild_sparse_tensor": sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": meta,
    "torch._utils._rebuild_wrapper_subclass": wrapper,
    "torch._utils._rebuild_device_tensor_from_numpy": converted,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": converted,
    "torch._utils._rebuild_xla_tensor": converted,
    "torch._tensor._rebuild_from_type": subclass_v1,
    "torch._tensor._rebuild_from_type_v2": subclass,
    "torch.tensor._rebuild_from_type": subclass_v1,
    "torch.nn.parameter.Parameter": first,
    "torch.nn.parameter.Buffer": first,
    "torch.autograd.variable.Variable": first,
}
