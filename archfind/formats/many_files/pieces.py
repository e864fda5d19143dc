"""Tensors made of others: what several ranks or shards hold of one weight."""

from __future__ import annotations

from math import prod

from archfind.dtypes import ITEMSIZE
from archfind.frozen import replace
from archfind.types import Piece, Storage, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def tensor_of_pieces(
    name: str, dtype: str, shape: tuple[int, ...], pieces: Sequence[Piece], file: str
) -> TensorSpec:
    """A tensor of `shape` that the pieces fill."""
    nbytes = prod(shape) * ITEMSIZE.get(dtype, 0)
    return TensorSpec(
        dtype, shape, Storage(file, f"{name} in pieces", -1, nbytes), pieces=tuple(pieces)
    )


def joined_along(name: str, specs: Sequence[TensorSpec], dim: int) -> TensorSpec:
    """The specs one behind the other along `dim`, as torch.cat would put them."""
    first = specs[0]
    if len(specs) == 1:
        return first
    pieces: list[Piece] = []
    at = 0
    for spec in specs:
        offsets = [0] * len(spec.shape)
        offsets[dim] = at
        pieces.append(Piece(tuple(offsets), spec))
        at += spec.shape[dim]
    shape = (*first.shape[:dim], at, *first.shape[dim + 1 :])
    return tensor_of_pieces(name, first.dtype, shape, pieces, first.storage.file)


def joinable(specs: Sequence[TensorSpec], dim: int) -> bool:
    """Whether the specs agree in all but the size along `dim`."""
    first = specs[0]
    return all(
        len(spec.shape) == len(first.shape) > dim
        and spec.dtype == first.dtype
        and spec.shape[:dim] == first.shape[:dim]
        and spec.shape[dim + 1 :] == first.shape[dim + 1 :]
        for spec in specs
    )


def part(spec: TensorSpec, start: int, length: int) -> TensorSpec:
    """`length` rows of a contiguous tensor from `start`: a narrower view of the same storage."""
    row = prod(spec.shape[1:])
    offset = spec.offset + start * (spec.stride[0] if spec.stride else row)
    return replace(spec, shape=(length, *spec.shape[1:]), offset=offset)


def absent(name: str, dtype: str, shape: tuple[int, ...], file: str) -> TensorSpec:
    """A tensor whose shape is known and whose data is elsewhere."""
    return TensorSpec(dtype, shape, Storage(file, f"{name} elsewhere", -1, 0))
