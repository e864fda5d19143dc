"""The program that a file holds as data: operations on tensors, in the order in which they run."""

from __future__ import annotations

from archfind.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Unfollowed(Exception):
    """Something in a program that isn't known: its module is written by patterns instead."""


@frozen
class Ref:
    """What an operation gives, or an input, by its name."""

    name: str


@frozen
class ProgramWeight:
    """A tensor of the state dict, by its key."""

    key: str


@frozen
class Word:
    """A word of torch's own, as Python: torch.float32."""

    text: str


@frozen
class Op:
    """One call of an operation, by the name that ATen has for it, in the modules of `stack`: their
    paths from the top, each with the number of its call. `layer`: the innermost of these is a layer
    of torch.nn, which is called as a whole. `multiple`: what it gives is unpacked."""

    name: str
    args: tuple[object, ...]
    kwargs: tuple[tuple[str, object], ...]
    outs: tuple[str, ...]
    stack: tuple[tuple[str, int], ...]
    multiple: bool = False


@frozen
class FileProgram:
    """`inputs` and `outputs` are those of the whole; `classes` has the class of each module that
    the file names, by its path."""

    inputs: tuple[str, ...]
    ops: tuple[Op, ...]
    outputs: object
    classes: Mapping[str, str]


def refs(value: object) -> list[Ref]:
    """The references in an argument, those in lists too."""
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, list | tuple):
        return [ref for item in value for ref in refs(item)]  # pyright: ignore
    return []


def used(op: Op) -> list[Ref]:
    """The references in an operation's arguments, in their order."""
    return [ref for value in (*op.args, *(v for _, v in op.kwargs)) for ref in refs(value)]
