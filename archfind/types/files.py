"""What a file holds, by its header: path -> Checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from archfind.frozen import frozen, row
from archfind.types.shown import Shown

TYPE_CHECKING = False  # typing.TYPE_CHECKING without importing typing: `archfind guess` starts cold
if TYPE_CHECKING:
    from typing import Any

NOTHING: Mapping[str, Any] = MappingProxyType({})


@row
class Storage:
    """A run of bytes in a file. Tensors with equal storages share memory, so they are tied.

    `start` is the byte offset in `file`, or -1 where the bytes can't be mapped (a deflated zip
    member, or a tensor saved without data). There `inside` says how they are kept, in which zip
    member, and from where on: "deflate" (the offset counts inflated bytes), "torch.save" (a whole
    file of its own), "swap" (big-endian), "latin-1" (bytes written as text), "varint" (protobuf);
    `data` has bytes that the header itself holds. "absent" has in place of a member's name the
    reason why there are no values to be had.
    """

    file: str
    name: str
    start: int
    nbytes: int
    inside: tuple[str, str, int] | None = None
    data: bytes | None = None


@row
class Quantiser:
    """What a number of a quantised tensor stands for: (number - zero_point) * scale. One of each
    for the tensor, or tensors with one for each place along `axis`."""

    scale: float | TensorSpec
    zero_point: int | TensorSpec
    axis: int = -1  # of a tensor that has one for all


@row
class TensorSpec:
    """A tensor known by its header. `offset` and `stride` count elements; stride None =
    contiguous. A tensor that is kept in several parts (shards of one weight) has `pieces`, and a
    storage without bytes. `applied` is what loading does to the numbers as they are stored, in this
    order: "conj", "neg", or "from float32", a cast of what is stored as float32. `quantiser` is
    there for torch's quantised tensors ("qint8")."""

    dtype: str  # torch's own name: "float32", "bfloat16", "int64", "qint8" ...
    shape: tuple[int, ...]
    storage: Storage
    offset: int = 0
    stride: tuple[int, ...] | None = None
    pieces: tuple[Piece, ...] = ()
    applied: tuple[str, ...] = ()
    quantiser: Quantiser | None = None


@frozen
class Piece:
    """A part of a tensor, and where it goes: one offset for each dimension, or a single one into
    the flattened tensor, for a piece that is flat itself."""

    at: tuple[int, ...]
    spec: TensorSpec


@frozen
class Checkpoint(Shown):
    """A file's contents, from its header alone.

    `index`, `metadata` and `objects` are keyed by JSON Pointers (RFC 6901) without the leading
    slash: a flat state dict has keys like `layer1.0.conv1.weight`, one inside a wrapper
    `state_dict/layer1.0.conv1.weight`. `metadata` holds scalars, `objects` the class name of each
    pickled object that isn't a plain container, `foreign` every global that the pickle names,
    `danger` one line for each call that loading by unpickling would make to unexpected code.
    `container` says what wraps the tensors ({"version": 3}), `sources` has the Python source that
    the file carries, by name; neither is ever run. `versions` are those of layers, as torch notes
    them beside a state dict.
    """

    path: str
    format: str
    index: Mapping[str, TensorSpec]
    metadata: Mapping[str, object] = NOTHING
    hints: Mapping[str, object] = NOTHING
    objects: Mapping[str, str] = NOTHING
    foreign: tuple[str, ...] = ()
    danger: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    nbytes: int = 0
    container: Mapping[str, object] = NOTHING
    sources: Mapping[str, str] = NOTHING
    versions: Mapping[str, int] = NOTHING
