"""The other containers that hold tensors: GGUF, numpy's, torch.package, torch.export, zips and tars
of checkpoints, folders."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

from .build import (
    FLOATS,
    Member,
    call,
    entry,
    initializer,
    mapping,
    name,
    number,
    numbers,
    onnx,
    pickled,
    safetensors,
    tar_bytes,
    tensor,
    text,
    torch_zip,
    zip_bytes,
)
from .case import READ, REFUSED, Case, beside, holding

_SYSTEM = call("os.system", text("true"))
_EVIL = pickled(_SYSTEM)
_EVIL_STATE = pickled(mapping(weight=tensor(), hook=_SYSTEM))

# --- GGUF ---


def _text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _pair(key: str, kind: int, raw: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + raw


def _gguf_tensor(
    name: str | bytes = "w", dims: tuple[int, ...] = (3, 2), kind: int = 0, offset: int = 0
) -> bytes:
    return _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gguf(
    tensors: list[bytes] | None = None,
    pairs: list[bytes] | None = None,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    data: bytes = FLOATS,
) -> bytes:
    """A GGUF file."""
    tensors = [_gguf_tensor()] if tensors is None else tensors
    pairs = [_pair("general.architecture", 8, _text("llama"))] if pairs is None else pairs
    counts = counts or (len(tensors), len(pairs))
    out = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(tensors)
    return out + b"\0" * (-len(out) % 32) + data


_GGUF: tuple[tuple[str, bytes, int, str], ...] = (
    ("honest", gguf(), READ, "gguf"),
    ("version 1", gguf(version=1), REFUSED, "version 1"),
    ("big-endian", gguf(version=3 << 24), REFUSED, "big-endian"),
    ("version 2**31", gguf(version=1 << 31), REFUSED, "not supported"),
    ("only a magic", b"GGUF", REFUSED, "x.pth"),
    ("cut off in its header", gguf()[:60], REFUSED, "x.pth"),
    ("cut off in its data", gguf()[:-4], REFUSED, "cut off"),
    ("no tensors", gguf([]), REFUSED, "no tensors"),
    ("2**63 tensors", gguf(counts=(1 << 63, 1)), REFUSED, "counts more than the file holds"),
    ("2**63 values", gguf(counts=(1, 1 << 63)), REFUSED, "counts more than the file holds"),
    ("a text of 2**63", gguf(pairs=[_pair("a", 8, struct.pack("<Q", 1 << 63))]), REFUSED, "a GGUF text of"),
    ("a key of 2**40", gguf(pairs=[struct.pack("<Q", 1 << 40)]), REFUSED, "a GGUF text of"),
    ("a value of type 99", gguf(pairs=[_pair("a", 99, b"")]), REFUSED, "type 99"),
    ("an array of 2**60 numbers", gguf(pairs=[_pair("a", 9, struct.pack("<IQ", 4, 1 << 60))]), REFUSED, "longer than the file"),
    ("an array of 2**60 texts", gguf(pairs=[_pair("a", 9, struct.pack("<IQ", 8, 1 << 60))]), REFUSED, "counts more than"),
    ("an array of arrays", gguf(pairs=[_pair("a", 9, struct.pack("<IQ", 9, 1))]), REFUSED, "array of arrays"),
    ("an alignment of 0", gguf(pairs=[_pair("general.alignment", 4, struct.pack("<I", 0))]), REFUSED, "alignment"),
    ("an alignment of 2**31", gguf(pairs=[_pair("general.alignment", 4, struct.pack("<I", 1 << 31))]), REFUSED, "alignment"),
    ("an alignment of text", gguf(pairs=[_pair("general.alignment", 8, _text("x"))]), REFUSED, "alignment"),
    ("9 dimensions", gguf([_gguf_tensor(dims=(1,) * 9)]), REFUSED, "9 dimensions"),
    ("a size of 2**63", gguf([_gguf_tensor(dims=(1 << 63,))]), REFUSED, "impossible shape"),
    ("sizes that overflow", gguf([_gguf_tensor(dims=(1 << 62, 1 << 62))]), REFUSED, "cut off"),
    ("an offset of 2**63", gguf([_gguf_tensor(offset=1 << 63)]), REFUSED, "cut off"),
    ("half a block", gguf([_gguf_tensor(dims=(31, 1), kind=2)]), REFUSED, "whole blocks"),
    ("an unknown type", gguf([_gguf_tensor(kind=77)]), READ, "ggml_type_77"),
    ("a tensor twice", gguf([_gguf_tensor(), _gguf_tensor()]), REFUSED, "stands twice"),
    ("control characters in a name", gguf([_gguf_tensor("w\x1b[31m\n")]), READ, "w\\x1b[31m\\x0a"),
    ("a name that is no UTF-8", gguf([_gguf_tensor(b"\xff\xfe")]), READ, "1 tensors"),
    ("control characters in a value", gguf(pairs=[_pair("a\x1b", 8, _text("\x1b[2J"))]), READ, "a\\x1b = \\x1b[2J"),
)  # fmt: skip

# --- numpy ---


def npy(
    descr: str = "'<f4'", shape: str = "(2, 3)", fortran: str = "False", data: bytes = FLOATS,
    magic: bytes = b"\x93NUMPY\x01\x00", length: int | None = None,
) -> bytes:  # fmt: skip
    """A .npy file."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return magic + struct.pack("<H", len(header) if length is None else length) + header + data


