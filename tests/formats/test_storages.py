"""How torch's files keep storages: strides, ties, deflated members, the other byte order."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from layout_files import same, saved, values

from archfind.errors import BuildError


@pytest.mark.parametrize("zipped", [True, False])
def test_views_strides_and_ties(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0)
    state = {
        "t": base.view(4, 6).t(),
        "slice": base[3:9:2],
        "row": base.view(2, 12)[1],
        "wide": base[:1].expand(5),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3, dtype=torch.int16),
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "bits": torch.tensor([True, False]),
        "complex": torch.randn(2, dtype=torch.complex64),
    }
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = values(tmp_path / "x.pth")
    same(found, state)
    assert found["t"].untyped_storage().data_ptr() == found["row"].untyped_storage().data_ptr()


def rezipped(data: bytes, method: int, big: bool = False) -> bytes:
    """A torch zip written again: deflated, or as a big-endian machine would have."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for name in old.namelist():
            member = old.read(name)
            if big and "/data/" in name:
                member = np.frombuffer(member, "<f4").byteswap().tobytes()
            new.writestr(name, b"big" if big and name.endswith("byteorder") else member)
    return out.getvalue()


@pytest.mark.parametrize(("method", "big"), [(zipfile.ZIP_DEFLATED, False), (0, True)])
def test_deflated_and_big_endian_storages(tmp_path: Path, method: int, big: bool) -> None:
    base = torch.randn(1000)
    state = {"a": base[10:20], "b": base.view(10, 100).t(), "zeros": torch.zeros(300, 300)}
    (tmp_path / "x.pth").write_bytes(rezipped(saved(state), method, big))
    found = values(tmp_path / "x.pth")
    same(found, state)


def test_a_deflated_storage_with_a_wrong_checksum_is_not_loaded(tmp_path: Path) -> None:
    data = bytearray(rezipped(saved({"a": torch.randn(1000)}), zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = next(one for one in archive.infolist() if "/data/0" in one.filename)
    for at in (data.find(struct.pack("<L", info.CRC)), data.rfind(struct.pack("<L", info.CRC))):
        data[at] ^= 1
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(BuildError, match="checksum"):
        values(tmp_path / "x.pth")
