"""How a recurrent layer of torch.nn is called in a program."""

from __future__ import annotations

from archfind.sourcing.parts import ModulePart
from archfind.sourcing.program import Op, ProgramWeight, Ref, Unfollowed, refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_OPS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_BESIDE = ("zeros", "size", "sym_size", "unpack", "getitem")


def recurrent_called(
    part: ModulePart, ops: Sequence[Op], outputs: Sequence[str]
) -> tuple[Ref, tuple[str, ...]]:
    """Give the layer the arguments of its one operation; what it reads, and the names of what it
    gives: all steps, and the last states. Unfollowed where it starts from anything but zeros."""
    runs = [op for op in ops if op.name in _OPS]
    rest = [op for op in ops if op.name not in (*_OPS, *_BESIDE)]
    if len(runs) != 1 or rest or _OPS[runs[0].name] != part.kind:
        raise Unfollowed("a recurrent layer of another form")
    op = runs[0]
    read, start, tensors, _, layers, _, train, both, first = op.args[:9]
    zeros = {out for one in ops if one.name == "zeros" for out in one.outs}
    states = refs(start)
    if not isinstance(read, Ref) or not states or any(ref.name not in zeros for ref in states):
        raise Unfollowed("a recurrent layer starts from a state")
    keys = [one.key for one in tensors if isinstance(one, ProgramWeight)]  # pyright: ignore
    own = all(key.startswith(f"{part.path}.") for key in keys)
    alike = layers == part.arguments.get("num_layers", 1)
    if not own or not alike or both != part.arguments.get("bidirectional", False) or train:
        raise Unfollowed("a recurrent layer with other arguments")
    part.arguments["batch_first"] = bool(first)
    if op.name == "rnn_relu":
        part.arguments["nonlinearity"] = '"relu"'
    unpacked = next((one.outs for one in ops if one.name == "unpack"), op.outs)
    if len(unpacked) != len(states) + 1 or not set(outputs) <= set(unpacked):
        raise Unfollowed("a recurrent layer that gives something else")
    return read, tuple(unpacked)
