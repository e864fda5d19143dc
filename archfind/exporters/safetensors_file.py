"""Pieces -> a .safetensors file: a length, a JSON header, then the bytes in the header's order."""

from __future__ import annotations

import json

from archfind.dtypes import ITEMSIZE
from archfind.errors import ExportError
from archfind.escape import escape
from archfind.exporters.output import NewFile
from archfind.formats.safetensors import DTYPES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archfind.exporters.pieces import TensorToWrite

# what safetensors' own readers know; the rest of its names came with later versions
_NAMES = {ours: name for name, ours in DTYPES.items() if name != "C128"}


def write_safetensors(
    path: str, pieces: Sequence[TensorToWrite], metadata: Mapping[str, str]
) -> None:
    """Tied tensors are written once for each key: the format has no sharing. ExportError for a
    tensor that the format has no name for."""
    # The widest first, each aligned to its width, as the format's own writer has it.
    ordered = sorted(pieces, key=lambda piece: -ITEMSIZE[piece.dtype])
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for piece in ordered:
        name = _NAMES.get(piece.dtype)
        if name is None:
            raise ExportError(f"safetensors has no {piece.dtype}, which {escape(piece.key)} is")
        if piece.key == "__metadata__":
            raise ExportError("safetensors keeps the key __metadata__ for itself")
        start, end = end, end + piece.nbytes
        shape = list(piece.shape)
        header[piece.key] = {"dtype": name, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with NewFile(path) as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for piece in ordered:
            out.piece(piece)
