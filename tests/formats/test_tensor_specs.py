"""Specs made all at once, against those made one by one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archfind.dtypes import ITEMSIZE
from archfind.formats.pickles.nodes import StorageRef, Tensor
from archfind.formats.torch_files import tensor_specs
from archfind.formats.torch_files.tensor_specs import Specs
from archfind.types import Storage, TensorSpec

pytestmark = pytest.mark.light

SHAPES = [
    *(((2, 3), (3, 1)), ((6,), (1,)), ((6, 1), (1, 1)), ((4,), (1,))),
    *(((), ()), ((0, 4), (4, 1)), ((1, 1), (1, 1))),
    # strides of their own, none, and more than most storages hold
    *(((3, 2), (1, 3)), ((2, 3), (0, 1)), ((3,), (2,)), ((2, 3), None), ((4, 6), (6, 1))),
]
ODD = [([2, 3], None), ((2, True), (1, 1)), (None, (1,)), ((-1,), (1,)), ((6,), "x"), ((6,), (-1,))]
DTYPES = ["float32", "int8", "bits", 7]


def stored(ref: StorageRef) -> Storage:
    """Storages whose names say how they are kept: in full, too short, or not at all."""
    if ref.key.startswith("absent"):
        return Storage("f", ref.key, -1, max(ref.numel, 0) * 4)
    if ref.key.startswith("tight"):
        return Storage("f", ref.key, 64, ref.numel * ITEMSIZE.get(ref.dtype, 1))
    return Storage("f", ref.key, 64, 5 if ref.key.startswith("short") else 24)


# Mostly all of a storage of their own, with one thing or another that isn't so.
WHOLE = SHAPES[:4]
STORAGES = [*range(7), "own", "tight own", "short own", "short loose", "absent own"]
OFFSETS = [0, 0.0, False, 2, -1, "a"]
ROW = st.tuples(
    st.sampled_from([*STORAGES, *["own"] * 4]),
    st.sampled_from([*[0] * 12, *OFFSETS]),
    st.sampled_from([*WHOLE * 6, *SHAPES, *ODD]),
    st.sampled_from([*["same"] * 6, *DTYPES]),
)


Row = tuple[int | str, object, tuple[object, object], object]


def described(rows: list[Row]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sound tensors of every shape, which is known from then on; and the rows."""
    kept = [
        StorageRef("whole", "float32", 6),
        StorageRef("short", "float32", 6),
        StorageRef("absent", "float32", 6),
        StorageRef("bytes", "int8", 6),
        StorageRef("view", "float32", 6, 1),
        StorageRef("other", "int8", 6),
    ]
    kept[5].root = kept[3]
    refs = [*kept, b"1234"]
    sound = {
        f"s{n}": Tensor(StorageRef(f"own {n}", "int8", 24), 0, size, stride, "int8")
        for n, (size, stride) in enumerate(SHAPES)
    }
    found: dict[str, Tensor] = {}
    for n, (which, offset, shape, dtype) in enumerate(rows):
        if isinstance(which, int):
            ref = refs[which]
        else:  # one of its own, and mostly as large as the tensor
            sizes: Any = shape[0]
            loose = which == "short loose" or not isinstance(sizes, tuple)
            numel = 6 if loose else math.prod(sizes)
            own = "int8" if dtype == "same" or not isinstance(dtype, str) else dtype
            ref = StorageRef(f"{which} {n}", own, numel)
        kind = ref.dtype if dtype == "same" and isinstance(ref, StorageRef) else dtype
        found[f"t{n}"] = Tensor(ref, offset, *shape, kind)
    return sound, found


def compare(few: int, rows: list[Row]) -> None:
    one, many = Specs("f", stored), Specs("f", stored)
    singly = {key: one.of(tensor, key) for some in described(rows) for key, tensor in some.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_specs, "_FEW", few)  # tensors that are tried at once
        found = [many.of_all(some) for some in described(rows)]
    assert found[0] | found[1] == {k: v for k, v in singly.items() if v is not None}
    assert many.danger == one.danger


def test_any_tensor_is_what_it_is_alone() -> None:
    for row in itertools.product(STORAGES, OFFSETS, [*SHAPES, *ODD], ["same", *DTYPES]):
        compare(1, [row])


def test_two_of_one_storage_are_what_they_are_alone() -> None:
    for storage, shape in itertools.product(range(6), WHOLE):
        for few in (1, 2):  # one after the other, and both at once
            compare(few, [(storage, 0, shape, "same"), (storage, 0, shape, "same")])


@pytest.mark.parametrize("few", [1, 2, 16])
@settings(max_examples=300)
@given(rows=st.lists(ROW, max_size=12))
def test_all_at_once_is_one_by_one(few: int, rows: list[Row]) -> None:
    compare(few, rows)


def test_most_state_dicts_are_made_in_whole_columns() -> None:
    specs, left = Specs("f", stored), 0
    alone = specs.of

    def counted(tensor: Tensor, pointer: str) -> TensorSpec | None:
        nonlocal left
        left += 1
        return alone(tensor, pointer)

    specs.of = counted
    named = {
        f"t{n}": Tensor(StorageRef(f"own {n}", "int8", 6), 0, *SHAPES[1], "int8")
        for n in range(1000)
    }
    assert len(specs.of_all(named)) == 1000
    assert left == 16  # until the shape is known
