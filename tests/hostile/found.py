"""Files that fuzzing found, by what was wrong with the reader that met them."""

from __future__ import annotations

from .build import call, mapping, name, number, numbers, pickled, storage, tensor, torch_zip
from .case import READ, REFUSED, Case, holding

_ODD_SHAPE = call(  # a shape that is wrong twice: only the first wrong was looked at
    "torch._utils._rebuild_tensor_v2",
    storage(),
    number(0),
    b"(" + name("collections.OrderedDict") + number(3) + number(-127) + b"t",
    numbers((3, 1)),
    b"\x89",
    b"N",
)

FOUND: list[Case] = [
    Case(
        "found/a global in a negative shape",
        holding(torch_zip(pickled(mapping(weight=_ODD_SHAPE)))),
        REFUSED,
        "has a shape that is not made of integers",
        True,
    ),
    Case(  # a call whose arguments are no tuple
        "found/a number for arguments",
        holding(torch_zip(pickled(mapping(weight=tensor(), odd=name("a.B") + b"K\x01R")))),
        READ,
        "2 3",
    ),
]
