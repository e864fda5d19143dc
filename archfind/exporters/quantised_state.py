"""The state dict of a network that torch quantised, copied whole: its integers, what they mean, and
its packed weights, under the file's own names."""

from __future__ import annotations

import os
from typing import Any

from archfind import formats
from archfind.errors import ExportError
from archfind.escape import escape
from archfind.frozen import replace
from archfind.types import Canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import Guess


def whole_state(canonical: Canonical) -> Canonical:
    """The file's own tensors in place of the float network's that they stand for."""
    made, every = canonical.quantisation, canonical.checkpoint.index
    assert made is not None
    index = {key: every[pointer] for key, pointer in made.keys.items()}
    return replace(canonical, index=index, origin=dict(made.keys), merged={}, quantisation=None)


def write_pth(path: str | os.PathLike[str], guess: Guess, versions: Mapping[str, int]) -> int:
    """Write the state dict as torch does, and read it back; the number of its tensors. `versions`
    are those of the layers: without, torch takes packed weights for those of an older form."""
    import torch

    from archfind.building.rebuild_quantised import state_of
    from archfind.values.reader import TensorReader

    made = guess.canonical.quantisation
    assert made is not None
    state = state_of(guess, made, "")
    vars(state)["_metadata"] = {"": {"version": 1}} | {
        layer: {"version": version} for layer, version in versions.items()
    }
    torch.save(state, path)
    expected = {key: value for key, value in _flat(state) if isinstance(value, torch.Tensor)}
    written = formats.open(os.fspath(path)).index
    reader = TensorReader()
    for key, value in expected.items():
        spec = written.get(key)
        if spec is None or not _is_same(reader.read(spec, key), value):
            raise ExportError(f"read back, {escape(key)} differs from the source")
    return len(expected)


def _flat(state: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Tensors by the pointers that a reader gives them; packed ones are pairs."""
    found: list[tuple[str, Any]] = []
    for key, value in state.items():
        place = key.replace("~", "~0").replace("/", "~1")
        if isinstance(value, tuple):
            found += [(f"{place}/{n}", item) for n, item in enumerate(value)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        else:
            found.append((place, value))
    return found


def _is_same(one: Any, other: Any) -> bool:
    """Whether two tensors have the same numbers, and these mean the same."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.is_quantized and one.qscheme() != other.qscheme():
        return False
    pair = (one.int_repr(), other.int_repr()) if one.is_quantized else (one, other)
    same = pair[0].equal(pair[1]) or pair[0].isnan().any().item()
    return same and (not one.is_quantized or one.dequantize().equal(other.dequantize()))
