"""safetensors headers and shard indexes that lie, and damaged ones."""

from __future__ import annotations

import json
from collections.abc import Callable

from .build import entry, pickled, safetensors, torch_zip
from .case import READ, REFUSED, Case, beside, holding

GOOD = safetensors({"__metadata__": {"format": "pt"}, "w": entry()})


def _raw(header: str) -> bytes:
    return safetensors(header.encode("utf-8", "surrogatepass"))


FILES: tuple[tuple[str, bytes | Callable[[], bytes], int, str], ...] = (
    ("honest", GOOD, READ, "safetensors"),
    ("no tensors", safetensors({}, b""), REFUSED, "no tensors"),
    ("only metadata", safetensors({"__metadata__": {"a": "b"}}, b""), REFUSED, "no tensors"),
    ("cut off", GOOD[:-1], REFUSED, f"the file has {len(GOOD) - 1:,}"),
    ("header cut off", GOOD[:30], REFUSED, "header alone takes"),
    ("a byte after", GOOD + b"x", REFUSED, "1 bytes follow the last tensor"),
    ("a header of 99 MB", safetensors({"w": entry()}, length=99_000_000), REFUSED,
     "the safetensors header alone takes"),
    ("a header of 200 MB", safetensors({"w": entry()}, length=200_000_000), REFUSED,
     "limit 100,000,000"),
    ("a header of 2**39", safetensors({"w": entry()}, length=1 << 39), REFUSED,
     "limit 100,000,000"),
    ("a header of 2**63", safetensors({"w": entry()}, length=1 << 63), REFUSED, "x.safetensors"),
    ("a header of one byte", safetensors({"w": entry()}, length=1), REFUSED, "not strict JSON"),
    ("a header that is too short", safetensors({"w": entry()}, length=20), REFUSED,
     "not strict JSON"),
    ("an array", safetensors(b'{"w"]'), REFUSED, "not strict JSON"),
    ("no value", _raw('{"w"}'), REFUSED, "not strict JSON"),
    ("a comma too many", _raw('{"w": 1,}'), REFUSED, "not strict JSON"),
    ("a key twice", _raw('{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},'
     '"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}'), REFUSED, "a key stands twice"),
    ("a dtype twice", _raw('{"w":{"dtype":"F32","dtype":"F64","shape":[6],"data_offsets":[0,24]}}'),
     REFUSED, "a key stands twice"),
    ("NaN", _raw('{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,24]}}'), REFUSED,
     "not strict JSON"),
    ("Infinity", _raw('{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,Infinity]}}'), REFUSED,
     "not strict JSON"),
    ("1e400", _raw('{"w":{"dtype":"F32","shape":[1e400],"data_offsets":[0,24]}}'), REFUSED,
     'the header entry of "w"'),
    ("bytes that are no UTF-8", safetensors(b'{"\xff": 1}'), REFUSED, "not strict JSON"),
    ("UTF-16", safetensors('{"w": 1}'.encode("utf-16-le")), REFUSED, "x.safetensors"),
    ("a byte order mark", safetensors(b'\xef\xbb\xbf{"w": 1}'), REFUSED, "x.safetensors"),
    ("a number of 5,000 digits", _raw('{"w":{"dtype":"F32","shape":[' + "9" * 5000
     + '],"data_offsets":[0,24]}}'), REFUSED, "not strict JSON"),
    ("a number of 30 digits", _raw('{"w":{"dtype":"F32","shape":[' + "9" * 30
     + '],"data_offsets":[0,24]}}'), REFUSED, "x.safetensors"),
    ("nested 100,000 deep", safetensors(b'{"a":' + b"[" * 100_000), REFUSED, "nested too deep"),
    ("nested objects, 50,000 deep", safetensors(b'{"a":' * 50_000), REFUSED, "nested too deep"),
    ("3,000,000 brackets", lambda: safetensors(b'{"a":[' + b"[]," * 3_000_000 + b"1]}"), REFUSED,
     "lists more than an honest file does"),
    ("6,000,000 commas", lambda: safetensors(b'{"a":[' + b"1," * 6_000_000 + b"1]}"), REFUSED,
     "lists more than an honest file does"),
    ("an entry that is a number", safetensors({"w": 1}), REFUSED, 'the header entry of "w"'),
    ("an entry that is null", safetensors({"w": None}), REFUSED, 'the header entry of "w"'),
    ("no dtype", safetensors({"w": {"shape": [6], "data_offsets": [0, 24]}}), REFUSED,
     'the header entry of "w"'),
    ("a dtype that is a list", safetensors({"w": entry(dtype=[])}), REFUSED,
     'the header entry of "w"'),
    ("an unknown dtype", safetensors({"w": entry(dtype="F7_\x1b[31m")}), READ, "f7_\\x1b[31m"),
    ("a shape that is a text", safetensors({"w": entry("23")}), REFUSED, 'the header entry of "w"'),
    ("a negative shape", safetensors({"w": entry((-2, -3))}), REFUSED, 'the header entry of "w"'),
    ("a shape of floats", safetensors({"w": entry((2.0, 3))}), REFUSED, 'the header entry of "w"'),
    ("a shape of booleans", safetensors({"w": entry((True, 6))}), REFUSED,
     'the header entry of "w"'),
    ("a shape of 1,000 dimensions", safetensors({"w": entry((1,) * 1000)}), REFUSED,
     'the header entry of "w"'),
    ("a shape that overflows", safetensors({"w": entry((1 << 32, 1 << 32, 1 << 32))}), REFUSED,
     "doesn't fit its shape and dtype"),
    ("a shape that overflows to its size", safetensors({"w": entry((1 << 62, 24))}), REFUSED,
     "doesn't fit its shape and dtype"),
    ("another shape", safetensors({"w": entry((2, 4))}), REFUSED, "doesn't fit its shape"),
    ("three offsets", safetensors({"w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24, 5]}}),
     REFUSED, 'the header entry of "w"'),
    ("negative offsets", safetensors({"w": entry((6,), -24, 0)}), REFUSED,
     'the header entry of "w"'),
    ("offsets in reverse", safetensors({"w": entry((6,), 24, 0)}), REFUSED,
     'the header entry of "w"'),
    ("offsets beyond the end", safetensors({"w": entry((12,), 0, 48)}), REFUSED,
     "the header promises"),
    ("offsets of 2**60", safetensors({"w": entry((1 << 58,), 0, 1 << 60)}), REFUSED,
     "the header promises"),
    ("tensors that overlap", safetensors({"a": entry(), "b": entry((3,), 12, 24)}), REFUSED,
     "overlap"),
    ("the same bytes twice", safetensors({"a": entry(), "b": entry()}), REFUSED, "overlap"),
    ("a hole", safetensors({"a": entry((3,), 0, 12), "b": entry((2,), 16, 24)}), REFUSED,
     "leave a hole"),
    ("a hole at the start", safetensors({"a": entry((3,), 12, 24)}), REFUSED, "leave a hole"),
    ("metadata that is a list", safetensors({"__metadata__": [1], "w": entry()}), READ,
     "safetensors"),
    ("metadata that nests", safetensors({"__metadata__": {"a": {"b": "c"}}, "w": entry()}), READ,
     "safetensors"),
    ("control characters in metadata", safetensors({"__metadata__": {"\x1b[2J": "\x07\u202e\x9b"},
     "w": entry()}), READ, "\\x1b[2J = \\x07\\u202e\\x9b"),
    ("control characters in a key", safetensors({"w\x1b[31m\n\u2066": entry()}), READ,
     "w\\x1b[31m\\x0a\\u2066"),
    ("a surrogate in a key", _raw('{"w\\ud800":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}'),
     READ, "w\\ud800"),
    ("a key of a megabyte", safetensors({"k" * 1_000_000: entry()}), REFUSED,
     "a key of 1,000,000 characters"),
    ("an empty key", safetensors({"": entry()}), READ, "1 tensors"),
    ("a key of slashes", safetensors({"../../../etc/passwd": entry()}), READ, "in        ../../../etc"),
    ("empty tensors", safetensors({"a": entry((0, 1 << 60), 0, 0), "b": entry()}), READ,
     "2 tensors"),
)  # fmt: skip


def _index(weights: object, more: object = None) -> bytes:
    return json.dumps({"metadata": more or {}, "weight_map": weights}).encode()


def _shards(weights: object, **files: bytes):
    named = {"model.safetensors.index.json": _index(weights)}
    named |= {f"{one}.safetensors": data for one, data in files.items()}
    return beside("model.safetensors.index.json", named)


_A, _B = safetensors({"a": entry()}), safetensors({"b": entry()})
_EVIL = torch_zip(pickled(b"cos\nsystem\n)R"))


def _raw_index(text: bytes):
    return holding(text, "model.safetensors.index.json")


def _climbs(name: object) -> Case:
    says = "is not a plain file name"
    return Case(f"index/a shard at {str(name)!r}", _shards({"a": name}, a=_A), REFUSED, says)


INDEXES: list[Case] = [
    Case("index/honest", _shards({"a": "a.safetensors"}, a=_A), READ, "safetensors-sharded"),
    *map(_climbs, ("../a.safetensors", "/etc/passwd", "..", ".", "", "sub/a", "a\\b", "C:x", 5)),
    *map(_climbs, (None, ["a.safetensors"], {"a": "b"}, True, "a\0b", "http://localhost/a")),
    Case("index/no shard", _shards({"a": "a.safetensors"}), REFUSED, "none of its 1 shards"),
    Case(
        "index/one shard missing",
        _shards({"a": "a.safetensors", "b": "b.safetensors"}, a=_A),
        READ,
        "the shard b.safetensors is missing",
    ),
    Case(
        "index/the shard is the index",
        _shards({"a": "model.safetensors.index.json"}),
        REFUSED,
        "none of its 1 shards",
    ),
    Case(
        "index/a shard that is damaged",
        _shards({"a": "a.safetensors", "b": "b.safetensors"}, a=_A, b=_B[:-5]),
        READ,
        "the shard b.safetensors is unusable: cut off",
    ),
    Case(
        "index/a key in two shards",
        _shards({"a": "a.safetensors", "b": "b.safetensors"}, a=_A, b=_A),
        READ,
        '"a" is in both a.safetensors and b.safetensors',
        True,
    ),
    Case(
        "index/keys exchanged",
        _shards({"a": "b.safetensors", "b": "a.safetensors"}, a=_A, b=_B),
        READ,
        "the index says otherwise",
        True,
    ),
    Case(
        "index/a key that isn't there",
        _shards({"a": "a.safetensors", "z\x1b[31m": "a.safetensors"}, a=_A),
        READ,
        '"z\\x1b[31m" is listed but absent',
    ),
    Case(
        "index/a key that isn't listed",
        _shards({"b": "b.safetensors"}, b=safetensors({"b": entry((3,), 0, 12),
                                                       "c\x1b": entry((3,), 12, 24)})),
        READ,
        '"c\\x1b" is present but not listed',
    ),
    Case(
        "index/a shard that runs code",
        _shards({"a": "a.safetensors", "b": "b.safetensors"}, a=_A, b=_EVIL),
        READ,
        "would call os.system",
        True,
    ),
    Case(
        "index/all shards run code",
        _shards({"b": "b.safetensors"}, b=_EVIL),
        REFUSED,
        "would call os.system",
        True,
    ),
    Case("index/a name with control characters", _shards({"a": "\x1b[31m"}), REFUSED, "\\x1b[31m"),
    Case("index/no weights", _raw_index(_index({})), REFUSED, "it has no weight_map"),
    Case("index/weights in a list", _raw_index(_index(["a"])), REFUSED, "it has no weight_map"),
    Case("index/a list", _raw_index(b'[{"weight_map": 1}]'), REFUSED, "a JSON text"),
    Case("index/cut off", _raw_index(_index({"a": "b"})[:-3]), REFUSED, "not strict JSON"),
    Case("index/a key twice", _raw_index(b'{"weight_map":{"a":"b","a":"c"}}'), REFUSED, "twice"),
    Case(
        "index/nested 100,000 deep",
        _raw_index(b'{"weight_map":' + b"[" * 100_000),
        REFUSED,
        "nested too deep",
    ),
    Case(
        "index/20,000 shards",
        _raw_index(_index({str(i): f"{i}.bin" for i in range(20_000)})),
        REFUSED,
        "20,000 shards (limit 10,000)",
    ),
    Case("index/a number of 5,000 digits", _raw_index(b'{"weight_map":{"a":' + b"9" * 5000 + b"}}"),
         REFUSED, "not strict JSON"),
]  # fmt: skip


HEADERS: list[Case] = [
    *(
        Case(f"safetensors/{name}", holding(data, "x.safetensors"), code, says)
        for name, data, code, says in FILES
    ),
    Case(
        "safetensors/named .pth",
        holding(GOOD, "x.pth"),
        READ,
        "named .pth but is safetensors",
    ),
    *INDEXES,
]
