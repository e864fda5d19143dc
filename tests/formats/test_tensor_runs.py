"""Many tensors of a pickle at once: the same as one opcode after another."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from archfind import formats
from archfind.errors import NotACheckpoint
from archfind.formats.pickles import machine as pickle_vm
from archfind.formats.pickles import runs as tensor_runs
from archfind.formats.pickles.machine import Machine
from archfind.formats.pickles.nodes import Global, PickledCall, StorageRef, Tensor
from archfind.formats.torch_files.torch_objects import Reader


def saved(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_runs_of_opcodes_give_what_single_ones_give(
    tmp_path: Path, zipped: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 3), (), (70000,), (0, 4), (1, 2, 3, 4, 5), (3,), (300, 1)]
    state: dict[str, object] = {}
    for i in range(400):
        shape = shapes[int(torch.randint(len(shapes), (1,), generator=generator))]
        one = torch.zeros(shape)
        state[f"layer{i}.weight"] = (
            nn.Parameter(one) if i % 7 == 0 else one.t() if one.dim() == 2 else one
        )
        if i % 11 == 0:
            state[f"layer{i}.tied"] = state[f"layer{i}.weight"]
        if i % 13 == 0:
            state[f"layer{i}.view"] = one.reshape(-1)[1:]
    path = tmp_path / "x.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    slow = formats.open(path)
    monkeypatch.setattr("archfind.formats.pickles.machine.LONG", 0)
    taken: list[int] = []
    take = tensor_runs.Runs.take

    def counted(self: tensor_runs.Runs, data: bytes, pos: int, stack: list[object]) -> int:
        taken.append(take(self, data, pos, stack))
        return taken[-1]

    monkeypatch.setattr(tensor_runs.Runs, "take", counted)
    quick = formats.open(path)
    assert sum(map(bool, taken)) > 100
    assert dict(quick.index) == dict(slow.index) and quick.foreign == slow.foreign


def test_a_run_that_differs_is_left_to_single_opcodes() -> None:
    """A memo that is used twice, a key whose length lies: nothing may be taken at once."""
    with zipfile.ZipFile(io.BytesIO(saved({f"k{i}": torch.zeros(2, 3) for i in range(99)}))) as one:
        data = one.read("archive/data.pkl")
    at = data.rfind(b"((")
    for change in (b"X\x03\0\0\0", b"X\xff\0\0\0"):
        broken = data[:at] + data[at:].replace(b"X\x02\0\0\0", change, 1)
        reader = Reader("x")
        machine = Machine("x", "data.pkl", broken, reader.calls, reader.load)
        runs = tensor_runs.Runs(machine, tensor_runs.Memo({}, machine))
        assert runs.take(broken, at, [None]) == 0


def plain(value: object, above: tuple[int, ...] = ()) -> object:
    """A pickle's tree as comparable values, storages by their keys; a tree may hold itself."""
    if id(value) in above:
        return "itself"
    above = (*above, id(value))
    if isinstance(value, Tensor):
        return ("tensor", *(plain(getattr(value, name), above) for name in Tensor.__slots__))
    if isinstance(value, StorageRef):
        return ("storage", value.key, value.dtype, value.numel, value.offset)
    if isinstance(value, Global):
        return value.name
    if isinstance(value, PickledCall):
        return ("call", plain(value.fn, above), plain(value.args, above))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *(plain(one, above) for one in value))
    if isinstance(value, dict):
        return [(plain(key, above), plain(one, above)) for key, one in value.items()]
    return value


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_memo_filled_on_demand_is_the_one_of_single_opcodes(data: st.DataObject) -> None:
    """Gets, puts and numbered entries anywhere among the runs see what single opcodes do."""
    state = {f"k{i}": torch.zeros(((), (2, 3), (7,))[i % 3]) for i in range(120)}
    with zipfile.ZipFile(io.BytesIO(saved(state))) as one:
        pickled = one.read("archive/data.pkl")
    places = [m.start() for m in re.finditer(rb"(?=X.\0\0\0k\d+r)", pickled, re.DOTALL)]
    index = st.integers(0, 1000)
    opcode = st.one_of(
        index.map(lambda i: b"j" + struct.pack("<I", i) + b"0"),  # got and thrown away
        st.tuples(index, index).map(  # got and put elsewhere
            lambda pair: b"j%br%b0" % tuple(struct.pack("<I", i) for i in pair)
        ),
        st.just(b"\x8c\x01v\x940"),  # a text, numbered, thrown away
    )
    got = bytearray(pickled[:-1])
    gets = [m.start() + 3 for m in re.finditer(rb"\(\(h.h.X", pickled, re.DOTALL)]
    for at in data.draw(st.lists(st.sampled_from(gets), max_size=2)):
        got[at + data.draw(st.sampled_from((0, 2)))] = data.draw(st.integers(0, 255))
    changed = bytes(got)
    for at in sorted(data.draw(st.lists(st.sampled_from(places), max_size=3)), reverse=True):
        changed = changed[:at] + data.draw(opcode) + changed[at:]
    asked = data.draw(st.lists(index, max_size=12))
    changed += b"".join(b"j" + struct.pack("<I", i) for i in asked) + b"t." if asked else b"."
    changed = changed[:2] + b"(" + changed[2:] if asked else changed

    def result(at_once: int) -> object:
        reader = Reader("x")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pickle_vm, "LONG", at_once)
            machine = Machine(
                "x", "data.pkl", changed, reader.calls, reader.load, storages=reader.storages
            )
            try:
                return plain(machine.run())
            except NotACheckpoint as error:
                return error.message

    assert result(0) == result(1 << 40)