def npz(**arrays: bytes) -> bytes:
    """A .npz file."""
    return zip_bytes([Member(f"{key}.npy", data) for key, data in arrays.items()])


_NUMPY: tuple[tuple[str, bytes, int, str], ...] = (
    ("honest array", npy(), READ, "npy"),
    ("honest archive", npz(w=npy(), b=npy()), READ, "npz"),
    ("honest archive, deflated", zip_bytes([Member("w.npy", npy(), method=8)]), READ, "npz"),
    ("an array of objects", npy("'|O'", data=_EVIL), REFUSED, "Python objects (a pickle, which is not run)"),
    ("an archive with objects", npz(w=npy(), x=npy("'|O'", data=_EVIL)), READ, "Python objects"),
    ("a shape that overflows", npy(shape="(4611686018427387904, 4)"), REFUSED, "shorter than its shape"),
    ("a negative shape", npy(shape="(-2, -3)"), REFUSED, "makes no sense"),
    ("a shape of a call", npy(shape="__import__('os').system('true')"), REFUSED, "makes no sense"),
    ("a shape of 1,000 dimensions", npy(shape="(" + "1, " * 1000 + ")"), REFUSED, "makes no sense"),
    ("a header of 65,535", npy(length=65_535), REFUSED, "a header of 65,535 bytes"),
    ("a header of nothing", npy(length=0), REFUSED, "makes no sense"),
    ("version 9", npy(magic=b"\x93NUMPY\x09\x00"), REFUSED, "not a numpy array"),
    ("only a magic", b"\x93NUMPY", REFUSED, "not a numpy array"),
    ("data cut off", npy()[:-4], REFUSED, "shorter than its shape"),
    ("records", npy("[('a', '<f4')]"), REFUSED, "records"),
    ("an unknown type", npy("'<q9\x1b'"), REFUSED, "q9\\x1b"),
    ("a member that is none", zip_bytes([Member("w.npy", b"x" * 40)]), REFUSED, "not a numpy array"),
)  # fmt: skip

# --- zips and tars of checkpoints ---

_PACKAGE = [Member("p/.data/version", b"6\n"), Member("p/model/model.py", b"import os\n")]


def _laughs() -> bytes:
    data = b"]q\x00I1\na"
    for i in range(5):
        data += b"]q" + bytes([i + 1]) + b"(" + (b"h" + bytes([i])) * 14 + b"e"
    return pickled(data)


def _nested(depth: int) -> bytes:
    data = torch_zip()
    for _ in range(depth):
        data = zip_bytes([Member("inner.pth", data)])
    return data


_MODEL = {
    "mainModule": {"name": "m", "parameters": [{"name": "w", "tensorId": "0"}]},
    "tensors": [{"dims": ["2", "3"], "strides": ["3", "1"], "dataType": "FLOAT",
                 "data": {"key": "tensors/0"}}],
}  # fmt: skip
_WEIGHTS = {"config": {"w": {"path_name": "weight_0", "use_pickle": False, "tensor_meta": {
    "dtype": 7, "sizes": [{"as_int": 2}, {"as_int": 3}], "strides": [{"as_int": 3}, {"as_int": 1}],
    "storage_offset": {"as_int": 0}}}}}  # fmt: skip


def _json_model(**changes: object) -> bytes:
    model = json.dumps(_MODEL | changes).encode()
    return zip_bytes([Member("m/model.json", model), Member("m/tensors/0", FLOATS)])


def _exported(config: object, weight: bytes = FLOATS) -> bytes:
    folder = "m/data/weights/"
    return zip_bytes([
        Member("m/archive_format", b"pt2"),
        Member(folder + "model_weights_config.json", json.dumps(config).encode()),
        Member(folder + "weight_0", weight),
    ])  # fmt: skip


