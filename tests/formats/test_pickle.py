"""The pickle reader: the same values as pickle for honest files, and nothing run for others."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archfind import formats
from archfind.errors import ArchfindError, LimitExceeded, NotACheckpoint, NoTensors, Truncated
from archfind.formats.pickles.calls import RARE
from archfind.formats.pickles.machine import Machine
from archfind.formats.pickles.nodes import Global, Group, Key, PickledCall
from archfind.formats.torch_files.torch_objects import Reader


def machine(data: bytes) -> Machine:
    reader = Reader("x")
    return Machine("x", "the pickle", data, reader.calls, reader.load)


def read(data: bytes) -> object:
    return machine(data).run()


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300)
)
keys = st.text() | st.integers(-(2**59), 2**59) | st.booleans()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(keys, inner)
        | st.dictionaries(keys, inner).map(collections.OrderedDict)
    ),
    max_leaves=20,
)


@given(values, st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_same_values_as_pickle(value: object, protocol: int) -> None:
    found = read(pickle.dumps(value, protocol=protocol))
    assert found == value


@given(st.sets(st.integers() | st.text()), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_sets(value: set[object], protocol: int) -> None:
    for one in (value, frozenset(value)):
        found = read(pickle.dumps(one, protocol=protocol))
        assert type(found) is Group
        assert set(found.members) == value


@given(values)
@settings(max_examples=50, deadline=None)
def test_python_pickler_too(value: object) -> None:
    """The pickler written in Python makes other choices than the one in C."""
    for protocol in range(6):
        file = io.BytesIO()
        pickle._Pickler(file, protocol).dump(value)  # type: ignore[attr-defined]
        assert read(file.getvalue()) == value


def test_every_opcode_is_known() -> None:
    hot = {113, 75, 104, 114, 88, 40, 116, 133, 82, 77, 137, 41, 81, 106, 134, 148, 140, 74, 135}
    hot |= {136, 78, 125, 93, 46}
    assert {ord(one.code) for one in pickletools.opcodes} == hot | set(RARE)
    assert not hot & set(RARE)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"I01\n.", True),
        (b"I-12\n.", -12),
        (b"L12L\n.", 12),
        (b"F1.5\n.", 1.5),
        (b"S'a\\x41\\n'\n.", "aA\n"),
        (b'S"b"\n.', "b"),
        (b"Vu\\u00e9\n.", "u\u00e9"),
        (b"T\x03\0\0\0abc.", "abc"),
        (b"U\x02\xff\xfe.", b"\xff\xfe"),
        (b"U\x02ab.", "ab"),
        (b"\x8a\x00.", 0),
        (b"\x8b\x02\0\0\0\x00\x80.", -32768),
        (b"(I1\nI2\nl.", [1, 2]),
        (b"(S'a'\nI2\nd.", {"a": 2}),
        (b"(lp0\nI1\nag0\n0.", [1]),
        (b"(I1\n(I2\nI3\n1.", 1),
        (b"I1\n2\x86.", (1, 1)),
        (b"](I1\nI2\ne.", [1, 2]),
        (b"}(S'a'\nI2\nu.", {"a": 2}),
        (b"}S'a'\nI2\ns.", {"a": 2}),
        (b"\x80\x05\x96\x03\0\0\0\0\0\0\0abc.", b"abc"),
        (b"\x8d\x02\0\0\0\0\0\0\0\xc3\xa9.", "\u00e9"),
        (b"\x8e\x02\0\0\0\0\0\0\0ab.", b"ab"),
        (b"X\x03\0\0\0\xed\xa0\x80.", "\ud800"),
    ],
)
def test_opcodes(data: bytes, expected: object) -> None:
    found = read(data)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "data",
    [
        b"(I1\nimy.mod\nCls\n.",
        b"(cmy.mod\nCls\nI1\no.",
        b"cmy.mod\nCls\n(I1\ntR.",
        b"cmy.mod\nCls\n(I1\nt\x81.",
        b"\x8c\x06my.mod\x8c\x03Cls\x93I1\n\x85\x81.",
        b"cmy.mod\nCls\nI1\n\x85}\x92.",
    ],
    ids=["INST", "OBJ", "REDUCE", "NEWOBJ", "STACK_GLOBAL", "NEWOBJ_EX"],
)
def test_calls_are_recorded(data: bytes) -> None:
    vm = machine(data)
    found = vm.run()
    assert type(found) is PickledCall
    assert found.name == "my.mod.Cls" and found.args == (1,)
    assert vm.globals["my.mod.Cls"].called > 0


def test_what_is_done_to_an_object_is_recorded() -> None:
    found = read(b"cm\nC\n)\x81}S'a'\nI1\nsbS'k'\nI2\nsI3\na.")
    assert type(found) is PickledCall
    assert found.state == {"a": 1} and found.items == [("k", 2)] and found.appended == [3]


def test_extensions_and_persistent_ids() -> None:
    assert read(b"\x82\x07.").name == "copyreg._inverted_registry[7]"  # type: ignore[union-attr]
    assert type(read(b"Pabc\n.")) is PickledCall
    assert type(read(b"I1\nQ.")) is PickledCall


def test_unhashable_keys() -> None:
    found = read(b"}(]I1\ncm\nC\nI2\nu.")
    assert type(found) is dict
    assert [type(key) for key in found] == [Key, Key]
    deep = read(b"})" + b"\x85" * 500_000 + b"I1\ns.")  # hash() of this tuple overflows C's stack
    assert type(deep) is dict and list(deep.values()) == [1]


def test_broken_pickles() -> None:
    for data in (b"", b"\x80\x02", b"X\x05\0\0\0ab", b"cfoo\nba", b"(", b"\x8c", b"\x8e\x01"):
        with pytest.raises(Truncated):
            read(data)
    for data in (
        b"." + b" " * 20,
        b"h\x05" + b"." * 20,
        b"\xff" + b"." * 20,
        b"t" + b"." * 20,
        b"0" + b"." * 20,
        b"R" + b"." * 20,
        b"Iabc\n" + b"." * 20,
        b"S'abc\n" + b"." * 20,
        b"\x80\x09" + b"." * 20,
        b"\x8c\x02\xff\xff" + b"." * 20,
        b"}(I1\nu" + b"." * 20,
        b"I1\nI2\n\x93" + b"." * 20,
        b"\x97" + b"." * 20,
        b"(o" + b"." * 20,
    ):
        with pytest.raises(NotACheckpoint):
            read(data)


# --- hostile pickles ---


class Payload:
    """Pickles to a call; `pickle.loads` of it creates the marker file."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call  # type: ignore[return-value]


