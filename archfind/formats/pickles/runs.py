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

from archfind.formats.pickles.nodes import Global, StorageRef, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from archfind.formats.pickles.machine import Machine

_GET = rb"(?:h.|j....)"
_INT = rb"(?:K.|M..|J....)"
_PUT = rb"r(....)"
_TUPLE = (  # of one, of two, of three; empty; of more
    (rb"(?:%b(?:\x85|%b(?:\x86|%b\x87))" % (_INT, _INT, _INT)) + rb"|\)|\(%b{1,64}+t)" % _INT
)
# Each group is what tends to be the same in many tensors, or a put.
_RUN = re.compile(
    # its key in the dict, and the function that it is made by; the first of a dict stands alone
    (rb"(?:X(.)\0\0\0([^\0]{0,255})%b(?=[hj]))?" % _PUT)
    + (rb"(%b?\(\(%b%b)" % (_GET, _GET, _GET))  # "storage", its class
    + (rb"X(.)\0\0\0([0-9]+)" + _PUT)  # the storage's key
    + (rb"(%b%bN?)t%bQ" % (_GET, _INT, _PUT))  # location and length: a persistent id
    + (rb"(%b%b)(?:%b)?(%b)(?:%b)?" % (_INT, _TUPLE, _PUT, _TUPLE, _PUT))  # offset, shape; strides
    + (rb"([\x88\x89]%b)\)R%bt%bR%b" % (_GET, _PUT, _PUT, _PUT)),  # requires_grad, OrderedDict()
    re.DOTALL,
)
_KEY = 2  # the group of the key in the dict
_key, _dtype = itemgetter(_KEY), attrgetter("dtype")
_TRUE, _MARK, _EMPTY = 0x88, 0x28, 0x29
_WIDTHS = {75: 2, 77: 3, 74: 5, 104: 2, 106: 5}  # bytes of K, M and J, h and j
_UINT, _INT4 = struct.Struct("<I"), struct.Struct("<i")
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
        _, text, put0, head, _, key, put1, where, put2, sizes, put3, strides, *rest = found.groups()
        put4, flag, put5, put6, put7 = rest
        _, word, cls = _head(head)
        place, numel, none = _where(where)
        offset, shape = _offset_and_shape(sizes)
        name, steps, grad = key.decode(), _tuple(strides), flag[0] == _TRUE
        ident = (_get(self, word), _get(self, cls), name, _get(self, place), numel, *none)
        made: dict[object, object] = {}
        args = (self.machine.persistent(ident), offset, shape, steps, grad, made)
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
        self.known: dict[Callable[[bytes], Any], dict[bytes, Any]] = {}

    def take(self, data: bytes, pos: int, stack: list[object]) -> int:
        """The position behind the runs that begin at `pos`, keys and tensors on the stack; or 0,
        nothing changed."""
        found = _RUN.match(data, pos)
        if found is None or not stack or found[_KEY] is not None:
            return 0
        first = self._tensors(list(zip(found.groups(), strict=True)), [pos], stack[-1])
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
        lengths, raw = columns[:_KEY]
        if bytes(map(len, raw)) != b"".join(lengths):
            return False
        try:
            texts = list(map(bytes.decode, raw))
        except UnicodeDecodeError:
            return False
        values = self._tensors(columns, list(map(re.Match.start, found)), None)
        if values is None:
            return False
        stack.extend(chain.from_iterable(zip(texts, values, strict=True)))
        return True

    def _tensors(
        self, columns: list[tuple[Any, ...]], starts: list[int], maker: object
    ) -> list[object] | None:
        """The tensors of runs, made by `maker` or else by what each run names; or None, nothing
        changed. It goes column by column, so that few steps are taken for each row."""
        _, _, put0, heads, lengths, keys, put1, wheres, put2, sizes, put3, strides = columns[:12]
        put4, flags, put5, put6, put7 = columns[12:]
        puts = chain.from_iterable(zip(put0, put1, put2, put3, put4, put5, put6, put7, strict=True))
        at = _indices(list(filter(None, puts)))
        memo = self.memo
        if (
            bytes(map(len, keys)) != b"".join(lengths)
            or at != tuple(range(at[0], at[0] + len(at)))
            or not memo.top < at[0]
            or not _apart(memo, at)  # a memo that is written over is left to the machine
            or not _agree(put3, sizes)
            or not _agree(put4, strides)
        ):
            return None
        try:
            made_by = {raw: self._made_by(raw, maker) for raw in set(heads)}
            hooks = {raw: _get(memo, raw[1:]) for raw in set(flags)}
            stored = {raw: self._stored(raw) for raw in set(wheres)}
        except KeyError:
            return None
        if not all(map(_is_ordered_dict, hooks.values())):
            return None
        if not all(type(fn) is Global and fn.make is not None for fn, _, _ in made_by.values()):
            return None
        offsets, shapes = zip(*self._each(_offset_and_shape, sizes), strict=True)
        steps = self._each(_tuple, strides)
        names = list(map(bytes.decode, keys))
        makers, words, kinds = zip(*map(made_by.__getitem__, heads), strict=True)
        places, counts, nones = zip(*map(stored.__getitem__, wheres), strict=True)
        machine, refs = self.machine, None
        plain = all(w == "storage" for _, w, _ in made_by.values()) and "meta" not in places
        if machine.storages is not None and plain:
            refs = machine.storages(names, list(kinds), list(counts))
        if refs is None:
            ids = zip(words, kinds, names, places, counts, strict=True)
            refs = [machine.persistent(one + end) for one, end in zip(ids, nones, strict=True)]
        if set(map(type, refs)) == {StorageRef} and all(
            fn.name == _REBUILD  # pyright: ignore
            for fn, _, _ in made_by.values()
        ):
            values: list[object] = list(
                map(Tensor, refs, offsets, shapes, steps, map(_dtype, refs))
            )
        else:
            args = zip(
                *(refs, offsets, shapes, steps),
                *([flag[0] == _TRUE for flag in flags], [{} for _ in refs]),
                strict=True,
            )
            values = [fn.make(one) for fn, one in zip(makers, args, strict=True)]  # pyright: ignore
        memo.tensors.extend(values)
        memo.first.extend(_indices(put1 if put0[0] is None else put0))
        memo.at.extend(starts)
        memo.top = at[-1]
        return values

    def _made_by(self, raw: bytes, maker: object) -> tuple[object, object, object]:
        """The function, the word and the class that a head names. Where a maker is given, the head
        has none of its own, and the other way round: or else KeyError."""
        named, word, cls = _head(raw)
        if (named is None) == (maker is None):
            raise KeyError
        memo = self.memo
        return maker if named is None else _get(memo, named), _get(memo, word), _get(memo, cls)

    def _stored(self, raw: bytes) -> tuple[object, int, tuple[None, ...]]:
        place, numel, none = _where(raw)
        return _get(self.memo, place), numel, none

    def _each(self, read: Callable[[bytes], Any], column: tuple[bytes, ...]) -> list[Any]:
        """What each of these bytes means; what is equal becomes one object."""
        known = self.known.setdefault(read, {})
        if len(known) > _KEPT:
            known.clear()
        for raw in set(column).difference(known):
            known[raw] = read(raw)
        return list(map(known.__getitem__, column))


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
    if None not in puts and all(raw[-1] != _EMPTY for raw in set(tuples)):
        return True
    return [put is None for put in puts] == [raw[-1] == _EMPTY for raw in tuples]


