"""Zips that torch didn't write as they are: deflated, doctored, of other kinds."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest
import torch
from test_torch import assert_tensors, save

from archfind import formats
from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint, NoTensors


def rezip(source: Path, target: Path, **change: object) -> None:
    """Copies a torch zip member by member, with one thing changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            how = change.get("method", zipfile.ZIP_STORED)
            new.writestr(info.filename, data, compress_type=how)  # type: ignore[arg-type]
        if "extra" in change:
            new.writestr(*change["extra"])  # type: ignore[misc]
        if "comment" in change:
            new.comment = change["comment"]  # type: ignore[assignment]


STATE = {"w": torch.arange(50.0), "b": torch.ones(2)}


def test_deflated_zip(tmp_path: Path) -> None:
    save(STATE, tmp_path / "a.pth")
    rezip(tmp_path / "a.pth", tmp_path / "b.pth", method=zipfile.ZIP_DEFLATED)
    found = formats.open(tmp_path / "b.pth")
    assert {key: spec.shape for key, spec in found.index.items()} == {"w": (50,), "b": (2,)}
    assert found.index["w"].storage.start == -1 and found.index["w"].storage.nbytes == 200


def test_zip64(tmp_path: Path) -> None:
    save(STATE, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as new,
    ):
        for info in old.infolist():
            with new.open(info.filename, "w", force_zip64=True) as file:
                file.write(old.read(info))
    assert_tensors(formats.open(tmp_path / "b.pth"), STATE)


def test_strange_zips(tmp_path: Path) -> None:
    save(STATE, tmp_path / "a.pth")
    bad = tmp_path / "bad.pth"
    rezip(tmp_path / "a.pth", bad, comment=b"hello")
    with pytest.raises(CheckpointError, match="ends in a comment"):
        formats.open(bad)
    with pytest.warns(UserWarning, match="Duplicate"):
        rezip(tmp_path / "a.pth", bad, extra=("a/data.pkl", b"\x80\x02N."))
    with pytest.raises(CheckpointError, match=r'holds "a/data.pkl" twice'):
        formats.open(bad)
    rezip(tmp_path / "a.pth", bad, extra=("b/data.pkl", b"\x80\x02N."))
    with pytest.raises(CheckpointError, match=r"several data.pkl"):
        formats.open(bad)
    rezip(tmp_path / "a.pth", bad, extra=("evil.py", b"x"))
    assert "the zip holds files that torch did not write" in formats.open(bad).warnings
    rezip(tmp_path / "a.pth", bad, method=zipfile.ZIP_BZIP2)
    with pytest.raises(CheckpointError, match="compressed by method 12"):
        formats.open(bad)


def test_headers_that_disagree(tmp_path: Path) -> None:
    good = save(STATE, tmp_path / "a.pth")
    data = bytearray(Path(good).read_bytes())
    bad = tmp_path / "bad.pth"
    with zipfile.ZipFile(good) as archive:
        infos = {info.filename: info.header_offset for info in archive.infolist()}
    at = infos["a/data.pkl"] + 30 + 2
    data[at] ^= 1  # the name in the local header
    bad.write_bytes(data)
    with pytest.raises(CheckpointError, match="two headers"):
        formats.open(bad)
    data[at] ^= 1
    at = infos["a/data.pkl"] + 6
    data[at] ^= 1  # the flag "encrypted"
    bad.write_bytes(data)
    with pytest.raises(CheckpointError, match="two headers"):
        formats.open(bad)
    data[at] ^= 1
    at = data.index(b"_rebuild_tensor_v2")
    data[at] ^= 1
    bad.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        formats.open(bad)


def test_inflating_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + b"N" * 60_000_000 + b".")
        archive.writestr("m/version", b"3\n")
    start = time.perf_counter()
    with pytest.raises(LimitExceeded, match="more than 200:1"):
        formats.open(path)
    assert time.perf_counter() - start < 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"N" * 70_000_000)
    with pytest.raises(LimitExceeded, match="limit 67,108,864"):
        formats.open(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet.pth", "a zip that contains resnet.pth; unpack it first"),
        ("x/arr_0.npy", "not a numpy array"),
        ("[Content_Types].xml", "Office document"),
        ("readme.txt", "a zip that contains readme.txt, not a checkpoint"),
        ("m/archive_format", "torch.export"),
        ("model.weights.h5", "Keras"),
    ],
)
def test_other_zips(tmp_path: Path, name: str, words: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr(name, b"123")
    with pytest.raises(NotACheckpoint) as caught:
        formats.open(tmp_path / "x.pth")
    assert words in str(caught.value)


def test_tensors_that_lie(tmp_path: Path) -> None:
    """A shape or an offset beyond the storage is shown, and said to be dangerous."""
    save({"w": torch.arange(50.0)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        pickled = archive.read("a/data.pkl")
    for old, new, words in (
        (b"K2\x85", b"M\x00\x10\x85", "reaches beyond its storage"),  # 4,096 elements
        (b"QK\x00K2", b"QK\x03K2", "reaches beyond its storage"),
        (b"K\x01\x85", b"K\x01K\x01\x86", "strides that don't fit"),
        (b"K2\x85", b"\x88\x85", "not made of integers"),
        (b"K2\x85", b"J\xff\xff\xff\xff\x85", "impossible shape"),
        (b"QK\x00K2", b"QJ\xff\xff\xff\xffK2", "starts before its storage"),
    ):
        assert pickled.count(old) == 1, old
        with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
            archive.writestr("b/data.pkl", pickled.replace(old, new))
            archive.writestr("b/data/0", b"\0" * 200)
            archive.writestr("b/version", b"3\n")
        try:
            said = "; ".join(formats.open(tmp_path / "b.pth").danger)
        except NoTensors as error:  # without a shape there is nothing left to show
            said = str(error)
        assert 'the tensor "w" ' in said and words in said


def test_missing_storage(tmp_path: Path) -> None:
    save(STATE, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as new,
    ):
        for info in old.infolist():
            if not info.filename.endswith("data/1"):
                new.writestr(info.filename, old.read(info))
    found = formats.open(tmp_path / "b.pth")
    assert found.index["b"].storage.start == -1
    assert any("data of 1 storages is missing" in line for line in found.warnings)