def payloads(marker: Path) -> dict[str, bytes]:
    shell = f"touch {marker}"
    python = f"open({str(marker)!r}, 'w').close()"
    quoted = python.encode()
    named = {
        "posix.system": pickle.dumps(Payload(os.system, shell)),
        "builtins.exec": pickle.dumps(Payload(exec, python)),
        "__builtin__.eval": pickle.dumps(Payload(eval, python), protocol=2),
        "subprocess.Popen": pickle.dumps(Payload(subprocess.Popen, ["touch", str(marker)])),
        "builtins.__import__": pickle.dumps(Payload(__import__, "antigravity")),
        "builtins.open": b"cbuiltins\nopen\n(V%s\nVw\ntR." % str(marker).encode(),
        "os.system": b"cos\nsystem\n(V%s\ntR." % shell.encode(),
        "nt.system": b"(Vx\nint\nsystem\n.",
        "builtins.getattr": (
            b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVsystem\ntR(V%s\ntR."
            % shell.encode()
        ),
        "runpy._run_code": b"crunpy\n_run_code\n(Vx\n}tR.",
        "torch.serialization.os.system": (
            b"\x80\x04\x8c\x13torch.serialization\x8c\x09os.system\x93\x8c\x01x\x85R."
        ),
        "torch.hub.load": b"ctorch.hub\nload\n(Vevil/repo\nVnet\ntR.",
        "operator.methodcaller": b"coperator\nmethodcaller\n(Vsystem\ntR(cos\ngetcwd\ntR.",
        "types.CodeType": b"ctypes\nCodeType\n(I0\ntR.",
        "pip.main": b"cpip\nmain\n((Vinstall\nltR.",
        "copyreg._inverted_registry[1]": b"\x82\x01)R.",
        "timeit.timeit": b"ctimeit\ntimeit\n(V%s\ntR." % quoted,
    }
    return named


MARKED = list(payloads(Path("/nonexistent/marker")))


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("place", ["bare", "zip", "broken", "short", "legacy"])
def test_nothing_is_run(tmp_path: Path, name: str, place: str) -> None:
    marker = tmp_path / "marker"
    payload = payloads(marker)[name]
    path = tmp_path / "evil.pth"
    tail = payload
    if place == "broken":  # breaks right after the payload, as nullifAI's did
        tail = payload[:-1] + b"\xff" * 20
    elif place == "short":
        tail = payload[:-1]
    if place == "bare":
        path.write_bytes(payload if payload[:1] == b"\x80" else b"\x80\x02" + payload)
    elif place == "legacy":
        file = io.BytesIO()
        torch.save({"w": torch.ones(1)}, file, _use_new_zipfile_serialization=False)
        parts = file.getvalue()
        # the payload stands in the third pickle, which torch reads before the state dict
        start = len(pickle.dumps(0x1950A86A20F9469CFC6C, 2)) + len(pickle.dumps(1001, 2))
        path.write_bytes(parts[:start] + payload + parts[start:])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/data.pkl", b"\x80\x02" + tail if tail[:1] != b"\x80" else tail)
            archive.writestr("m/version", b"3\n")
    before = set(sys.modules)
    with pytest.raises(ArchfindError) as caught:
        formats.open(path)
    assert f" {name} " in str(caught.value) and "DANGER" in str(caught.value)
    assert "would call" in str(caught.value)
    assert not marker.exists()
    assert "antigravity" not in set(sys.modules) - before


def test_the_payloads_are_real(tmp_path: Path) -> None:
    """Without this, the test above could pass because the payloads do nothing."""
    marker = tmp_path / "marker"
    for name in ("posix.system", "builtins.exec", "os.system", "builtins.getattr"):
        pickle.loads(payloads(marker)[name])
        assert marker.exists(), name
        marker.unlink()


def hostile_state(marker: Path) -> dict[str, object]:
    return {
        "w": torch.arange(3.0),
        "hook": Payload(os.system, f"touch {marker}"),
        "z": torch.ones(1),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_file_still_yields_its_index(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "evil.pth"
    marker = tmp_path / "marker"
    torch.save(hostile_state(marker), path, _use_new_zipfile_serialization=zipped)
    found = formats.open(path)
    assert list(found.index) == ["w", "z"]
    assert len(found.danger) == 1
    assert found.danger[0].startswith("loading this file with torch.load would call posix.system (")
    assert "posix.system" in found.foreign
    assert found.objects["hook"] == "posix.system"
    assert not marker.exists()


def test_named_but_not_called() -> None:
    """A function handed to another one is called by it."""
    vm = machine(b"cfunctools\npartial\n(cos\nsystem\nVx\ntR.")
    vm.run()
    from archfind.formats.pickles.danger import danger_lines

    lines = danger_lines(vm.globals, "p")
    assert lines == ["loading this file with torch.load would import os.system (p, byte 20)"]


def test_harmless_globals_are_no_danger(tmp_path: Path) -> None:
    data = (
        b"\x80\x02}(Va\ncmy_project.models\nNet\n)\x81Vb\ncfunctools\npartial\n"
        b"(ctorch.nn.modules.normalization\nLayerNorm\ntRVc\nccollections\nOrderedDict\n)Ru."
    )
    vm = machine(data)
    vm.run()
    from archfind.formats.pickles.danger import danger_lines

    assert danger_lines(vm.globals, "p") == []
    assert list(vm.globals) == [
        "my_project.models.Net",
        "functools.partial",
        "torch.nn.modules.normalization.LayerNorm",
        "collections.OrderedDict",
    ]


def test_foreign_text_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04\x8c\x02os\x8c\x0bsy\x1b[31m\xe2\x80\xaem\x93)R.")
    with pytest.raises(NoTensors) as caught:
        formats.open(path)
    assert "\\x1b[31m\\u202e" in str(caught.value) and "\x1b" not in str(caught.value)


# --- budgets ---


def laughs() -> bytes:
    """30 lists, each holding the one before it ten times: 10**30 entries for a reader who walks."""
    data = b"\x80\x02]q\x00I1\na"
    for i in range(30):
        data += b"]q" + bytes([i + 1]) + b"(" + (b"h" + bytes([i])) * 10 + b"e"
    return data + b"."


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02" + b"]" * 2_500_000 + b".",
        b"\x80\x02" + b"(" * 1_200_000 + b".",
        b"\x80\x02N" + b"\x94" * 5_000_000 + b".",
        b"\x80\x02\x8b\xff\xff\x00\x00" + b"1" * 70_000 + b".",
        b"\x80\x02X\xff\xff\xff\x00" + b"1" * (1 << 24) + b".",
        b"\x80\x02" + b"](" * 2_000 + b"N" + b"e" * 2_000 + b".",
        b"\x80\x02N" + b"\x85" * 1_500_000 + b".",
        b"\x80\x02cm\nC\n" + b")R" * 400_000 + b".",
        # one key of a million characters, in a dict in a dict in a dict ...
        b"\x80\x02X\x40\x42\x0f\x00"
        + b"k" * 1_000_000
        + b"q\x000"
        + b"}"
        + b"h\x00}" * 500
        + b"s" * 500
        + b".",
        # one list of 300,000, turned into a set over and over
        b"\x80\x02]("
        + b"N" * 300_000
        + b"eq\x01\x85q\x020("
        + b"c__builtin__\nset\nh\x02R" * 2000
        + b"l.",
    ],
    ids=lambda data: f"{len(data)}",
)
def test_bombs_are_refused_quickly(tmp_path: Path, data: bytes) -> None:
    import resource
    import time

    path = tmp_path / "bomb.pkl"
    path.write_bytes(data)
    start = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the most that tests so far took
    with pytest.raises(ArchfindError):
        formats.open(path)
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB


