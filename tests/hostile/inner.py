"""Pickles where nobody looks: in bytes that a pickle hands on, in members that torch doesn't read,
in numpy's objects. And what pickles do to tensors once they are made."""

from __future__ import annotations

import struct

from .build import (
    FLOATS,
    STATE,
    Member,
    call,
    legacy,
    mapping,
    members,
    name,
    number,
    numbers,
    pickled,
    storage,
    tensor,
    text,
    torch_zip,
    zip_bytes,
)
from .case import READ, Case, holding

_SYSTEM = call("os.system", text("true"))
_RUNS = pickled(mapping(weight=tensor(), hook=_SYSTEM))


def raw(data: bytes) -> bytes:
    """BINBYTES."""
    return b"B" + struct.pack("<I", len(data)) + data


def coded(data: bytes, encoding: str = "latin1") -> bytes:
    """Bytes as protocol 2 has them: a text, and the call that encodes it."""
    return call("_codecs.encode", text(data.decode("latin-1")), text(encoding))


def loaded(data: bytes, write: object = raw) -> bytes:
    """The call by which a storage is unpickled outside torch.save."""
    return call("torch.storage._load_from_bytes", write(data))  # type: ignore[operator]


def of_storage(data: bytes = FLOATS) -> bytes:
    """A file of torch.save that holds a storage, as plain pickles have one for each tensor."""
    return legacy(state=pickled(storage()), data=struct.pack("<q", 6) + data)


def plain(inner: bytes, *more: bytes) -> bytes:
    """A tensor whose storage is this call."""
    shape = (number(0), numbers((2, 3)), numbers((3, 1)), b"\x89", call("collections.OrderedDict"))
    return call("torch._utils._rebuild_tensor_v2", inner, *shape, *more)


def nested(levels: int) -> bytes:
    """Files of torch.save, each in the bytes of the next, and a call in the innermost."""
    data = _RUNS
    for _ in range(levels):
        data = pickled(mapping(inner=loaded(torch_zip(data)), weight=tensor()))
    return torch_zip(data)


def stream(data: bytes, position: int = 0) -> bytes:
    """A stream in memory as pickle writes it: made empty, then given its state."""
    state = b"(" + raw(data) + number(position) + b"Nt"
    return name("_io.BytesIO") + b")R" + state + b"b"


def state(**entries: bytes) -> bytes:
    """A torch zip of these entries beside a weight."""
    return torch_zip(pickled(mapping(weight=tensor(), **entries)))


def second(own: str, data: bytes, **more: bytes) -> bytes:
    """A torch zip with one more member."""
    extra = [Member(f"archive/{key}", value) for key, value in more.items()]
    return zip_bytes([*members(), Member(own, data), *extra])


_CALLED = "would call os.system"
_INNER: tuple[tuple[str, bytes, int, str, bool], ...] = (
    ("a plain pickle of a tensor", pickled(mapping(w=plain(loaded(of_storage())))), READ, "2 3", False),
    ("a plain pickle by protocol 2", pickled(mapping(w=plain(loaded(of_storage(), coded)))), READ, "2 3", False),
    ("a harmless file in bytes", state(more=loaded(torch_zip())), READ, "more", False),
    ("a zip in bytes that runs code", state(more=loaded(torch_zip(_RUNS))), READ, _CALLED, True),
    ("a legacy file in bytes that runs code", state(more=loaded(legacy(state=_RUNS))), READ, _CALLED, True),
    ("bytes of a text that run code", state(more=loaded(torch_zip(_RUNS), coded)), READ, _CALLED, True),
    ("bytes that are only a call", state(more=loaded(pickled(_SYSTEM))), READ, _CALLED, True),
    ("bytes that break after a call", state(more=loaded(_RUNS[:-1] + b"0" * 5 + b"\xff")), READ, _CALLED, True),
    ("code in a pickle after the first", state(more=loaded(legacy(system=_RUNS))), READ, _CALLED, True),
    ("bytes in bytes in bytes", nested(3), READ, _CALLED, True),
    ("bytes too deep to be seen", nested(6), READ, "levels deep", True),
    ("bytes that a call makes", state(more=loaded(call("zlib.decompress", raw(b"x")), lambda one: one)), READ, "bytes that a call makes", True),
    ("bytes in another encoding", state(more=loaded(torch_zip(_RUNS), lambda data: coded(data, "rot13"))), READ, "bytes that a call makes", True),
    ("a tensor of the wrong bytes", pickled(mapping(w=plain(loaded(b"\x80\x02N.")), v=tensor())), READ, "1 of 1 tensors have no values", False),
    ("pickle.loads of harmless bytes", state(more=call("pickle.loads", raw(STATE))), READ, "would call pickle.loads", True),
    ("pickle.loads of a call", state(more=call("pickle.loads", raw(pickled(_SYSTEM)))), READ, _CALLED, True),
    ("torch.load of a stream", state(more=call("torch.load", stream(torch_zip(_RUNS)))), READ, _CALLED, True),
    ("torch.load of a stream from its middle", state(more=call("torch.load", stream(torch_zip(_RUNS), 9))), READ, "bytes that a call makes", True),
    ("a numpy array's bytes in another encoding", pickled(mapping(w=name("numpy.core.multiarray._reconstruct") + b"(" + name("numpy.ndarray") + numbers((0,)) + b"C\x01btR(" + number(1) + numbers((6,)) + call("numpy.dtype", text("f4")) + b"\x89" + coded(FLOATS, "utf-16") + b"tb")), READ, "1 of 1 tensors have no values", False),
)  # fmt: skip

