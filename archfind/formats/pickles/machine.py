"""A pickle read as data: every opcode of protocols 0 to 5, and nothing is imported or called.

A GLOBAL opcode makes a `Global`, which is its name; a REDUCE makes a `Call`, which is a record of
what unpickling would call. The few calls whose meaning is known (`torch._utils._rebuild_tensor_v2`)
are read by functions of ours, looked up by name in a closed table. The loop here has the opcodes
that make up 99 % of a state dict, the commonest first; the others are in calls.py,
containers.py and values.py.
"""

from __future__ import annotations

import struct
from itertools import repeat

from archfind.errors import LimitExceeded, NotACheckpoint, Truncated
from archfind.formats import limits
from archfind.formats.pickles.nodes import Bytes, Global, PickledCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from archfind.formats.report import PickleWork

    # what `load` gives for the ids of several storages (names, classes, counts), or None
    Storages = Callable[[list[str], list[object], list[int]], "list[object] | None"]

_UINT = struct.Struct("<I").unpack_from
_INT = struct.Struct("<i").unpack_from
_SLICE = 1 << 16  # opcodes between two looks at the budgets
LONG = 1 << 20  # bytes of a pickle from which on whole runs of opcodes are looked for


_PLAIN = frozenset((str, int, float, bool, bytes, type(None), Global))


def _call_into(fn: object, args: object) -> None:
    from archfind.formats.pickles.tensor_changes import call_into

    call_into(fn, args)


class Short(Exception):
    """The bytes at hand end within an opcode."""


