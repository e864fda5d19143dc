"""Specs made all at once, against those made one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from archfind.formats.nodes import StorageRef, Tensor
from archfind.formats.tensor_specs import Specs
from archfind.types import Storage

SIZES = [(2, 3), (6,), (), (0, 4), (1, 1), (3, 2), [2, 3], (2, True), None, (-1,)]
STRIDES = [(3, 1), (1,), (), (4, 1), (1, 2), (1, 1), None, "x", (-1, 1)]
DTYPES = ["float32", "int8", "bits", 7]


def stored(ref: StorageRef) -> Storage:
    """Storages whose names say how they are kept: in full, too short, or not at all."""
    if ref.key.startswith("absent"):
        return Storage("f", ref.key, -1, max(ref.numel, 0) * 4)
    return Storage("f", ref.key, 64, 5 if ref.key.startswith("short") else 24)


@st.composite
def tensors(draw: st.DrawFn) -> list[tuple[int, object, object, object, object]]:
    row = st.tuples(
        st.integers(0, 5),  # which storage
        st.sampled_from([0, 0, 0, 2, -1, "a"]),
        st.sampled_from(SIZES),
        st.sampled_from(STRIDES),
        st.sampled_from(DTYPES),
    )
    return draw(st.lists(row, max_size=12))


def described(rows: list[tuple[int, object, object, object, object]]) -> dict[str, Tensor]:
    kept = [
        StorageRef("whole", "float32", 6),
        StorageRef("short", "float32", 6),
        StorageRef("absent", "float32", 6),
        StorageRef("bytes", "int8", 24),
        StorageRef("view", "float32", 6, 1),
    ]
    kept[4].root = kept[0]
    refs = [*kept, b"1234"]
    return {
        f"t{n}": Tensor(refs[which], offset, size, stride, dtype)
        for n, (which, offset, size, stride, dtype) in enumerate(rows)
    }


@settings(max_examples=500)
@given(tensors())
def test_all_at_once_is_one_by_one(rows: list[tuple[int, object, object, object, object]]) -> None:
    one, many = Specs("f", stored), Specs("f", stored)
    singly = {key: one.of(tensor, key) for key, tensor in described(rows).items()}
    assert many.of_all(described(rows)) == {k: v for k, v in singly.items() if v is not None}
    assert many.danger == one.danger
