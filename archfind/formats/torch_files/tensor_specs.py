"""Described tensors, checked and turned into the `TensorSpec`s of a checkpoint."""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter, gt, is_, mul

from archfind.dtypes import ITEMSIZE
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.pickles.nodes import (
    Altered,
    Bytes,
    Quantised,
    StorageRef,
    Tensor,
    UnreadStorage,
)
from archfind.frozen import replace, rows
from archfind.types import Quantiser, Storage, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_INTEGERS = frozenset((int,))
_FEW, _MANY = 16, 2048  # tensors that are tried at once
_TENSOR = attrgetter("storage", "offset", "size", "stride", "dtype")
_REF = attrgetter("numel", "dtype", "root", "offset", "record")
_nbytes = attrgetter("nbytes")
_KEPT = 4096  # pairs of shape and strides whose extent is remembered
_Extent = tuple["tuple[int, ...]", object, object, int, int]


class Specs:
    """Makes TensorSpecs. `resolve` finds a storage's bytes, `resolve_all` those of many at once;
    `base` is where the pickle starts.

    What a tensor claims and its storage can't hold goes to `danger`: loaders that believe such
    claims read beyond their buffers.
    """

    def __init__(
        self,
        path: str,
        resolve: Callable[[StorageRef], Storage],
        base: int = -1,
        resolve_all: Callable[[Sequence[StorageRef]], list[Storage]] | None = None,
    ) -> None:
        self.path = path
        self.resolve = resolve
        self.resolve_all = resolve_all
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
        ref, steps, stored, means = tensor.storage, (), dtype, None
        if type(ref) is Quantised:
            means = self._quantiser(ref, pointer)
            ref = ref.storage
        if type(ref) is Altered:
            ref, steps, stored = ref.storage, ref.steps, ref.stored
        width = ITEMSIZE.get(stored, 0)  # pyright: ignore
        if type(ref) is StorageRef:
            root = ref.root
            storage = root.record
            if storage is None:
                root.record = storage = self.resolve(root)
                self._claimed(ref)
            elif not storage.file:  # its values were given up while the pickle was read
                root.record = storage = replace(storage, file=self.path)
            offset += ref.offset
        else:
            storage = self._unstored(ref, numel * (width or 1))
            if storage.start < 0 and storage.data is None:
                return TensorSpec(dtype, size, storage, 0, stride, (), steps)  # pyright: ignore
        if numel and (offset + last + 1) * width > storage.nbytes:
            self._doubt(pointer, "reaches beyond its storage")
        return TensorSpec(dtype, size, storage, offset, stride, (), steps, means)  # pyright: ignore

    def _quantiser(self, ref: Quantised, pointer: str) -> Quantiser | None:
        """What quantised numbers stand for; None where the tensors of it aren't any."""
        scale, zero = (
            self.of(value, pointer) if type(value) is Tensor else value
            for value in (ref.scale, ref.zero_point)
        )
        return None if scale is None or zero is None else Quantiser(scale, zero, ref.axis)  # pyright: ignore

    def of_all(self, named: dict[str, Tensor]) -> dict[str, TensorSpec]:
        """The specs of tensors by their pointers."""
        pointers, tensors = list(named), list(named.values())
        specs: dict[str, TensorSpec] = {}
        at, many, alone = 0, _FEW, _FEW
        while at < len(tensors):
            some, names = tensors[at : at + many], pointers[at : at + many]
            made = self._whole(some, names)
            if made is not None:
                many, alone = min(many * 2, _MANY), _FEW
            elif many > _FEW:
                many //= 2  # to come closer to what is in the way
                continue
            else:
                some, names = tensors[at : at + alone], pointers[at : at + alone]
                made, alone = map(self.of, some, names), min(alone * 2, _MANY)
            specs.update(pair for pair in zip(names, made, strict=True) if pair[1])  # pyright: ignore
            at += len(some)
        return specs

    def _whole(self, tensors: list[Tensor], pointers: list[str]) -> list[TensorSpec] | None:
        """The specs of tensors each of which is the only one of its storage and all of it, as most
        are; None, nothing changed, where one isn't. It goes column by column, so that few steps
        are taken for each tensor."""
        refs, offsets, sizes, strides, dtypes = zip(*map(_TENSOR, tensors), strict=True)
        if set(map(type, refs)) != {StorageRef} or set(map(type, offsets)) != {int} or any(offsets):
            return None
        keys = list(zip(map(id, sizes), map(id, strides), strict=True))
        extents = list(map(self._extents.get, keys))
        if None in map(self._extents.get, set(keys)):
            return None
        sizes, _, strides, numels, lasts = zip(*extents, strict=True)
        counts, kinds, roots, begins, records = zip(*map(_REF, refs), strict=True)
        if (
            counts != numels
            or kinds != dtypes
            or any(begins)
            or any(records)
            or not all(map(is_, roots, refs))
            or not ITEMSIZE.keys() >= set(kinds)
            or len(set(map(id, refs))) < len(refs)
        ):
            return None
        storages = self.resolve_all(refs) if self.resolve_all else list(map(self.resolve, refs))
        for ref, storage in zip(refs, storages, strict=True):
            ref.record = storage
        widths = list(map(ITEMSIZE.__getitem__, kinds))
        ends = [last + 1 for last in lasts]
        longest = map(mul, map(max, numels, ends), widths)
        if any(map(gt, longest, map(_nbytes, storages))):
            for pointer, ref, end, width in zip(pointers, refs, ends, widths, strict=True):
                self._claimed(ref)
                if end * width > ref.record.nbytes:
                    self._doubt(pointer, "reaches beyond its storage")
        none, no = repeat(()), repeat(None)
        return rows(
            TensorSpec,
            zip(kinds, sizes, storages, repeat(0), strides, none, none, no, strict=False),
        )

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

    def _claimed(self, ref: StorageRef) -> None:
        """Says so where a storage is shorter than the pickle claims."""
        found, need = ref.root.record, ref.numel * ITEMSIZE.get(ref.dtype, 1)
        if found is not None and found.start >= 0 and need > found.nbytes:
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
        why = ("absent", raw.reason, 0) if type(raw) is UnreadStorage else None
        return Storage(self.path, f"#{self._absent}", -1, nbytes, why)

    def _doubt(self, pointer: str, problem: str) -> None:
        self._add(f'the tensor "{escape(pointer)}" {problem}')

    def _add(self, line: str) -> None:
        if len(self.danger) < limits.DANGER_LINES:
            self.danger.append(line)
