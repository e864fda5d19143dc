"""The 25 opcodes that torch writes for each tensor, hundreds of them taken in one step.

A state dict of 200,000 tensors is five million opcodes, and nearly all of them are this one run,
with a key before it: a regular expression finds them, and what the single opcodes would have left
on the stack is put there at once. What they would have put into the memo is worked out only if
something asks for it, which nothing does in an honest file. Where anything differs from the run,
nothing is done and the machine goes on one by one.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from itertools import chain, islice
from operator import attrgetter, itemgetter

from .nodes import Global, StorageRef, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .pickle_vm import Machine

_GET = rb"(h.|j....)"
_INT = rb"(K.|M..|J....)"
_PUT = rb"r(....)"
_TUPLE = rb"(\)|\(?(?:K.|M..|J....){1,64}[\x85\x86\x87t])(?:" + _PUT + rb")?"  # () has no put
_RUN = re.compile(
    # its key in the dict, and the function that it is made by; the first of a dict stands alone
    (rb"(?:X(.)\0\0\0(.{0,255}?)" + _PUT + _GET + rb")?\(\(")
    + (_GET + _GET)  # "storage", its class
    + (rb"X(.)\0\0\0([0-9]+)" + _PUT)  # the storage's key
    + (_GET + _INT + rb"(N?)t" + _PUT + b"Q")  # location and length: a persistent id
    + (_INT + _TUPLE + _TUPLE)  # offset, shape, strides
    + (rb"([\x88\x89])" + _GET + rb"\)R" + _PUT)  # requires_grad, OrderedDict()
    + (b"t" + _PUT + b"R" + _PUT),
    re.DOTALL,
)
_KEY, _WORD = 2, 5  # groups: the key in the dict, and the first of the tensor itself
_key, _dtype = itemgetter(_KEY), attrgetter("dtype")
_UINT, _INT4 = struct.Struct("<I"), struct.Struct("<i")
_COUNTS = {0x85: 1, 0x86: 2, 0x87: 3}
_KEPT = 4096  # distinct shapes that are remembered
_REBUILD = "torch._utils._rebuild_tensor_v2"  # nearly always; its meaning is that of a Tensor
_AT_ONCE = 4096  # tensors between two looks at the budgets
_LONGEST = 512  # bytes of most runs
_OPCODES, _MADE = 25, 8  # of a tensor


class Memo(dict[int, object]):
    """A memo that works out on demand what runs have put into it."""

    def __init__(self, known: dict[int, object], machine: Machine) -> None:
        super().__init__(known)
        self.machine = machine
        self.top = -1  # the highest index that a run has put to
        self.first: list[int] = []  # the lowest index of each run,
        self.at: list[int] = []  # its place in the pickle, and its tensor
        self.tensors: list[object] = []

    def __missing__(self, index: int) -> object:
        n = bisect_right(self.first, index) - 1
        if n >= 0:
            self._fill(n)
        if index in self:
            return self[index]
        raise KeyError(index)

    def most(self) -> int:
        """The count of the entries, those included that are only known to be there."""
        return len(self) + _MADE * len(self.at)

    def numbered(self) -> int:
        """The count of the entries, exactly: by it, MEMOIZE finds the next index."""
        for n in range(len(self.at)):
            self._fill(n)
        self.first, self.at, self.tensors = [], [], []
        return len(self)

    def _fill(self, n: int) -> None:
        """Puts what the single opcodes of run `n` would have, where nothing has been put since."""
        found = _RUN.match(self.machine.data, self.at[n])
        if found is None:
            return
        text, put0 = found.groups()[1:3]
        word, cls, _, key, put1, place, numel, none, put2, *rest = found.groups()[_WORD - 1 :]
        offset, size, put3, stride, put4, grad, _, put5, put6, put7 = rest
        name, shape, steps = key.decode(), _tuple(size), _tuple(stride)
        ident = (_get(self, word), _get(self, cls), name, _get(self, place), _int(numel))
        ident = (*ident, None) if none else ident
        made: dict[object, object] = {}
        args = (self.machine.persistent(ident), _int(offset), shape, steps, grad == b"\x88", made)
        entry = None if text is None else text.decode()
        values = (entry, name, ident, shape, steps, made, args, self.tensors[n])
        puts = (put0, put1, put2, put3, put4, put5, put6, put7)
        for put, value in zip(puts, values, strict=True):
            if put is not None:
                self.setdefault(_UINT.unpack(put)[0], value)


class Runs:
    """Takes such runs for one machine."""

    def __init__(self, machine: Machine, memo: Memo) -> None:
        self.machine = machine
        self.memo = memo
        self.tuples: dict[bytes, tuple[int, ...] | None] = {}
        self.ints: dict[bytes, int] = {}

    def take(self, data: bytes, pos: int, stack: list[object]) -> int:
        """The position behind the runs that begin at `pos`, keys and tensors on the stack; or 0,
        nothing changed."""
        found = _RUN.match(data, pos)
        if found is None or not stack or found[_KEY] is not None:
            return 0
        first = self._tensors(list(zip(*[found.groups()], strict=True)), [pos], [stack[-1]])
        if first is None:
            return 0
        stack[-1] = first[0]
        end, many, taken = found.end(), 4, 1
        while taken < _AT_ONCE:
            entries = _in_a_row(data, end, many)
            if not entries or not self._entries(entries, stack):
                break
            end = entries[-1].end()
            taken += len(entries)
            if len(entries) < many:
                break
            many *= 4  # so what is looked at in vain stays in proportion to what is taken
        self.machine.count(taken * _OPCODES, taken * _MADE)
        return end

    def _entries(self, found: list[re.Match[bytes]], stack: list[object]) -> bool:
        """Puts the keys and tensors on the stack; or False, nothing changed."""
        columns = list(zip(*map(re.Match.groups, found), strict=True))
        lengths, raw, _, gets = columns[: _WORD - 1]
        if bytes(map(len, raw)) != b"".join(lengths):
            return False
        try:
            texts = list(map(bytes.decode, raw))
            makers = {get: _get(self.memo, get) for get in set(gets)}
        except (UnicodeDecodeError, KeyError):
            return False
        starts = list(map(re.Match.start, found))
        values = self._tensors(columns, starts, list(map(makers.__getitem__, gets)))
        if values is None:
            return False
        stack.extend(chain.from_iterable(zip(texts, values, strict=True)))
        return True

    def _tensors(
        self, columns: list[tuple[Any, ...]], starts: list[int], makers: list[object]
    ) -> list[object] | None:
        """The tensors of runs, each made by one of `makers`; or None, nothing changed. It goes
        column by column, so that few steps are taken for each row."""
        _, _, put0, _, words, classes, lengths, keys, put1, places, numels, nones = columns[:12]
        put2, offsets, sizes, put3, strides, put4, grads, hooks, put5, put6, put7 = columns[12:]
        puts = chain.from_iterable(zip(put0, put1, put2, put3, put4, put5, put6, put7, strict=True))
        at = _indices(list(filter(None, puts)))
        memo = self.memo
        if (
            bytes(map(len, keys)) != b"".join(lengths)
            or list(at) != list(range(at[0], at[0] + len(at)))
            or not memo.top < at[0]
            or not _apart(memo, at)  # a memo that is written over is left to the machine
            or not _agree(put3, sizes)
            or not _agree(put4, strides)
        ):
            return None
        try:
            got = {raw: _get(memo, raw) for raw in {*words, *classes, *places, *hooks}}
        except KeyError:
            return None
        if not all(_is_ordered_dict(got[raw]) for raw in set(hooks)):
            return None
        functions = dict(zip(map(id, makers), makers, strict=True)).values()  # each of them once
        if not all(type(fn) is Global and fn.make is not None for fn in functions):
            return None
        shapes, steps = self._known_tuples(sizes), self._known_tuples(strides)
        if None in shapes or None in steps:
            return None
        of, ints, machine = got.__getitem__, self._known_ints, self.machine
        names, kinds, counts = list(map(bytes.decode, keys)), list(map(of, classes)), ints(numels)
        refs = None
        if machine.storages is not None and all(got[raw] == "storage" for raw in set(words)):
            refs = machine.storages(names, kinds, counts)
        if refs is None:
            ids = zip(map(of, words), kinds, names, map(of, places), counts, strict=True)
            ends = [(None,) if none else () for none in nones]
            refs = [machine.persistent(one + end) for one, end in zip(ids, ends, strict=True)]
        starts_at = ints(offsets)
        plain = all(fn.name == _REBUILD for fn in functions)  # pyright: ignore
        if plain and set(map(type, refs)) == {StorageRef}:
            values: list[object] = list(
                map(Tensor, refs, starts_at, shapes, steps, map(_dtype, refs))
            )
        else:
            flags = [grad == b"\x88" for grad in grads]
            hooks_of = [{} for _ in refs]
            args = zip(refs, starts_at, shapes, steps, flags, hooks_of, strict=True)
            values = [fn.make(one) for fn, one in zip(makers, args, strict=True)]  # pyright: ignore
        memo.tensors.extend(values)
        memo.first.extend(_indices(put1 if put0[0] is None else put0))
        memo.at.extend(starts)
        memo.top = at[-1]
        return values

    def _known_tuples(self, column: tuple[bytes, ...]) -> list[tuple[int, ...] | None]:
        if len(self.tuples) > _KEPT:
            self.tuples.clear()
        for raw in set(column).difference(self.tuples):
            self.tuples[raw] = _tuple(raw)
        return list(map(self.tuples.__getitem__, column))

    def _known_ints(self, column: tuple[bytes, ...]) -> list[int]:
        if len(self.ints) > _KEPT:
            self.ints.clear()
        for raw in set(column).difference(self.ints):
            self.ints[raw] = _int(raw)
        return list(map(self.ints.__getitem__, column))


def _in_a_row(data: bytes, pos: int, most: int) -> list[re.Match[bytes]]:
    """Up to `most` entries with their keys, the first at `pos` and each where the last ends."""
    found = list(islice(_RUN.finditer(data, pos, pos + most * _LONGEST), most))
    starts, ends = list(map(re.Match.start, found)), list(map(re.Match.end, found))
    if starts == [pos, *ends[:-1]] and None not in map(_key, found):
        return found
    count = 0
    for one in found:
        if one.start() != pos or one[_KEY] is None:
            break
        pos = one.end()
        count += 1
    return found[:count]


def _apart(memo: Memo, indices: tuple[int, ...]) -> bool:
    """Whether the memo has none of these consecutive indices; looks at the fewer of the two."""
    if len(memo) < len(indices):
        return not any(map(range(indices[0], indices[-1] + 1).__contains__, memo))
    return memo.keys().isdisjoint(indices)


def _agree(puts: tuple[bytes | None, ...], tuples: tuple[bytes, ...]) -> bool:
    """Whether only empty tuples have no put."""
    if None not in puts and b")" not in tuples:
        return True
    return [put is None for put in puts] == [raw == b")" for raw in tuples]


def _is_ordered_dict(value: object) -> bool:
    return type(value) is Global and value.name == "collections.OrderedDict"


def _indices(puts: list[bytes] | tuple[bytes, ...]) -> tuple[int, ...]:
    return struct.unpack(f"<{len(puts)}I", b"".join(puts))


def _tuple(raw: bytes) -> tuple[int, ...] | None:
    """A tuple of integers from its opcodes; None where its mark, count and end don't agree."""
    if raw == b")":
        return ()
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
    return memo[raw[1] if len(raw) == 2 else _UINT.unpack_from(raw, 1)[0]]
