"""Small files that ask for a lot of work or memory; each must end at a limit."""

from __future__ import annotations

import struct
from collections.abc import Callable

from .build import STATE, call, mapping, name, pickled, tensor, text, torch_zip
from .case import READ, REFUSED, Case, holding


def _laughs(width: int, depth: int) -> bytes:
    """Lists that hold the one before `width` times: width ** depth entries for who walks them."""
    data = b"]q\x00I1\na"
    for i in range(depth):
        data += b"]q" + bytes([i + 1]) + b"(" + (b"h" + bytes([i])) * width + b"e"
    return data


def _giggles() -> bytes:
    """The same of dicts that end in a tensor."""
    data = mapping(w=tensor()) + b"q\x00"
    for i in range(40):
        data += b"}q" + bytes([i + 1]) + b"(" + text("a") + b"h" + bytes([i])
        data += text("b") + b"h" + bytes([i]) + b"u"
    return data


def _deep(opening: bytes, closing: bytes, count: int) -> bytes:
    return opening * count + b"N" + closing * count


_LIST_KEY = b"X\x40\x42\x0f\x00" + b"k" * 1_000_000 + b"q\x000"

FILES: tuple[tuple[str, bytes | Callable[[], bytes], str], ...] = (
    ("billion laughs", pickled(_laughs(10, 30)), "more than 1,000,000 entries"),
    ("billion laughs of tensors", torch_zip(pickled(_giggles())), "more than 1,000,000 entries"),
    ("2,500,000 open lists", pickled(b"]" * 2_500_000), "refused: "),
    ("1,200,000 open marks", pickled(b"(" * 1_200_000), "open marks"),
    ("5,000,000 memo entries", lambda: pickled(b"N" + b"\x94" * 5_000_000), "memo entries"),
    ("13,000,000 operations", lambda: pickled(b"N" + b"0N" * 6_500_000), "refused: "),
    ("2,100,000 values on the stack", pickled(b"N" * 2_100_000), "values on its stack"),
    ("a memo entry at 2**32", pickled(b"Nr\xff\xff\xff\xff"), "no tensors"),
    ("an integer of 65,535 bytes", pickled(b"\x8b\xff\xff\0\0" + b"1" * 65_535), "an integer of"),
    ("an integer of -1 bytes", pickled(b"\x8b\xff\xff\xff\xff"), "an integer of"),
    ("an integer of 255 bytes", pickled(b"\x8a\xff" + b"\x7f" * 255), "no tensors"),
    ("an integer of 100,000 digits", pickled(b"I" + b"9" * 100_000 + b"\n"), "makes no sense"),
    ("a text of 4 GB", lambda: pickled(b"X\xff\xff\xff\xff"), "a text of 4,294,967,295 bytes"),
    ("a text of 2**60", pickled(b"\x8d" + struct.pack("<Q", 1 << 60)), "ends in the middle"),
    ("a text of -1", pickled(b"T\xff\xff\xff\xff"), "a text of"),
    ("bytes of 2**60", pickled(b"\x8e" + struct.pack("<Q", 1 << 60)), "ends in the middle"),
    ("a bytearray of 2**34", pickled(b"\x96" + struct.pack("<Q", 1 << 34)), "ends in the middle"),
    ("a bytearray of 2**34 by call",
     pickled(call("builtins.bytearray", b"\x8a\x05" + (1 << 34).to_bytes(5, "little"))),
     "no tensors"),
    ("a list of a range", pickled(call("builtins.list", call("builtins.range",
     b"\x8a\x06" + (1 << 40).to_bytes(6, "little")))), "no tensors"),
    ("a frame of 2**63", pickled(b"\x95" + struct.pack("<Q", 1 << 63) + b"N"), "no tensors"),
    ("lists nested 2,000 deep", pickled(_deep(b"](", b"e", 2_000)), "nested deeper than 1,000"),
    ("tuples nested 1,500,000 deep", pickled(b"N" + b"\x85" * 1_500_000), "nested deeper"),
    ("a key nested 500,000 deep", pickled(b"})" + b"\x85" * 500_000 + b"I1\ns"), "no tensors"),
    ("dicts nested 400,000 deep", pickled(_deep(b"}" + text("a"), b"s", 400_000)), "nested deeper"),
    ("calls nested 400,000 deep", pickled(name("m.C") + b")R" * 400_000), "no tensors"),
    ("states nested 300,000 deep", pickled(_deep(b"cm\nC\n)\x81", b"b", 300_000)), "refused: "),
    ("sets nested 300,000 deep", pickled(_deep(b"(", b"\x91", 300_000)), "nested deeper"),
    ("long keys, nested", lambda: pickled(_LIST_KEY + b"}" + b"h\x00}" * 500 + b"s" * 500), "refused: "),
    ("a set of one list, 2,000 times", pickled(b"](" + b"N" * 300_000 + b"eq\x01\x85q\x020("
     + b"c__builtin__\nset\nh\x02R" * 2_000 + b"l"), "copies one value over and over"),
    ("a dict of one dict, 2,000 times", pickled(b"}(" + b"".join(b"J%sN" % struct.pack("<i", i)
     for i in range(100_000)) + b"uq\x01\x85q\x020(" + b"ccollections\nOrderedDict\nh\x02R" * 2_000
     + b"l"), "copies one value over and over"),
    ("12,000 globals", pickled(b"(" + b"".join(b"cm\nC%d\n" % i for i in range(12_000)) + b"l"),
     "names more than 10,000 globals"),
    ("a global of 2,000 characters", pickled(b"cm\n" + b"C" * 2_000 + b"\n"), "makes no sense"),
    ("a line of 50,000 characters", pickled(b"V" + b"x" * 50_000 + b"\n"), "the pickle holds a str"),
    ("65 MB of data.pkl", lambda: torch_zip(STATE[:-1] + b"0N" * (33 << 20) + b"."), "limit 67,108,864"),
    ("65 MB of data.pkl, deflated", lambda: torch_zip(STATE[:-1] + b"0N" * (33 << 20) + b".", method=8),
     "limit 67,108,864"),
    ("1,100,000 tensors", lambda: torch_zip(pickled(tensor() + b"q\x000}(" + b"".join(
        b"J" + struct.pack("<i", i) + b"h\x00" for i in range(1_100_000)) + b"u")), "refused: "),
    ("a tensor in a list of itself", torch_zip(pickled(b"]q\x01h\x01a")), "no tensors"),
)  # fmt: skip

BOMBS: list[Case] = [
    *(Case(f"bomb/{where}", holding(data), REFUSED, says) for where, data, says in FILES),
    Case(
        "bomb/a list that holds itself and a tensor",
        holding(torch_zip(pickled(b"]q\x01(h\x01" + tensor() + b"e"))),
        READ,
        "1 tensors",
    ),
]