class Machine:
    """Reads one pickle, or several in a row, from `data`.

    `calls` reads calls by name, `load` reads persistent ids, and `more`, where given, fetches a
    longer copy of `data` (the same bytes and then some) when it ends too early. `storages` is a
    short cut for many ids at once.
    """

    def __init__(
        self,
        path: str,
        where: str,
        data: bytes,
        calls: Mapping[str, Callable[[object], object]],
        load: Callable[[object], object] | None = None,
        more: Callable[[int], bytes | None] | None = None,
        storages: Storages | None = None,
    ) -> None:
        self.path = path
        self.where = where
        self.data = data
        self.calls = calls
        self.load = load
        self.more = more
        self.storages = storages
        self.pos = 0
        self.made = 0
        self.ops = 0
        self.work: PickleWork | None = None
        self.globals: dict[str, Global] = {}
        self.memo: dict[int, object] = {}
        self.attributes: list[dict[object, object]] = []  # of ordered dicts
        self.stack: list[object] = []
        self.below: list[list[object]] = []  # the stacks under each open mark

    def run(self) -> object:
        """The next pickle's value; `pos` is then behind its STOP."""
        begin, made = self.pos, self.made
        try:
            return self._whole()
        finally:
            if self.work is not None:
                self.work.pickled += self.pos - begin
                self.work.objects += self.made - made

    def _whole(self) -> object:
        self.memo, self.stack, self.below = {}, [], []
        while True:
            try:
                return self._run()
            except Short:
                short = True
            except (IndexError, struct.error):
                # reading past the end, or a value that isn't on the stack
                short = self.pos + 9 > len(self.data)
            except (KeyError, UnicodeDecodeError):
                short = False
            longer = self.more(len(self.data)) if short and self.more else None
            if longer is not None:
                self.data = longer
            elif short:
                raise Truncated(
                    f"cut off: {self.where} ends in the middle "
                    f"(after {len(self.data):,} bytes). Download it again.",
                    self.path,
                )
            else:
                raise NotACheckpoint(
                    f"damaged: {self.where} makes no sense at byte {self.pos}", self.path
                )

    def _run(self) -> object:
        # pos moves only when an opcode is done, so that a read past the end can be tried again
        take = self._runs()
        data, pos, memo, stack, below = self.data, self.pos, self.memo, self.stack, self.below
        rare = self._rare_opcodes()
        made = 0
        try:
            while True:
                for _ in repeat(None, _SLICE):
                    op = data[pos]
                    if op == 75:  # BININT1
                        stack.append(data[pos + 1])
                        pos += 2
                    elif op == 104:  # BINGET
                        stack.append(memo[data[pos + 1]])
                        pos += 2
                    elif op == 40:  # MARK
                        if take is not None and data[pos + 1] == 40:
                            end = take(data, pos, stack)
                            if end:
                                pos = end
                                continue
                        below.append(stack)
                        stack = []
                        pos += 1
                    elif op == 88:  # BINUNICODE
                        end = pos + 5 + _UINT(data, pos + 1)[0]
                        if end > len(data):
                            self._check_text(end - pos - 5)
                        try:
                            if end - pos > limits.TEXT_BYTES:
                                stack.append(Bytes(pos + 5, end - pos - 5, True))
                            else:
                                stack.append(data[pos + 5 : end].decode())
                        except UnicodeDecodeError:
                            stack.append(data[pos + 5 : end].decode("utf-8", "surrogatepass"))
                        made += 1
                        pos = end
                        if data[pos] == 114:  # a LONG_BINPUT nearly always follows
                            memo[_UINT(data, pos + 1)[0]] = stack[-1]
                            pos += 5
                    elif op == 116:  # TUPLE
                        top = tuple(stack)
                        stack = below.pop()
                        stack.append(top)
                        made += 1
                        pos += 1
                        if data[pos] == 114:
                            memo[_UINT(data, pos + 1)[0]] = top
                            pos += 5
                    elif op == 82:  # REDUCE
                        args = stack.pop()
                        fn = stack[-1]
                        made += 1
                        pos += 1
                        if type(fn) is Global and fn.make is not None:
                            stack[-1] = fn.make(args)
                        else:
                            if type(fn) is Global and not fn.by_function:
                                fn.by_function = True
                                fn.called = pos - 1 if fn.called < 0 else fn.called
                            if type(args) is tuple and not _PLAIN.issuperset(map(type, args)):
                                _call_into(fn, args)
                            stack[-1] = PickledCall(fn, args)
                        if data[pos] == 114:
                            memo[_UINT(data, pos + 1)[0]] = stack[-1]
                            pos += 5
                    elif op == 114:  # LONG_BINPUT
                        memo[_UINT(data, pos + 1)[0]] = stack[-1]
                        pos += 5
                    elif op == 77:  # BININT2
                        stack.append(data[pos + 1] | data[pos + 2] << 8)
                        pos += 3
                    elif op == 137:  # NEWFALSE
                        stack.append(False)
                        pos += 1
                    elif op == 41:  # EMPTY_TUPLE
                        stack.append(())
                        pos += 1
                    elif op == 81:  # BINPERSID
                        stack[-1] = self.persistent(stack[-1])
                        made += 1
                        pos += 1
                    elif op == 133:  # TUPLE1
                        stack[-1] = (stack[-1],)
                        made += 1
                        pos += 1
                    elif op == 134:  # TUPLE2
                        top = stack.pop()
                        stack[-1] = (stack[-1], top)
                        made += 1
                        pos += 1
                    elif op == 106:  # LONG_BINGET
                        stack.append(memo[_UINT(data, pos + 1)[0]])
                        pos += 5
                    elif op == 113:  # BINPUT
                        memo[data[pos + 1]] = stack[-1]
                        pos += 2
                    elif op == 148:  # MEMOIZE
                        at = len(memo) if type(memo) is dict else memo.numbered()  # pyright: ignore
                        memo[at] = stack[-1]
                        pos += 1
                    elif op == 140:  # SHORT_BINUNICODE
                        end = pos + 2 + data[pos + 1]
                        if end > len(data):
                            raise Short
                        stack.append(data[pos + 2 : end].decode("utf-8", "surrogatepass"))
                        made += 1
                        pos = end
                    elif op == 74:  # BININT
                        stack.append(_INT(data, pos + 1)[0])
                        pos += 5
                    elif op == 135:  # TUPLE3
                        top = stack.pop()
                        second = stack.pop()
                        stack[-1] = (stack[-1], second, top)
                        made += 1
                        pos += 1
                    elif op == 136:  # NEWTRUE
                        stack.append(True)
                        pos += 1
                    elif op == 78:  # NONE
                        stack.append(None)
                        pos += 1
                    elif op == 125:  # EMPTY_DICT
                        stack.append({})
                        made += 1
                        pos += 1
                    elif op == 93:  # EMPTY_LIST
                        stack.append([])
                        made += 1
                        pos += 1
                    elif op == 46:  # STOP
                        self.pos = pos + 1
                        return stack[-1]
                    else:
                        self.pos, self.stack = pos, stack
                        act = rare.get(op)
                        if act is None:
                            raise KeyError(op)
                        pos = act(self, data, pos + 1)
                        stack = self.stack
                        made += 1
                self.made += made
                made = 0
                self.ops += _SLICE
                self._check_budgets(stack)
        finally:
            self.pos, self.stack = max(pos, self.pos), stack
            self.made += made

    def _rare_opcodes(self) -> Mapping[int, Callable[[Machine, bytes, int], int]]:
        from archfind.formats.pickles.calls import RARE  # late: those modules import this one

        return RARE

    def _runs(self) -> Callable[[bytes, int, list[object]], int] | None:
        if len(self.data) < LONG:
            return None  # reading it takes less time than importing `re`
        from archfind.formats.pickles.runs import Memo, Runs

        if type(self.memo) is dict:
            self.memo = Memo(self.memo, self)
        return Runs(self, self.memo).take  # pyright: ignore

    def persistent(self, key: object) -> object:
        if self.load is None:
            raise NotACheckpoint(f"damaged: {self.where} refers to data outside itself", self.path)
        return self.load(key)

    def named(self, module: str, name: str) -> Global:
        """The one node for this global, made on first sight."""
        if len(module) + len(name) > limits.NAME_LENGTH:
            raise KeyError("a name that no class has")
        full = f"{module}.{name}"
        node = self.globals.get(full)
        if node is None:
            if len(self.globals) >= limits.GLOBALS:
                raise LimitExceeded(
                    f"refused: {self.where} names more than {limits.GLOBALS:,} globals", self.path
                )
            node = self.globals[full] = Global(full, self.calls.get(full), self.pos)
        return node

    def call(self, fn: object, args: object) -> object:
        """What calling `fn` would give, as a record."""
        if type(fn) is Global:
            if fn.make is not None:
                return fn.make(args)
            if fn.called < 0:
                fn.called = self.pos
        if args and type(args) is tuple:
            _call_into(fn, args)
        return PickledCall(fn, args)

    def pop_mark(self) -> list[object]:
        """What was pushed since the last mark, which is taken away."""
        items = self.stack
        self.stack = self.below.pop()
        return items

    def count(self, ops: int, made: int) -> None:
        """Charges what was read beside the loop."""
        self.ops += ops
        self.made += made
        self._check_budgets(self.stack)

    def _check_text(self, length: int) -> None:
        if length > limits.PICKLE_BYTES:
            raise LimitExceeded(
                f"refused: {self.where} holds a text of {length:,} bytes "
                f"(limit {limits.PICKLE_BYTES:,})",
                self.path,
            )
        raise Short

    def _check_budgets(self, stack: list[object]) -> None:
        memo = self.memo
        entries = len(memo) if type(memo) is dict else memo.most()  # pyright: ignore
        for found, limit, what in (
            (self.ops, limits.PICKLE_OPS, "operations"),
            (self.made, limits.PICKLE_OBJECTS, "objects"),
            (len(self.below), limits.PICKLE_MARKS, "open marks"),
            (len(stack), limits.PICKLE_STACK, "values on its stack"),
            (entries, limits.PICKLE_MEMO, "memo entries"),
        ):
            if found > limit:
                raise LimitExceeded(
                    f"refused: {self.where} makes more than {limit:,} {what}", self.path
                )
