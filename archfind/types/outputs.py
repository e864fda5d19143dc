"""What is built and written: Guess -> Built -> Exported."""

from __future__ import annotations

from collections.abc import Mapping

from archfind.frozen import frozen
from archfind.types.answers import Guess, Match
from archfind.types.files import NOTHING
from archfind.types.shown import Shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torch import nn
else:
    from archfind.types.lazy import nn


@frozen
class Output:
    """What is to be written where: `path` tells the format by its suffix. `dtype` casts floats
    ("fp16", "bf16", "fp32") and `max_shard_size`, in bytes, makes several files of what is copied
    between .pth and .safetensors; `opset`, `half` (float16 inside) and `keep_unchecked` are for
    .onnx. `force` replaces what exists; more than 32 times the file's bytes are only written with
    `allow_expansion`. `inputs` are shapes that a class of a user's code runs on ("1x3x64x64")."""

    path: str
    force: bool = False
    opset: int | None = None
    keep_unchecked: bool = False
    dtype: str = ""
    max_shard_size: int = 0
    half: bool = False
    allow_expansion: bool = False
    inputs: tuple[str, ...] = ()


@frozen
class Built:
    """A live module in eval mode, with the weights loaded strictly; `loaded` of `tensors` came
    from the file, the rest are derived buffers that the library made."""

    guess: Guess
    match: Match
    module: nn.Module
    loaded: int
    tensors: int

    def odd_tables(self) -> list[str]:
        """Derived tensors of the file that have another shape in the module."""
        own, index = self.module.state_dict(), self.guess.canonical.index
        both = (k for k in self.match.tolerated if k in own and k in index)
        return [key for key in both if tuple(own[key].shape) != index[key].shape]


@frozen
class Exported(Shown):
    """A file that was written and checked. `max_abs_diff` compares its outputs with the
    module's."""

    built: Built | None
    path: str
    format: str
    sha256: str
    max_abs_diff: float
    notes: Mapping[str, str] = NOTHING
