"""Described tensors, checked and turned into the `TensorSpec`s of a checkpoint."""

from __future__ import annotations

from archfind.types import Storage, TensorSpec

from . import limits
from .dtypes import ITEMSIZE
from .escape import escape
from .nodes import Bytes, StorageRef, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_INTEGERS = frozenset((int,))
_KEPT = 4096  # pairs of shape and strides whose extent is remembered
_Extent = tuple["tuple[int, ...]", object, object, int, int]


class Specs:
    """Makes TensorSpecs. `resolve` finds a storage's bytes, `base` is where the pickle starts.

    What a tensor claims and its storage can't hold goes to `danger`: loaders that believe such
    claims read beyond their buffers.
    """

    def __init__(self, path: str, resolve: Callable[[StorageRef], Storage], base: int = -1) -> None:
        self.path = path
        self.resolve = resolve
        self.base = base
        self.danger: list[str] = []
        self._absent = 0
        self._extents: dict[tuple[int, int], _Extent] = {}

    def of(self, tensor: Tensor, pointer: str) -> TensorSpec | None:
        """The spec of the tensor at `pointer`, or None where it has no shape at all."""
        known = self._extents.get((id(tensor.size), id(tensor.stride)))
        if known is None:
            known = self._extent(tensor, pointer)
            if known is None:
                return None
        size, _, stride, numel, last = known
        dtype = tensor.dtype
        if type(dtype) is not str:
            dtype = "float32"
        if numel < 0:
            return TensorSpec(dtype, size, self._unstored(None, 0))
        offset = tensor.offset
        if type(offset) is not int or offset < 0:
            self._doubt(pointer, "starts before its storage")
            offset = 0
        ref = tensor.storage
        width = ITEMSIZE.get(dtype, 0)
        if type(ref) is StorageRef:
            root = ref.root
            storage = root.record
            if storage is None:
                root.record = storage = self.resolve(root)
                if storage.start >= 0 and ref.numel * ITEMSIZE.get(ref.dtype, 1) > storage.nbytes:
                    self._overclaimed(ref, storage)
            offset += ref.offset
        else:
            storage = self._unstored(ref, numel * (width or 1))
            if storage.start < 0 and storage.data is None:
                return TensorSpec(dtype, size, storage, 0, stride)  # pyright: ignore
        if numel and (offset + last + 1) * width > storage.nbytes:
            self._doubt(pointer, "reaches beyond its storage")
        return TensorSpec(dtype, size, storage, offset, stride)  # pyright: ignore

    def of_all(self, named: dict[str, Tensor]) -> dict[str, TensorSpec]:
        """The specs of tensors by their pointers. The most common tensor, the only one of its
        storage and all of it, takes few steps here; any other is left to `of`."""
        known, resolve = self._extents, self.resolve
        specs: dict[str, TensorSpec] = {}
        for pointer, tensor in named.items():
            extent = known.get((id(tensor.size), id(tensor.stride)))
            ref = tensor.storage
            if (
                extent is not None
                and tensor.offset == 0
                and type(ref) is StorageRef
                and ref.record is None
                and ref.dtype == tensor.dtype
                and ref.numel == extent[3] > extent[4] >= -1
                and ref.root is ref
                and ref.offset == 0
                and ref.dtype in ITEMSIZE
            ):
                ref.record = storage = resolve(ref)
                if ref.numel * ITEMSIZE[ref.dtype] <= storage.nbytes:
                    specs[pointer] = TensorSpec(ref.dtype, extent[0], storage, 0, extent[2])  # pyright: ignore
                    continue
                ref.record = None  # `of` says what is wrong
            spec = self.of(tensor, pointer)
            if spec is not None:
                specs[pointer] = spec
        return specs

    def _extent(self, tensor: Tensor, pointer: str) -> _Extent | None:
        """A tensor's shape, its strides as given and as needed, its number of elements (-1 where
        the shape is impossible) and the offset of the last one; None where it has no shape."""
        size = tensor.size
        if type(size) is not tuple:
            if type(size) is not list or len(size) > 1000:
                self._doubt(pointer, "has no shape")
                return None
            size = tuple(size)
        if len(size) > limits.DIMENSIONS:
            self._doubt(pointer, f"has {len(size):,} dimensions")
            return None
        if not _INTEGERS.issuperset(map(type, size)):  # True is not one
            self._doubt(pointer, "has a shape that is not made of integers")
            return None
        stride = tensor.stride
        if type(stride) is not tuple or len(stride) != len(size):
            stride = self._odd_stride(size, stride, pointer)
        numel, last, plain = 1, 0, True  # last: the offset of the last element
        for i in range(len(size) - 1, -1, -1):
            dim = size[i]
            if stride is not None and dim != 1:
                step = stride[i]
                if type(step) is not int or step < 0:
                    stride = self._odd_stride(size, step, pointer)
                else:
                    plain = plain and step == numel
                    last += (dim - 1) * step
            numel *= dim
            if not 0 <= dim < limits.DIMENSION:
                self._doubt(pointer, "has an impossible shape")
                return size, tensor.stride, None, -1, -1
        if plain or not numel:
            stride, last = None, numel - 1
        elif stride is not None and not (all(type(step) is int and step >= 0 for step in stride)):
            # what a dimension of one element steps by doesn't matter
            stride = tuple(0 if size[i] == 1 else stride[i] for i in range(len(size)))
        if not self.danger and len(self._extents) < _KEPT and size is tensor.size:
            # both are kept alive here, so that no other object gets their ids
            self._extents[id(size), id(tensor.stride)] = (size, tensor.stride, stride, numel, last)
        return size, tensor.stride, stride, numel, last

    def _odd_stride(
        self, size: tuple[object, ...], stride: object, pointer: str
    ) -> tuple[object, ...] | None:
        """Strides in another form than torch's, or None where they are of no use."""
        if type(stride) is list and len(stride) == len(size):
            return tuple(stride)
        if stride is not None:
            self._doubt(pointer, "has strides that don't fit its shape")
        return None

    def _overclaimed(self, ref: StorageRef, found: Storage) -> None:
        need = ref.numel * ITEMSIZE.get(ref.dtype, 1)
        self._add(f'the storage "{escape(ref.key)}" claims {need:,} bytes of {found.nbytes:,}')

    def _unstored(self, raw: object, nbytes: int) -> Storage:
        if type(raw) is Bytes and self.base >= 0:
            at, length = self.base + raw.start, raw.length
            if raw.text:
                inside = ("latin-1", "", at)
                return Storage(self.path, f"@{raw.start}", -1, nbytes, inside)
            return Storage(self.path, f"@{raw.start}", at, length)
        if type(raw) is str:  # Python 2's bytes, which happened to be a text
            raw = raw.encode("utf-8", "surrogatepass")
        if type(raw) is bytes:
            self._absent += 1
            return Storage(self.path, f"#{self._absent}", -1, len(raw), None, raw)
        self._absent += 1  # a name of its own, so that two of them don't look tied
        return Storage(self.path, f"#{self._absent}", -1, nbytes)

    def _doubt(self, pointer: str, problem: str) -> None:
        self._add(f'the tensor "{escape(pointer)}" {problem}')

    def _add(self, line: str) -> None:
        if len(self.danger) < limits.DANGER_LINES:
            self.danger.append(line)
