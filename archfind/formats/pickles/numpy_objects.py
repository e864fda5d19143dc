"""What is known of numpy's pickled calls: scalars, dtypes and arrays."""

from __future__ import annotations

import struct

from archfind import dtypes
from archfind.formats.pickles.nodes import Bytes, DType, Global, PickledCall, Tensor, UnreadStorage


def padded_arguments(args: object, count: int) -> tuple[object, ...]:
    """At least `count` arguments of a call, None for those that it lacks."""
    found = args if type(args) is tuple else ()
    return found + (None,) * (count - len(found)) if len(found) < count else found


def numpy_dtype(args: object) -> object:
    """numpy.dtype(code, ...)."""
    code = padded_arguments(args, 1)[0]
    made = DType(code.lstrip("<>|=") if type(code) is str else "")
    made.swapped = type(code) is str and code.startswith(">")
    return made


def numpy_scalar(args: object) -> object:
    """multiarray.scalar(dtype, bytes), as a Python number or text."""
    kind, raw = padded_arguments(args, 2)[:2]
    if type(raw) is str and len(raw) < 1000:
        raw = raw.encode("latin-1", "replace")  # Python 2's str
    if type(kind) is not DType or type(raw) is not bytes or len(raw) > 1000:
        return None
    form = _SCALAR.get(kind.code)
    if form is None or struct.calcsize(form) != len(raw):
        if kind.code.startswith("U") and len(raw) % 4 == 0:
            return raw.decode("utf-32-le", "replace").rstrip("\0")
        return raw.decode("latin-1") if kind.code.startswith("S") else None
    if kind.swapped:
        raw = raw[::-1]
    return struct.unpack(form, raw)[0]


_SCALAR = {
    "f8": "<d",
    "f4": "<f",
    "f2": "<e",
    "i8": "<q",
    "i4": "<i",
    "i2": "<h",
    "i1": "<b",
    "u8": "<Q",
    "u4": "<I",
    "u2": "<H",
    "u1": "<B",
    "b1": "<?",
}


def buffered_array(args: object) -> object:
    """numeric._frombuffer(bytes, dtype, shape, order), of protocol 5."""
    raw, kind, shape, order = padded_arguments(args, 4)[:4]
    return numpy_tensor(raw, kind, shape, order == "F") or PickledCall(
        Global("numpy.ndarray", None, 0), args
    )


def _columns(shape: tuple[object, ...]) -> tuple[int, ...] | None:
    """Strides of an array in Fortran's order."""
    steps, step = [], 1
    for dim in shape:
        if type(dim) is not int:
            return None
        steps.append(step)
        step *= max(dim, 1)
    return tuple(steps)


def numpy_tensor(raw: object, kind: object, shape: object, fortran: bool = False) -> Tensor | None:
    """An array pickled by numpy; where its bytes lie in the file, the storage says so."""
    name = dtypes.NUMPY.get(kind.code) if type(kind) is DType else None
    if name is None or type(shape) is not tuple:
        return None
    if type(kind) is DType and kind.swapped and kind.code[-1:] != "1":
        raw = UnreadStorage("its numbers are big-endian")
    if type(raw) not in (Bytes, bytes, str, UnreadStorage):
        raw = UnreadStorage("its bytes are made by a call")
    return Tensor(raw, 0, shape, _columns(shape) if fortran else None, name)


def array_of(call: PickledCall) -> Tensor | None:
    """The tensor of a numpy `_reconstruct` call whose state has been set."""
    state = call.state
    if type(state) is tuple and len(state) == 5 and "multiarray" in call.name:
        raw = UnreadStorage("loading writes into it") if call.items or call.appended else state[4]
        return numpy_tensor(raw, state[2], state[1], state[3] is True)
    return None