_SECOND: tuple[tuple[str, bytes, str], ...] = (
    ("a pickle beside data.pkl", second("archive/evil.pkl", _RUNS), _CALLED),
    ("a harmless pickle beside it", second("archive/more.pkl", STATE), 'a second pickle, "archive/more.pkl"'),
    ("a pickle in another folder", second("other/x", _RUNS), _CALLED),
    ("a pickle among the storages", second("archive/data/99", _RUNS), _CALLED),
    ("a pickle for a serialization id", second("archive/.data/serialization_id", _RUNS), _CALLED),
    ("data.pkl deeper down", second("archive/b/data.pkl", _RUNS), _CALLED),
    ("a joblib file", second("archive/x.joblib", b"x\x9cabc"), 'does not read "archive/x.joblib"'),
    ("a pickle that breaks", second("archive/evil.pkl", _RUNS[:-9]), "a second pickle"),
    ("a name with control characters", second("archive/\x1b[31m.pkl", STATE), "\\x1b[31m"),
    ("300 pickles", zip_bytes([*members(), *(Member(f"archive/x{n}.pkl", _RUNS) for n in range(300))]), _CALLED),
)  # fmt: skip

_COPY = b"q\x01"  # puts a tensor into the memo, to be got again by h\x01


def after(*calls: bytes) -> bytes:
    """A tensor that is handed to calls whose results are thrown away."""
    return torch_zip(
        pickled(mapping(weight=tensor() + _COPY + b"".join(one + b"0" for one in calls)))
    )


_GOT = b"h\x01"
_CHANGED: tuple[tuple[str, bytes, bool], ...] = (
    ("multiplied by a method", after(call("torch.Tensor.mul_", _GOT, number(2))), False),
    ("set by an operator", after(call("_operator.setitem", _GOT, number(0), number(1))), True),
    ("set by setattr", after(call("builtins.setattr", _GOT, text("data"), tensor("1", 3, 0, (3,), (1,)))), True),
    ("set by SETITEM", after(_GOT + number(0) + number(1) + b"s"), False),
    ("set by BUILD", after(_GOT + b"(" + storage() + number(1) + numbers((1,)) + numbers((1,)) + b"tb"), False),
    ("called through getattr", after(b"(" + _GOT + number(2) + b"t0" + call("builtins.getattr", name("torch.Tensor"), text("mul_")) + b"(" + _GOT + number(2) + b"tR"), True),
    ("whose storage is filled", after(call("torch.storage.UntypedStorage.fill_", storage(), number(1))), False),
)  # fmt: skip

INNER: list[Case] = [
    *(Case(f"inner/{where}", holding(data), *rest) for where, data, *rest in _INNER),
    *(Case(f"second/{where}", holding(data), READ, says) for where, data, says in _SECOND),
    *(
        Case(f"changed/{where}", holding(data), READ, "1 of 1 tensors have no values", danger)
        for where, data, danger in _CHANGED
    ),
]
