"""The tar of torch 0.1.1, and other tars."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path

import pytest
import torch
from test_torch import assert_tensors

from archfind import formats
from archfind.errors import CheckpointError, NotACheckpoint


def old_tar(path: Path, damage: str = "") -> dict[str, torch.Tensor]:
    """Writes what torch 0.1.1 wrote; torch itself reads it back in the test below."""
    weight = torch.arange(6.0).reshape(2, 3)
    count = torch.arange(4)
    storages = [(11, "cpu", torch.FloatStorage, weight), (12, "cpu", torch.LongStorage, count)]
    parts = {"sys_info": pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2)}

    file = io.BytesIO()
    pickle.dump(len(storages), file, 2)
    for key, place, kind, tensor in storages:
        pickle.dump((key, place, kind), file, 2)
        file.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
    pickle.dump([(13, 11, 3, 3)], file, 2)  # a view of the last three floats
    parts["storages"] = file.getvalue()

    file = io.BytesIO()
    tensors = [(1, 11, weight), (2, 12, count), (3, 13, weight[1]), (4, 11, weight.t())]
    pickle.dump(len(tensors), file, 2)
    for key, storage, tensor in tensors:
        pickle.dump((key, storage, torch.FloatTensor), file, 2)
        rank = tensor.dim()
        file.write(struct.pack("<i", rank) + b"\0" * 4)
        file.write(struct.pack(f"<{rank}q", *tensor.shape))
        file.write(struct.pack(f"<{rank}q", *tensor.stride()))
        file.write(struct.pack("<q", 0))
    parts["tensors"] = file.getvalue()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return obj.number if isinstance(obj, Numbered) else None

    file = io.BytesIO()
    tree = {"w": Numbered(1), "n": Numbered(2), "view": Numbered(3), "t": Numbered(4), "epoch": 5}
    Pickler(file, 2).dump(tree)
    parts["pickle"] = file.getvalue()

    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if damage == "link" and name == "tensors":
                info.type, info.size, info.linkname = tarfile.SYMTYPE, 0, "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
            if damage == "twice" and name == "pickle":
                archive.addfile(info, io.BytesIO(data))
    return {"w": weight, "n": count, "view": weight[1], "t": weight.t()}


class Numbered:
    def __init__(self, number: int) -> None:
        self.number = number


def test_old_tar(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    expected = old_tar(path)
    theirs = torch.load(path, weights_only=False)
    for key, tensor in expected.items():
        assert torch.equal(theirs[key], tensor), "the test's own writer is wrong"
    found = formats.open(path)
    assert found.format == "torch-tar"
    assert_tensors(found, expected)
    assert found.metadata == {"epoch": 5}
    assert found.index["view"].storage == found.index["w"].storage
    assert "torch.FloatStorage" in found.foreign


@pytest.mark.parametrize(("damage", "words"), [("link", "is a link"), ("twice", "twice")])
def test_doctored_tar(tmp_path: Path, damage: str, words: str) -> None:
    path = tmp_path / "old.pth"
    old_tar(path, damage)
    with pytest.raises(CheckpointError, match=words):
        formats.open(path)


def test_other_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.pth.tar", "w") as archive:
        info = tarfile.TarInfo("weights/resnet.pth")
        archive.addfile(info, io.BytesIO())
    with pytest.raises(NotACheckpoint, match=r"a tar that contains weights/resnet.pth; unpack it"):
        formats.open(tmp_path / "x.pth.tar")