def test_limits_say_so(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(laughs())
    with pytest.raises(LimitExceeded, match="refused: its tree has more than 1,000,000 entries"):
        formats.open(path)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(ArchfindError):
        read(data)


opcodes = st.sampled_from([one.code.encode("latin-1") for one in pickletools.opcodes])
pieces = (
    opcodes
    | st.binary(max_size=4)
    | st.sampled_from(
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"ccollections\nOrderedDict\n",
            b"K\x01",
            b"X\1\0\0\0a",
        ]
        + [
            b"cnumpy\ndtype\n",
            b"cnumpy.core.multiarray\nscalar\n",
            b"ctorch\nSize\n",
            b"I1\n",
            b"K\x02\x85",
        ]
        + [
            b"c%s\n%s\n" % tuple(part.encode() for part in name.rsplit(".", 1))
            for name in Reader("x").calls
        ]
    )
)


@given(st.lists(pieces, max_size=60))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_opcodes(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    """Without the net of `open`: a reader's own mistakes would show here."""
    from archfind.formats.source import ByteSource

    path = tmp_path_factory.getbasetemp() / "any.pkl"
    path.write_bytes(b"\x80\x02" + b"".join(parts) + b".")
    with ByteSource(str(path)) as source, contextlib.suppress(ArchfindError):
        formats._read(source)


def test_numbers_of_numpy() -> None:
    import numpy as np

    for value in (
        np.float64(1.5),
        np.int32(-2),
        np.bool_(True),
        np.uint8(7),
        np.dtype(">f8").type(2.5),
    ):
        for protocol in range(6):
            assert read(pickle.dumps(value, protocol)) == value.item()
    swapped = np.array([1.25], dtype=">f8")[0]
    assert read(pickle.dumps(swapped)) == 1.25
    assert read(pickle.dumps(np.str_("hé"))) == "hé"


def test_lone_global() -> None:
    found = read(b"ctorch\nfloat32\n.")
    assert type(found) is Global and found.name == "torch.float32"
    assert struct.calcsize("<q") == 8
