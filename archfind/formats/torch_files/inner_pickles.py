"""Pickles within pickles: bytes that loading hands to torch.load or to another unpickler.

`pickle.dump` of tensors writes each storage as `torch.storage._load_from_bytes(...)`, whose bytes
are a file of torch.save. They are read as any such file, to say what they would run, and their
tensors have the values that lie there.
"""

from __future__ import annotations

from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint
from archfind.formats import limits
from archfind.formats.archives.section import Inflated
from archfind.formats.pickles.nodes import Bytes, Global, PickledCall, StorageRef
from archfind.types import Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from archfind.formats.torch_files.torch_objects import Reader

_DEPTH = 4  # bytes within bytes
_STREAMS = ("io.BytesIO", "_io.BytesIO")
_TORCH = ("torch.load", "torch.serialization.load")
_PICKLE = (
    *(f"{module}.{name}" for name in ("load", "loads") for module in ("pickle", "_pickle")),
    *(f"{module}.loads" for module in ("cPickle", "dill", "dill._dill", "cloudpickle")),
    *("joblib.load", "joblib.numpy_pickle.load"),
    *("pandas.read_pickle", "pandas.io.pickle.read_pickle"),
)  # fmt: skip


def calls(reader: Reader) -> dict[str, Callable[[object], object]]:
    """What reads the calls that would unpickle their argument, by name."""
    from_bytes = "torch.storage._load_from_bytes"
    found: dict[str, Callable[[object], object]] = {from_bytes: _Call(reader, from_bytes, True)}
    found |= {name: _Call(reader, name, True) for name in _TORCH}
    return found | {name: _Call(reader, name, False) for name in _PICKLE}


class _Call:
    """Reads the calls of one function; `torch`: its argument is a file of torch.save."""

    def __init__(self, reader: Reader, name: str, torch: bool) -> None:
        self.reader, self.name, self.torch = reader, name, torch

    def __call__(self, args: object) -> object:
        reader, value = self.reader, args[0] if type(args) is tuple and args else None
        node = reader.machine.globals.get(self.name) if reader.machine else None
        if node is not None and node.called < 0:
            node.called, node.by_function = reader.machine.pos, True  # pyright: ignore
        known = reader.inner.get((id(value), self.torch))
        if known is None:
            # the value is kept, so that no other object gets its id
            known = value, self._read(value, args)
            reader.inner[id(value), self.torch] = known
        return known[1]

    def _read(self, value: object, args: object) -> object:
        reader, made = self.reader, PickledCall(Global(self.name, None, 0), args)
        raw, at = _bytes_of(_streamed(value), reader)
        report, machine = reader.report, reader.machine
        if report is None or machine is None:
            return made
        if raw is None or reader.depth >= _DEPTH:
            why = "that a call makes" if raw is None else f"more than {_DEPTH} levels deep"
            line = f"loading this file would call {self.name} on bytes {why} ({machine.where})"
            if len(report.doubts) < limits.DANGER_LINES and line not in report.doubts:
                report.doubts = [*report.doubts, line]
            return made
        report.work.inner += 1
        if report.work.inner > limits.INNER_PICKLES:
            raise LimitExceeded("refused: too many pickles within its pickle", machine.path)
        inner = type(reader)(reader.path)
        inner.depth, inner.name = reader.depth + 1, f"{reader.name}{len(reader.inner)}."
        before = len(report.machines)
        try:
            return self._tree(raw, at, inner)
        except LimitExceeded:
            raise
        except CheckpointError:
            return made  # what it would run before it breaks was seen
        finally:
            report.forget_plain(before)
            # what holds itself waits for the collector, which is off meanwhile
            inner.calls, inner.machine = {}, None

    def _tree(self, raw: bytes, at: int, inner: Reader) -> object:
        """The value that unpickling `raw` gives, its storages found."""
        reader = self.reader
        assert reader.report is not None and reader.machine is not None
        where = f"bytes within {reader.machine.where.removeprefix('bytes within ')}"
        source = Inflated(reader.path, raw)
        if not self.torch:
            from archfind.formats.torch_files.pickles_in_place import machine_at

            machine_at(source, reader.report, inner, where, base=-1).run()
            return PickledCall(Global(self.name, None, 0), ())
        if raw.startswith(b"PK\x03\x04"):
            from archfind.formats.torch_files.torch_zip import tree_in_zip as tree_in
        else:
            from archfind.formats.torch_files.torch_legacy import tree_in_legacy as tree_in
        tree, spans = tree_in(source, reader.report, inner, where)
        for key, ref in inner.by_key.items():
            self._place(ref.root, spans.get(key), raw, at, inner.name)
        return tree

    def _place(
        self, ref: StorageRef, span: tuple[int, int] | None, raw: bytes, at: int, name: str
    ) -> None:
        if ref.record is not None:
            return
        if span is None:
            from archfind.formats.pickles.tensor_changes import empty

            empty(ref, "its storage, in bytes of their own, is not there, compressed or big-endian")
            return
        (start, nbytes), path, name = span, self.reader.path, name + ref.key
        if at >= 0:
            ref.record = Storage(path, name, at + start, nbytes)
        else:
            ref.record = Storage(path, name, -1, nbytes, None, raw[start : start + nbytes])


def _streamed(value: object) -> object:
    """The bytes of a stream in memory, which is pickled by its state: bytes, position, attributes;
    None where it isn't read from its start."""
    if type(value) is not PickledCall or value.name not in _STREAMS:
        return value
    state = value.state
    if type(state) is tuple and len(state) == 3:
        return state[0] if state[1] == 0 else None
    return value.args[0] if type(value.args) is tuple and value.args else None


def _bytes_of(value: object, reader: Reader) -> tuple[bytes | None, int]:
    """Bytes that stand in the pickle, and where they lie in the file; -1 where they don't as they
    are. None for what isn't bytes."""
    if type(value) is bytes:
        return value, -1
    if type(value) is not Bytes or reader.machine is None:
        return None, -1
    raw = reader.machine.data[value.start : value.start + value.length]
    if not value.text:
        return raw, reader.base + value.start if reader.base >= 0 else -1
    try:
        return raw.decode().encode("latin-1"), -1
    except UnicodeError:
        return None, -1


def read_for_danger(data: bytes, path: str, where: str, report: object) -> bool:
    """Whether `data` begins with a pickle; what it would run is in the report then."""
    from archfind.formats.torch_files.pickles_in_place import machine_at
    from archfind.formats.torch_files.torch_objects import Reader

    try:
        machine_at(Inflated(path, data), report, Reader(path), where, base=-1).run()  # pyright: ignore
    except NotACheckpoint:
        return False
    except CheckpointError:
        return True
    return True