def _weights(**changes: object) -> object:
    found = json.loads(json.dumps(_WEIGHTS))
    found["config"]["w"] |= changes
    return found


_NESTED: tuple[tuple[str, bytes | Callable[[], bytes], int, str, bool], ...] = (
    ("a zip of a checkpoint", _nested(1), READ, "zip of torch-zip", False),
    ("a zip of a zip of ...", _nested(40), REFUSED, "unpack it first", False),
    ("a zip of one that runs code", zip_bytes([Member("a.pth", torch_zip(_EVIL_STATE))]), READ, "would call os.system", True),
    ("a zip of one that only runs code", zip_bytes([Member("a.pkl", _EVIL)]), REFUSED, "would call os.system", True),
    ("a good one beside one that runs code", zip_bytes([Member("a.pth", torch_zip()), Member("b.pkl", _EVIL)]), READ, "would call os.system", True),
    ("a good one beside a broken one that runs code", zip_bytes([Member("a.pth", torch_zip()), Member("b.pkl", _EVIL[:-1] + b"\xff" * 20)]), READ, "would call os.system", True),
    ("500 members of much work", zip_bytes([Member(f"{i}.pkl", _laughs()) for i in range(500)]), REFUSED, "too much together", False),
    ("900 members that inflate", lambda: zip_bytes([Member(f"{i}.pkl", pickled(b"N" + b"0N" * 500_000), method=8) for i in range(900)]), REFUSED, "refused: ", False),
    ("a member that inflates to 65 MB", lambda: zip_bytes([Member("a.pkl", b"\x80\x02" + b"N0" * (33 << 20), method=8)]), REFUSED, "compressed; unpack it first", False),
    ("a member with control characters", zip_bytes([Member("\x1b[31m.pth", torch_zip()), Member("b.pth", torch_zip())]), READ, "\\x1b[31m", False),
    ("a tar of a checkpoint", tar_bytes([("a.pth", torch_zip())]), READ, "tar of torch-zip", False),
    ("a tar of one that runs code", tar_bytes([("a.pkl", _EVIL)]), REFUSED, "would call os.system", True),
    ("settings of control characters", zip_bytes([Member("a.pth", torch_zip()), Member("config.json", b'{"arch": "\\u001b[2J"}')]), READ, "\\x1b[2J", False),
    ("settings nested deep", zip_bytes([Member("a.pth", torch_zip()), Member("config.json", b'{"a":' * 50_000)]), READ, "zip of", False),
    ("a package", zip_bytes([*_PACKAGE, Member("p/model/m.pkl", pickled(mapping(w=tensor())))]), READ, "torch-package", False),
    ("a package that runs code", zip_bytes([*_PACKAGE, Member("p/model/m.pkl", _EVIL_STATE)]), READ, "would call os.system", True),
    ("a package of broken pickles", zip_bytes([*_PACKAGE, Member("p/model/m.pkl", _EVIL[:-1] + b"\xff")]), REFUSED, "would call os.system", True),
    ("a package of storages outside", zip_bytes([*_PACKAGE, Member("p/model/m.pkl", pickled(mapping(w=tensor("../../etc/passwd"))))]), READ, "../../etc/passwd", False),
    ("TorchScript 1.0", _json_model(), READ, "torchscript-1.0", False),
    ("TorchScript 1.0, a tensor beyond", _json_model(mainModule={"parameters": [{"name": "w", "tensorId": "9"}]}), REFUSED, "a tensor that isn't there", False),
    ("TorchScript 1.0, a key that climbs", _json_model(tensors=[{"dims": ["2"], "dataType": "FLOAT", "data": {"key": "../../etc/passwd"}}]), REFUSED, "is missing", False),
    ("TorchScript 1.0, a shape of 2**60", _json_model(tensors=[{"dims": [str(1 << 60)], "dataType": "FLOAT", "data": {"key": "tensors/0"}}]), READ, "beyond its storage", True),
    ("TorchScript 1.0, of nothing", _json_model(mainModule=5, tensors=7), REFUSED, "no tensors", False),
    ("torch.export", _exported(_WEIGHTS), READ, "torch-export", False),
    ("torch.export, a path that climbs", _exported(_weights(path_name="../../../../etc/passwd")), REFUSED, "is missing", False),
    ("torch.export, a pickle that runs code", _exported(_weights(use_pickle=True), torch_zip(_EVIL_STATE)), READ, "would call os.system", True),
    ("torch.export, a shape of texts", _exported(_weights(tensor_meta={"dtype": 7, "sizes": [{"as_int": "2"}], "strides": [1]})), REFUSED, "no tensors", True),
    ("torch.export, a dtype of a list", _exported(_weights(tensor_meta={"dtype": [], "sizes": [], "strides": []})), READ, "starts before its storage", True),
    ("torch.export, a list", _exported([1]), REFUSED, "no tensors", False),
)  # fmt: skip

