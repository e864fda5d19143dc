"""The 25 opcodes that torch writes for each tensor, taken in one step.

A state dict of 200,000 tensors is five million opcodes, and nearly all of them are this one run: a
regular expression finds it, and what the single opcodes would have done to stack and memo is done
at once. Where anything differs from the run, nothing is done and the machine goes on one by one.
"""

from __future__ import annotations

import re
import struct

from .nodes import Global

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .pickle_vm import Machine

_GET = rb"(h.|j....)"
_INT = rb"(K.|M..|J....)"
_PUT = rb"r(....)"
_TUPLE = rb"(\(?(?:K.|M..|J....){1,64}[\x85\x86\x87t])"
_RUN = re.compile(
    rb"\(\("
    + (_GET + _GET)  # "storage", its class
    + (rb"X(.)\0\0\0([0-9]+)" + _PUT)  # its key
    + (_GET + _INT + rb"(N?)t" + _PUT + b"Q")  # location and length: a persistent id
    + (_INT + _TUPLE + _PUT + _TUPLE + _PUT)  # offset, shape, strides
    + (rb"([\x88\x89])" + _GET + rb"\)R" + _PUT)  # requires_grad, OrderedDict()
    + (b"t" + _PUT + b"R" + _PUT),
    re.DOTALL,
)
_PUTS = struct.Struct("<7I")
_INT4 = struct.Struct("<i")
_COUNTS = {0x85: 1, 0x86: 2, 0x87: 3}
_KEPT = 4096  # distinct shapes that are remembered


class Runs:
    """Takes such runs for one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.tuples: dict[bytes, tuple[int, ...] | None] = {}

    def take(self, data: bytes, pos: int, stack: list[object]) -> int:
        """The position behind the run at `pos`, its tensor on the stack; or 0, nothing changed."""
        found = _RUN.match(data, pos)
        fn = stack[-1] if stack else None
        if found is None or type(fn) is not Global or fn.make is None:
            return 0
        (word, cls, length, key, put1, place, numel, none, put2, offset, size, put3) = found.group(
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
        )
        stride, put4, grad, hooks, put5, put6, put7 = found.group(13, 14, 15, 16, 17, 18, 19)
        shape, steps = self._tuple(size), self._tuple(stride)
        if length[0] != len(key) or shape is None or steps is None:
            return 0
        memo, machine = self.machine.memo, self.machine
        try:
            mapping = _get(memo, hooks)
            words = (_get(memo, word), _get(memo, cls), _get(memo, place))
        except KeyError:
            return 0
        if type(mapping) is not Global or mapping.make is None:
            return 0
        at = _PUTS.unpack(put1 + put2 + put3 + put4 + put5 + put6 + put7)
        if len(set(at)) != 7 or not memo.keys().isdisjoint(at):
            return 0  # a memo that is written over: rare enough to be left to the machine
        name = key.decode()
        ident = (words[0], words[1], name, words[2], _int(numel))
        if none:
            ident = (*ident, None)
        made = mapping.make(())
        args = (machine.persistent(ident), _int(offset), shape, steps, grad == b"\x88", made)
        tensor = fn.make(args)
        memo[at[0]], memo[at[1]], memo[at[2]], memo[at[3]] = name, ident, shape, steps
        memo[at[4]], memo[at[5]], memo[at[6]] = made, args, tensor
        stack[-1] = tensor
        return found.end()

    def _tuple(self, raw: bytes) -> tuple[int, ...] | None:
        if raw in self.tuples:
            return self.tuples[raw]
        made = _parsed(raw)
        if len(self.tuples) < _KEPT:
            self.tuples[raw] = made
        return made


def _parsed(raw: bytes) -> tuple[int, ...] | None:
    """A tuple of integers from its opcodes; None where its mark, count and end don't agree."""
    pos, end = int(raw[0] == 40), len(raw) - 1
    values: list[int] = []
    while pos < end:
        width = 2 if raw[pos] == 75 else 3 if raw[pos] == 77 else 5
        values.append(_int(raw[pos : pos + width]))
        pos += width
    marked = raw[0] == 40
    count = _COUNTS.get(raw[-1])
    if (marked and count is not None) or (not marked and count != len(values)):
        return None
    return tuple(values)


def _int(raw: bytes) -> int:
    if len(raw) == 2:
        return raw[1]
    return raw[1] | raw[2] << 8 if len(raw) == 3 else _INT4.unpack_from(raw, 1)[0]


def _get(memo: dict[int, object], raw: bytes) -> object:
    return memo[raw[1] if len(raw) == 2 else int.from_bytes(raw[1:], "little")]
