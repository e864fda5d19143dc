"""Hostile files of up to 100 MB: each must end within 10 s of CPU time and 512 MB.

    python benchmarks/hostile_large.py [WORD ...]      only those whose name has a WORD

Each is written to a temporary folder, read by `archfind inspect` in a process of its own, and
removed. What a file of that size costs is asserted; the table is for docs/security.md.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from hostile import build  # noqa: E402

SECONDS, MEGABYTES = 10.0, 512.0
MB = 1_000_000


def pickle_of(unit: bytes, count: int, opening: bytes = b"(", closing: bytes = b"l") -> bytes:
    """A pickle of `count` times the same opcodes."""
    return b"\x80\x02" + opening + unit * count + closing + b"."


def distinct(form: Callable[[int], bytes], size: int, width: int) -> bytes:
    """About `size` bytes of pieces that all differ."""
    return b"".join(form(i) for i in range(size // width))


def zipped(data: bytes) -> bytes:
    return build.torch_zip(data)


def header(entries: bytes) -> bytes:
    return build.safetensors(b"{" + entries + b"}", b"")


def tensors(count: int) -> bytes:
    """A state dict of so many empty tensors, each with a shape and a storage of its own."""
    one = b"".join(
        build.text(f"layer.{i}.weight") + build.tensor(str(i), 0, 0, (0, i), (1, 1))
        for i in range(count)
    )
    return b"\x80\x02}(" + one + b"u."


def onnx_of(one: bytes, count: int) -> bytes:
    return build.part(1, 8) + build.part(7, one * count) + build.part(8, build.part(2, 17))


def initializers(count: int) -> bytes:
    body = b"".join(build.part(5, build.part(8, f"w{i}") + build.part(1, 0)) for i in range(count))
    return build.part(1, 8) + build.part(7, body) + build.part(8, build.part(2, 17))


def many_members(count: int) -> bytes:
    members = [build.Member("a/data.pkl", build.STATE)]
    return build.zip_bytes(members + [build.Member(f"a/data/{i}", b"") for i in range(count)])


def tar_of_storages(count: int) -> bytes:
    one = build.pickled(
        b"(" + build.number(1) + build.text("cpu") + build.name("torch.FloatStorage") + b"t"
    )
    body = build.pickled(build.number(count)) + (one + struct.pack("<q", 0)) * count
    return build.torch_tar(storages=body + build.pickled(b"]"))


def legacy_of(count: int) -> bytes:
    state = tensors(count)
    keys = b"\x80\x02](" + b"".join(build.text(str(i)) for i in range(count)) + b"e."
    return build.legacy(state, keys, data=b"\0" * 8 * count)


def deflated_tensor(path: Path) -> None:
    """A gigabyte of zeros, deflated, as a storage: an honest file, re-zipped."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        state = build.pickled(
            build.mapping(w=build.tensor(numel=1 << 28, size=(1 << 28,), stride=(1,)))
        )
        archive.writestr("a/data.pkl", state)
        with archive.open("a/data/0", "w", force_zip64=True) as member:
            for _ in range(1024):
                member.write(b"\0" * (1 << 20))


