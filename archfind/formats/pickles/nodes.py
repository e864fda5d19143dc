"""What a pickle's values become: inert records. None of them can run anything.

Strings, numbers, None, bytes, tuples, lists and dicts stay as they are.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from archfind.types import Storage


class Global:
    """A name that unpickling would import. `make` reads a call of it where its meaning is known."""

    __slots__ = ("at", "by_function", "called", "make", "name")

    def __init__(self, name: str, make: Callable[[object], object] | None, at: int) -> None:
        self.name = name
        self.make = make
        self.at = at  # the byte where it is first named
        self.called = -1  # the byte where it is first called
        self.by_function = False  # as any callable; otherwise as a class, to make an object of it


class PickledCall:
    """A call that unpickling would make: `fn(*args)`, then what was done to its result."""

    __slots__ = ("appended", "args", "fn", "items", "state")

    def __init__(self, fn: object, args: object) -> None:
        self.fn = fn
        self.args = args
        self.state: object = None
        self.items: list[tuple[object, object]] | None = None
        self.appended: list[object] | None = None

    @property
    def name(self) -> str:
        """The dotted name of what is called."""
        fn = self.fn
        for _ in range(20):  # a hostile chain of calls of calls has no end
            if type(fn) is not PickledCall:
                break
            fn = fn.fn
        return fn.name if type(fn) is Global else type(fn).__name__


class Group:
    """A set or frozenset; its members need not be hashable here."""

    __slots__ = ("members",)

    def __init__(self, members: list[object]) -> None:
        self.members = members


class Key:
    """A dict key that is not a plain scalar. It equals only itself."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Bytes:
    """A long run of bytes within the pickle, left where it is. `text`: it is UTF-8, as which old
    protocols write the bytes of an array."""

    __slots__ = ("length", "start", "text")

    def __init__(self, start: int, length: int, text: bool = False) -> None:
        self.start = start
        self.length = length
        self.text = text


class DType:
    """A numpy dtype; its byte order arrives by a later BUILD."""

    __slots__ = ("code", "swapped")

    def __init__(self, code: str) -> None:
        self.code = code
        self.swapped = False


class StorageRef:
    """A torch storage, named by its key in the container."""

    __slots__ = ("dtype", "key", "numel", "offset", "record", "root")

    def __init__(self, key: str, dtype: str, numel: int, offset: int = 0) -> None:
        self.key = key
        self.dtype = dtype
        self.numel = numel
        self.offset = offset  # in elements, for the views of old files
        self.root = self  # the first sight of this key, which sizes the record
        self.record: Storage | None = None


class Tensor:
    """A tensor as the pickle describes it; nothing is checked yet."""

    __slots__ = ("dtype", "offset", "size", "storage", "stride")

    def __init__(
        self, storage: object, offset: object, size: object, stride: object, dtype: object
    ) -> None:
        self.storage = storage
        self.offset = offset
        self.size = size
        self.stride = stride
        self.dtype = dtype


class Altered:
    """A storage of `stored` numbers that loading changes, by the steps of `TensorSpec.applied`."""

    __slots__ = ("steps", "storage", "stored")

    def __init__(self, storage: object, steps: tuple[str, ...], stored: object) -> None:
        self.storage = storage
        self.steps = steps
        self.stored = stored


class Quantised:
    """A storage of quantised numbers, and what they stand for: a scale and a zero point, or
    tensors of them along an axis."""

    __slots__ = ("axis", "scale", "storage", "zero_point")

    def __init__(self, storage: object, scale: object, zero_point: object, axis: int) -> None:
        self.storage = storage
        self.scale = scale
        self.zero_point = zero_point
        self.axis = axis


class UnreadStorage:
    """In place of a tensor's storage: why its values are not to be had."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Packed:
    """A tensor of a class of its own: how it shows itself, and the tensors that it is made of."""

    __slots__ = ("cls", "parts", "whole")

    def __init__(self, cls: str, whole: Tensor, parts: dict[str, Tensor]) -> None:
        self.cls = cls
        self.whole = whole
        self.parts = parts