# --- folders ---


def _folder(files: dict[str, bytes]):
    def write(folder: Path) -> Path:
        beside("", files)(folder)
        return folder

    return write


def _links(folder: Path) -> Path:
    (folder / "model.safetensors").symlink_to("/dev/zero")
    return folder


def _dcp(file: str, offsets: bytes = numbers((0, 0))) -> bytes:
    """A `.metadata` whose one chunk lies in `file`."""
    module = "torch.distributed.checkpoint.metadata."

    def made(cls: str, **state: bytes) -> bytes:
        return name(module + cls) + b")\x81" + mapping(**state) + b"b"

    chunk = made("ChunkStorageMetadata", offsets=numbers((0, 0)), sizes=numbers((2, 3)))
    described = made("TensorStorageMetadata", size=numbers((2, 3)), chunks=b"](" + chunk + b"e")
    index = made("MetadataIndex", fqn=text("w"), offset=offsets)
    where = made("_StorageInfo", relative_path=text(file), offset=number(0), length=number(24))
    placed = b"}(" + index + where + b"u"
    return pickled(made("Metadata", state_dict_metadata=mapping(w=described), storage_data=placed))


_SAFE = safetensors({"w": entry()})
_FOLDERS: list[Case] = [
    Case("folder/honest", _folder({"model.safetensors": _SAFE}), READ, "safetensors"),
    Case("folder/a device for a model", _links, REFUSED, "is not a regular file"),
    Case("folder/two models", _folder({"a.pth": torch_zip(), "b.pth": torch_zip()}), REFUSED, "it holds a.pth, b.pth"),
    Case("folder/names of control characters", _folder({"\x1b[31m.pth": torch_zip(), "b.pth": torch_zip()}), REFUSED, "\\x1b[31m.pth"),
    Case("folder/shards that run code", _folder({"m-00001-of-00002.bin": torch_zip(), "m-00002-of-00002.bin": torch_zip(_EVIL)}), READ, "would call os.system", True),
    Case("folder/an index that climbs", _folder({"model.safetensors.index.json": b'{"weight_map":{"a":"../x"}}'}), REFUSED, "is not a plain file name"),
    Case("folder/latest that climbs", _folder({"latest": b"../../etc\n"}), REFUSED, "is a folder"),
    Case("folder/chunks", _folder({".metadata": _dcp("__0_0.distcp"), "__0_0.distcp": torch_zip()}), READ, "torch-dcp"),
    Case("folder/chunks that climb", _folder({".metadata": _dcp("../../etc/passwd")}), REFUSED, "is not a plain file name"),
    Case("folder/chunks that are missing", _folder({".metadata": _dcp("a\x1b.distcp")}), READ, "a\\x1b.distcp"),
    Case("folder/chunks at odd offsets", _folder({".metadata": _dcp("a", b"(]Nt")}), READ, "torch-dcp"),
    Case("folder/ranks that disagree", _folder({"consolidated.00.pth": torch_zip(), "consolidated.01.pth": torch_zip(pickled(mapping(weight=tensor(size=(), stride=()))))}), READ, "consolidated"),
    Case("folder/ranks of nothing", _folder({"consolidated.00.pth": torch_zip(), "consolidated.01.pth": b""}), REFUSED, "is empty"),
]  # fmt: skip


def _onnx_hard_link(folder: Path) -> Path:
    """The data file is another name of a file elsewhere."""
    from .build import outside

    (folder / "secret").write_bytes(FLOATS)
    (folder / "model").mkdir()
    (folder / "model" / "w.data").hardlink_to(folder / "secret")
    path = folder / "model" / "x.onnx"
    path.write_bytes(onnx(initializer(raw=None, more=outside("w.data"))))
    return path


ARCHIVES: list[Case] = [
    *(Case(f"gguf/{where}", holding(data), code, says) for where, data, code, says in _GGUF),
    *(
        Case(f"numpy/{where}", holding(data), code, says, "objects" in where)
        for where, data, code, says in _NUMPY
    ),
    *(
        Case(f"{'bomb' if callable(data) else 'nested'}/{where}", holding(data), code, says, danger)
        for where, data, code, says, danger in _NESTED
    ),
    *_FOLDERS,
    Case("onnx/data with a second name", _onnx_hard_link, READ, "not a plain file of one name"),
]
