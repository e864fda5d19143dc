"""What an answer counts: tensors, numbers and the commonest dtype of the state dict that it is
about, or of all in the file where it is about several. Nothing else counts them."""

from __future__ import annotations

from archfind.formats.counts import numel
from archfind.frozen import frozen
from archfind.state_dicts.canonical import networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import Guess, TensorSpec

    Index = Mapping[str, TensorSpec]


_MILLIONS = 10_000  # from so many on


@frozen
class Counted:
    """`in_file` are all tensors of the file, an optimizer's and others that were set aside, too."""

    tensors: int
    parameters: int
    dtype: str | None
    in_file: int


def count_words(count: int) -> str:
    """A number of parameters as lines show it: "25.56 M", or "2,570" where millions say nothing."""
    return f"{count / 1e6:.2f} M" if count >= _MILLIONS else f"{count:,}"


def about(guess: Guess) -> list[Index]:
    """The state dicts that a guess answers for."""
    canonical = guess.canonical
    if len(guess.parts) > 1 and not guess.part:
        return [one.index for one in networks(canonical.checkpoint).values()]
    return [canonical.whole or canonical.index]


def tensor_counts(guess: Guess) -> Counted:
    """The counts that every document shows."""
    return of_tensors(about(guess), len(guess.canonical.checkpoint.index))


def of_tensors(indexes: list[Index], in_file: int) -> Counted:
    """Counts of some state dicts out of a file."""
    dtypes: dict[str, int] = {}
    parameters = 0
    for index in indexes:
        for spec in index.values():
            count = numel(spec.shape)
            parameters += count
            dtypes[spec.dtype] = dtypes.get(spec.dtype, 0) + count
    dtype = max(dtypes, key=lambda name: dtypes[name]) if dtypes else None
    return Counted(sum(map(len, indexes)), parameters, dtype, in_file)