def bomb(path: Path) -> None:
    """data.pkl of 2 GB of zeros, with honest headers."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    crc, parts = 0, []
    for _ in range(2048):
        crc = zlib.crc32(b"\0" * (1 << 20), crc)
        parts.append(squeeze.compress(b"\0" * (1 << 20)))
    packed = b"".join(parts) + squeeze.flush()
    member = build.Member("a/data.pkl", packed, crc=crc, size=2 << 30, local_method=8)
    member.method = 8
    path.write_bytes(build.zip_bytes([member]))


def sparse(path: Path) -> None:
    """A safetensors file of a terabyte that takes no room."""
    size = 1 << 40
    data = build.safetensors({"w": build.entry((size // 4,), 0, size)}, b"")
    path.write_bytes(data)
    os.truncate(path, len(data) + size)


FILES: dict[str, Callable[[], bytes] | Callable[[Path], None]] = {
    "pickle: dicts of one entry": lambda: pickle_of(b"}NNs", 16 * MB),
    "pickle: dicts of one entry, kept": lambda: pickle_of(b"}K\x01K\x01s", 10 * MB),
    "pickle: lists of one entry": lambda: pickle_of(b"]Na", 20 * MB),
    "pickle: sets": lambda: pickle_of(b"(N\x91", 20 * MB),
    "pickle: tuples": lambda: pickle_of(b"NNN\x87", 16 * MB),
    "pickle: tuples by a mark": lambda: pickle_of(b"(NNNNt", 10 * MB),
    "pickle: marks": lambda: pickle_of(b"(", 60 * MB, b"", b""),
    "pickle: marks and pops": lambda: pickle_of(b"(1", 30 * MB),
    "pickle: None": lambda: pickle_of(b"N", 60 * MB),
    "pickle: memo": lambda: pickle_of(b"\x94", 60 * MB, b"N", b""),
    "pickle: memo by number": lambda: b"\x80\x02N" + distinct(lambda i: b"r" + struct.pack("<I", i * 977 & 0xFFFFFFFF), 60 * MB, 5) + b".",
    "pickle: short texts": lambda: b"\x80\x04(" + distinct(lambda i: b"\x8c\x08%08d" % i, 60 * MB, 10) + b"l.",
    "pickle: long texts": lambda: pickle_of(b"X" + struct.pack("<I", 1_000_000) + b"x" * 1_000_000, 60),
    "pickle: long texts, wide": lambda: pickle_of(b"X" + struct.pack("<I", 1_000_000) + "\U0001f600".encode() + b"x" * 999_996, 60),
    "pickle: one line, wide": lambda: b"\x80\x02V\\U0001f600" + b"x" * 66 * MB + b"\n.",
    "pickle: lines, wide": lambda: pickle_of(b"V\\U0001f600" + b"x" * 20 * MB + b"\n", 3),
    "pickle: keys": lambda: b"\x80\x04}(" + distinct(lambda i: b"\x8c\x08%08dN" % i, 60 * MB, 11) + b"u.",
    "pickle: keys that collide": lambda: b"\x80\x02}(" + distinct(lambda i: b"\x8a\x0c" + (i * ((1 << 61) - 1)).to_bytes(12, "little") + b"N", 60 * MB, 15) + b"u.",
    "pickle: floats": lambda: pickle_of(b"G" + b"\x3f" * 8, 6 * MB),
    "pickle: wide integers": lambda: pickle_of(b"\x8a\xff" + b"\x11" * 255, 230_000),
    "pickle: decimal integers": lambda: pickle_of(b"I" + b"7" * 1_000 + b"\n", 60_000),
    "pickle: globals": lambda: b"\x80\x02(" + distinct(lambda i: b"cm\nC%08d\n" % i, 60 * MB, 14) + b"l.",
    "pickle: one global": lambda: pickle_of(b"cos\nsystem\n", 5 * MB),
    "pickle: calls": lambda: pickle_of(b"h\x00)R", 14 * MB, b"cm\nC\nq\x00("),
    "pickle: calls with state": lambda: pickle_of(b"h\x00)\x81}b", 10 * MB, b"cm\nC\nq\x00("),
    "pickle: calls with entries": lambda: pickle_of(b"h\x00)RNNsNa", 6 * MB, b"cm\nC\nq\x00("),
    "pickle: OrderedDict": lambda: pickle_of(b"h\x00)R", 14 * MB, b"ccollections\nOrderedDict\nq\x00("),
    "pickle: tensors": lambda: pickle_of(b"h\x00h\x01R", 12 * MB, b"ctorch._utils\n_rebuild_tensor_v2\nq\x00" + build.tensor()[len(build.name("torch._utils._rebuild_tensor_v2")):-1] + b"q\x010("),
    "pickle: storages": lambda: b"\x80\x02(" + distinct(lambda i: build.storage(str(i)), 60 * MB, 70) + b"l.",
    "pickle: bytes": lambda: pickle_of(b"C\x01x", 20 * MB),
    "pickle: numpy": lambda: pickle_of(build.call("numpy.dtype", b"X\2\0\0\0f8"), 2 * MB),
    "pickle: of 100 MB": lambda: pickle_of(b"N0", 50 * MB, b"N", b""),
    "pickle: trees of tensors": lambda: zipped(tensors(280_000)),
    "zip: 60 MB of data.pkl": lambda: zipped(pickle_of(b"N0", 30 * MB, b"N", b"")),
    "zip: 200,000 members": lambda: many_members(200_000),
    "zip: 300,000 members": lambda: many_members(300_000),
    "zip: 2 GB in 2 MB": bomb,
    "zip: a tensor of 1 GB, deflated": deflated_tensor,
    "legacy: 200,000 storages": lambda: legacy_of(200_000),
    "tar: 200,000 storages": lambda: tar_of_storages(200_000),
    "tar: 10,000 members": lambda: build.tar_bytes([(f"f{i}", b"") for i in range(10_001)]) + b"\0" * 90 * MB,
    "safetensors: an object of objects": lambda: header(b",".join([b'"%d":{}' % i for i in range(2 * MB)])),
    "safetensors: lists": lambda: header(b'"a":[' + b"[]," * (2 * MB - 5) + b"1]"),
    "safetensors: numbers": lambda: header(b'"a":[' + b",".join([b"%d" % i for i in range(2_490_000)]) + b"]"),
    "safetensors: texts": lambda: header(b'"a":[' + b",".join([b'"%015d"' % i for i in range(2_490_000)]) + b"]"),
    "safetensors: one text": lambda: header(b'"a":"' + b"x" * 99 * MB + b'"'),
    "safetensors: one text, wide": lambda: header(b'"a":"' + "\U0001f600".encode() + b"x" * 99 * MB + b'"'),
    "safetensors: one text, an escape": lambda: header(b'"a":"\\ud83d\\ude00' + b"x" * 99 * MB + b'"'),
    "safetensors: one text of escapes": lambda: header(b'"a":"' + b"\\u00e9" * 16 * MB + b'"'),
    "safetensors: blanks": lambda: header(b" " * 99 * MB),
    "safetensors: digits": lambda: header(b'"a":' + b"9" * 99 * MB),
    "safetensors: a float": lambda: header(b'"a":0.' + b"9" * 99 * MB),
    "safetensors: floats": lambda: header(b'"a":[' + b",".join([b"0." + b"7" * 300] * 300_000) + b"]"),
    "safetensors: tensors": lambda: header(b",".join(b'"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(290_000))),
    "safetensors: metadata": lambda: header(b'"__metadata__":{' + b",".join(b'"%07d":"x"' % i for i in range(1_240_000)) + b"}"),
    "safetensors: a terabyte": sparse,
    "index: weights": lambda: json.dumps({"weight_map": {f"w{i}": "a.bin" for i in range(1_240_000)}}).encode(),
    "index: shards": lambda: json.dumps({"weight_map": {f"w{i}": f"{i % 9999}.bin" for i in range(1_240_000)}}).encode(),
    "onnx: initializers": lambda: initializers(299_000),
    "onnx: initializers, twice": lambda: onnx_of(build.part(5, build.part(8, "w")), 10 * MB),
    "onnx: nodes": lambda: onnx_of(build.part(1, b""), 45 * MB),
    "onnx: fields": lambda: onnx_of(b"\x08\x01", 48 * MB),
    "onnx: fields of the model": lambda: build.part(1, 8) * 50 * MB,
    "onnx: dimensions": lambda: onnx_of(build.part(5, build.part(1, b"\1" * 60) + build.part(8, "w")), 1_400_000),
    "onnx: inputs": lambda: onnx_of(build.part(11, build.part(1, "x") + build.part(2, build.part(1, build.part(2, build.part(1, b"") * 60)))), 600_000),
    "text: 100 MB": lambda: b"x" * 100 * MB,
    "text: a page of 100 MB": lambda: b"<html>" + b"x" * 100 * MB,
    "text: JSON of 100 MB": lambda: b'{"a":"' + b"x" * 100 * MB,
    "noise: 100 MB": lambda: os.urandom(100 * MB),
    "zeros: 100 MB": lambda: b"\0" * 100 * MB,
}  # fmt: skip


def measured(name: str, folder: Path) -> dict:
    """What reading the file costs, and what is said of it."""
    path = folder / "x.pth"
    make = FILES[name]
    if make in (bomb, deflated_tensor, sparse):
        make(path)  # type: ignore[call-arg]
    else:
        path.write_bytes(make())  # type: ignore[call-arg, arg-type]
    task = {"argv": ["inspect", str(path)], "cwd": str(folder), "files": [str(path)]}
    done = subprocess.run(
        [sys.executable, str(TESTS / "hostile" / "driver.py")],
        input=json.dumps([task]),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {build.MARKERS: str(folder)},
    )
    size = path.stat().st_size
    path.unlink()
    return json.loads(done.stdout) | {"size": size}


def main() -> int:
    words = sys.argv[1:]
    failed = 0
    print(f"{'file':<36} {'size':>12} {'s':>6} {'MB':>5}  ends")
    for name in FILES:
        if words and not any(word in name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measured(name, Path(folder))
        fine = (
            found["seconds"] < SECONDS
            and found["megabytes"] < MEGABYTES
            and not found["found"]
            and found["code"] in (0, 2)
            and "Traceback" not in found["err"]
            and "can't be followed" not in found["err"]
        )
        failed += not fine
        said = (found["err"] or found["out"]).partition("x.pth: ")[2].partition("\n")[0]
        print(
            f"{name:<36} {found['size'] / 1e6:9.1f} MB {found['seconds']:6.2f} "
            f"{found['megabytes']:5.0f}  {'' if fine else 'FAILED '}{found['code']} {said[:70]}",
            flush=True,
        )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