def _is_ordered_dict(value: object) -> bool:
    return type(value) is Global and value.name == "collections.OrderedDict"


def _indices(puts: list[bytes] | tuple[bytes, ...]) -> tuple[int, ...]:
    return struct.unpack(f"<{len(puts)}I", b"".join(puts))


def _head(raw: bytes) -> tuple[bytes | None, bytes, bytes]:
    """The gets of the function, if there is one, of the word and of the class."""
    at = raw[0] != _MARK and _width(raw, 0)
    word = at + 2
    cls = word + _width(raw, word)
    return raw[:at] or None, raw[word:cls], raw[cls:]


def _where(raw: bytes) -> tuple[bytes, int, tuple[None, ...]]:
    """The get of the location, the number of elements, and the None that follows in old files."""
    at = _width(raw, 0)
    end = at + _width(raw, at)
    return raw[:at], _int(raw[at:end]), (None,) * (len(raw) - end)


def _offset_and_shape(raw: bytes) -> tuple[int, tuple[int, ...]]:
    at = _width(raw, 0)
    return _int(raw[:at]), _tuple(raw[at:])


def _tuple(raw: bytes) -> tuple[int, ...]:
    """A tuple of integers from its opcodes."""
    at, end = int(raw[0] == _MARK), len(raw) - 1
    values: list[int] = []
    while at < end:
        width = _width(raw, at)
        values.append(_int(raw[at : at + width]))
        at += width
    return tuple(values)


def _width(raw: bytes, at: int) -> int:
    """The bytes of the get or the integer at `at`."""
    return _WIDTHS[raw[at]]


def _int(raw: bytes) -> int:
    if len(raw) == 2:
        return raw[1]
    return raw[1] | raw[2] << 8 if len(raw) == 3 else _INT4.unpack_from(raw, 1)[0]


def _get(memo: dict[int, object], raw: bytes) -> object:
    return memo[raw[1] if len(raw) == 2 else _UINT.unpack_from(raw, 1)[0]]
