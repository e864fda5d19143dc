"""A module that is written for a state dict: Canonical -> Source."""

from __future__ import annotations

from archfind.frozen import frozen
from archfind.types.state_dicts import Canonical


@frozen
class Unseen:
    """Something about a network that no tensor shows, in the source that is written for it.

    `place` is what a setting names ("conv1.stride", "activation"), `value` what the source has
    there, `reason` why. `source` is file (a pickled module says it), sizes (other sizes force it),
    user (a setting), pair (known inputs and outputs agree), images (labels agree less with other
    values), likeliest (labels agree with others as well, within the error) or convention;
    `alternatives` are other values that are common.
    """

    place: str
    value: object
    source: str
    reason: str
    alternatives: tuple[object, ...] = ()


@frozen
class Source:
    """A module that was written for a state dict, as Python that imports only torch.

    `text` is the file. It loads the state dict strictly, `prefix` taken off its keys. `grade` says
    how much of its forward is known: certain (the file's own words force it), likely (a pattern
    explains every dimension, and `unseen` lists what it assumes) or partial (`questions` are
    open, and the forward raises NotImplementedError). `words` say what network it is.
    `chosen_by` is pair or images where that decided what no tensor shows, and `labels` how many
    labels of pictures are right, and of how many.
    """

    text: str
    grade: str
    words: str
    canonical: Canonical
    prefix: str = ""
    unseen: tuple[Unseen, ...] = ()
    questions: tuple[str, ...] = ()
    chosen_by: str = ""
    labels: tuple[int, int] | None = None
