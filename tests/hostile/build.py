"""Small honest files, and the pieces that doctored ones are made of. Standard library only."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import dataclass, field

MARKERS = "ARCHFIND_MARKERS"  # the folder where a payload that ran would leave a file

# --- pickles ---

SHELL = f'touch "${MARKERS}/ran"'
PYTHON = f"open(__import__('os').environ['{MARKERS}'] + '/ran', 'w').close()"
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
SYSTEM = b"\x80\x02}(X\x10\0\0\0protocol_versionM\xe9\x03X\x0d\0\0\0little_endian\x88u."


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """BININT, or LONG1 for a wide one."""
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values: tuple[int, ...]) -> bytes:
    """A tuple of them."""
    return b"(" + b"".join(map(number, values)) + b"t"


def name(dotted: str) -> bytes:
    """GLOBAL."""
    module, _, last = dotted.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def call(dotted: str, *args: bytes) -> bytes:
    """GLOBAL, the arguments, REDUCE."""
    return name(dotted) + b"(" + b"".join(args) + b"tR"


def storage(key: str = "0", numel: int = 6, kind: str = "torch.FloatStorage") -> bytes:
    """The persistent id of a storage in a zip."""
    return b"(" + text("storage") + name(kind) + text(key) + text("cpu") + number(numel) + b"tQ"


def tensor(
    key: str = "0",
    numel: int = 6,
    offset: int = 0,
    size: tuple[int, ...] = (2, 3),
    stride: tuple[int, ...] = (3, 1),
    kind: str = "torch.FloatStorage",
) -> bytes:
    """A call of `_rebuild_tensor_v2`."""
    hooks = call("collections.OrderedDict")
    parts = (number(offset), numbers(size), numbers(stride), b"\x89", hooks)
    return call("torch._utils._rebuild_tensor_v2", storage(key, numel, kind), *parts)


def mapping(**entries: bytes) -> bytes:
    """A dict of texts to values."""
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def pickled(body: bytes, protocol: int = 2) -> bytes:
    """A whole pickle."""
    return b"\x80" + bytes([protocol]) + body + b"."


STATE = pickled(mapping(weight=tensor(), bias=tensor("1", 3, 0, (3,), (1,))))
FLOATS = struct.pack("<6f", *range(6))

# --- zip ---


@dataclass
class Member:
    """One member; what is None is computed, what is set is written as it is."""

    name: str | bytes
    data: bytes
    method: int = 0
    flags: int = 0
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    size: int | None = None
    local_size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    header: int | None = None
    attributes: int = 0
    extra: bytes = b""
    packed: bytes = field(init=False)

    def __post_init__(self) -> None:
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        stored = self.method != 8
        self.packed = self.data if stored else squeeze.compress(self.data) + squeeze.flush()

    @property
    def raw_name(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode()


def zip_bytes(
    members: list[Member],
    *,
    comment: bytes = b"",
    before: bytes = b"",
    after: bytes = b"",
    between: bytes = b"",
    count: int | None = None,
    directory_size: int | None = None,
    directory_start: int | None = None,
    disk: int = 0,
) -> bytes:
    """A zip file with any header doctored."""
    out = io.BytesIO()
    out.write(before)
    central = io.BytesIO()
    for one in members:
        at = out.tell()
        crc = zlib.crc32(one.data) if one.crc is None else one.crc
        size = len(one.data) if one.size is None else one.size
        packed = len(one.packed) if one.packed_size is None else one.packed_size
        local = one.raw_name if one.local_name is None else one.local_name
        out.write(
            struct.pack(
                "<4s5H3L2H",
                b"PK\x03\x04",
                20,
                one.flags if one.local_flags is None else one.local_flags,
                one.method if one.local_method is None else one.local_method,
                0,
                0,
                crc,
                packed,
                size if one.local_size is None else one.local_size,
                len(local),
                len(one.extra),
            )
            + local
            + one.extra
            + one.packed
            + between
        )
        central.write(
            struct.pack(
                "<4s6H3L5H2L",
                b"PK\x01\x02",
                (3 << 8) + 20,
                20,
                one.flags,
                one.method,
                0,
                0,
                crc,
                packed,
                size,
                len(one.raw_name),
                0,
                0,
                0,
                0,
                one.attributes,
                at if one.header is None else one.header,
            )
            + one.raw_name
        )
    start = out.tell()
    found = central.getvalue()
    total = len(members) if count is None else count
    out.write(found)
    if total > 0xFFFF:
        at = out.tell()
        wide = (44, 45, 45, 0, 0, total, total, len(found), start)
        out.write(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", *wide))
        out.write(struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1))
        total = 0xFFFF
    out.write(
        struct.pack(
            "<4s4H2LH",
            b"PK\x05\x06",
            disk,
            0,
            total,
            total,
            len(found) if directory_size is None else directory_size,
            start if directory_start is None else directory_start,
            len(comment),
        )
        + comment
        + after
    )
    return out.getvalue()


def members(pickle: bytes = STATE, root: str = "archive", **doctored: object) -> list[Member]:
    """What torch.save writes; `doctored` goes to the member of data.pkl."""
    return [
        Member(f"{root}/data.pkl", pickle, **doctored),  # type: ignore[arg-type]
        Member(f"{root}/byteorder", b"little"),
        Member(f"{root}/data/0", FLOATS),
        Member(f"{root}/data/1", FLOATS[:12]),
        Member(f"{root}/version", b"3\n"),
    ]


def torch_zip(pickle: bytes = STATE, **doctored: object) -> bytes:
    """A file of torch.save with this data.pkl."""
    return zip_bytes(members(pickle, **doctored))


# --- torch legacy ---


def legacy(
    state: bytes | None = None,
    keys: bytes | None = None,
    system: bytes = SYSTEM,
    magic: bytes = MAGIC,
    protocol: bytes = PROTOCOL,
    data: bytes | None = None,
) -> bytes:
    """A file of torch 0.4: five pickles, then the storages."""
    state = state or pickled(mapping(weight=tensor()))
    keys = keys or pickled(b"](" + text("0") + b"e")
    data = struct.pack("<q", 6) + FLOATS if data is None else data
    return magic + protocol + system + state + keys + data


# --- torch tar ---


def tar_bytes(parts: list[tuple[str, bytes]], kind: bytes = b"0", links: str = "") -> bytes:
    """A ustar file; members named in `links` become symbolic links."""
    out = b""
    for part, data in parts:
        link = part in links.split()
        header = bytearray(512)
        header[:100] = part.encode()[:100].ljust(100, b"\0")
        header[100:108] = b"0000644\0"
        header[124:136] = b"%011o\0" % (0 if link else len(data))
        header[136:148] = b"00000000000\0"
        header[156:157] = b"2" if link else kind
        header[257:265] = b"ustar\00000"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        out += bytes(header)
        if not link:
            out += data + b"\0" * (-len(data) % 512)
    return out + b"\0" * 1024


def tar_storages(numel: int = 6, count: int = 1, kind: str = "torch.FloatStorage") -> bytes:
    """`storages` of torch 0.1: a count, each storage with its bytes, then the views."""
    one = pickled(b"(" + number(1) + text("cpu") + name(kind) + b"t")
    body = one + struct.pack("<q", numel) + FLOATS
    return pickled(number(count)) + body + pickled(b"]")


def tar_tensors(
    rank: int = 2,
    size: tuple[int, ...] = (2, 3),
    stride: tuple[int, ...] = (3, 1),
    offset: int = 0,
    root: int = 1,
) -> bytes:
    """`tensors` of torch 0.1: shapes and strides as C structs."""
    one = pickled(b"(" + number(2) + number(root) + name("torch.FloatTensor") + b"t")
    raw = struct.pack(f"<ii{2 * len(size) + 1}q", rank, 0, *size, *stride, offset)
    return pickled(number(1)) + one + raw


def torch_tar(
    pickle: bytes | None = None, storages: bytes | None = None, tensors: bytes | None = None
) -> bytes:
    """A file of torch 0.1.1."""
    pickle = pickle or pickled(mapping(weight=text("2") + b"Q"))
    parts = [("sys_info", SYSTEM), ("pickle", pickle), ("tensors", tensors or tar_tensors())]
    return tar_bytes([*parts, ("storages", storages or tar_storages())])


# --- safetensors ---


def safetensors(header: object, data: bytes = FLOATS, length: int | None = None) -> bytes:
    """A header (JSON, or text as it is), then data."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(
    shape: object = (2, 3), begin: object = 0, end: object = 24, dtype: object = "F32"
) -> dict[str, object]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# --- ONNX ---


def varint(value: int) -> bytes:
    """A base-128 number; negative ones take ten bytes."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def part(number: int, value: bytes | str | int) -> bytes:
    """A field: text and messages as spans, numbers as varints."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def initializer(
    name: str = "w",
    dims: tuple[int, ...] = (2, 3),
    dtype: int = 1,
    raw: bytes | None = FLOATS,
    more: bytes = b"",
) -> bytes:
    """A TensorProto."""
    body = b"".join(part(1, dim) for dim in dims) + part(2, dtype) + part(8, name)
    return body + (part(9, raw) if raw is not None else b"") + more


def outside(location: str, **entries: str) -> bytes:
    """The fields by which a TensorProto names its data in another file."""
    pairs = {"location": location, **entries}
    spans = (part(13, part(1, key) + part(2, value)) for key, value in pairs.items())
    return b"".join(spans) + part(14, 1)


def onnx(*initializers: bytes, more: bytes = b"", graph: bytes = b"") -> bytes:
    """A ModelProto."""
    inner = part(2, "g") + b"".join(part(5, one) for one in initializers) + graph
    return part(1, 8) + part(2, "test") + part(7, inner) + part(8, part(2, 17)) + more
