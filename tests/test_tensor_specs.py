"""Specs made all at once, against those made one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from archfind.formats.nodes import StorageRef, Tensor
from archfind.formats.tensor_specs import Specs
from archfind.types import Storage

SHAPES = [((2, 3), (3, 1)), ((6,), (1,)), ((), ()), ((0, 4), (4, 1)), ((1, 1), (1, 1))]
# strides of their own, none, and more than most storages hold
SHAPES += [((3, 2), (1, 3)), ((3,), (2,)), ((2, 3), None), ((4, 6), (6, 1))]
ODD = [([2, 3], None), ((2, True), (1, 1)), (None, (1,)), ((-1,), (1,)), ((6,), "x"), ((6,), (-1,))]
DTYPES = ["float32", "int8", "bits", 7]


def stored(ref: StorageRef) -> Storage:
    """Storages whose names say how they are kept: in full, too short, or not at all."""
    if ref.key.startswith("absent"):
        return Storage("f", ref.key, -1, max(ref.numel, 0) * 4)
    return Storage("f", ref.key, 64, 5 if ref.key.startswith("short") else 24)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 6),  # which storage
        st.sampled_from([0, 0, 0, 2, -1, "a"]),
        st.sampled_from([*SHAPES, *SHAPES, *ODD]),
        st.sampled_from(DTYPES),
    ),
    max_size=12,
)


def described(rows: list[tuple[int, object, tuple[object, object], object]]) -> dict[str, Tensor]:
    """Sound tensors of every shape, which are remembered from then on; and then the rows."""
    kept = [
        StorageRef("whole", "float32", 6),
        StorageRef("short", "float32", 6),
        StorageRef("absent", "float32", 6),
        StorageRef("bytes", "int8", 6),
        StorageRef("view", "float32", 6, 1),
        StorageRef("other", "int8", 24),
    ]
    kept[5].root = kept[3]
    refs = [*kept, b"1234"]
    sound = {
        f"s{n}": Tensor(StorageRef(f"own {n}", "int8", 24), 0, size, stride, "int8")
        for n, (size, stride) in enumerate(SHAPES)
    }
    return sound | {
        f"t{n}": Tensor(refs[which], offset, *shape, dtype)
        for n, (which, offset, shape, dtype) in enumerate(rows)
    }


@settings(max_examples=500)
@given(ROWS)
def test_all_at_once_is_one_by_one(
    rows: list[tuple[int, object, tuple[object, object], object]],
) -> None:
    one, many = Specs("f", stored), Specs("f", stored)
    singly = {key: one.of(tensor, key) for key, tensor in described(rows).items()}
    assert many.of_all(described(rows)) == {k: v for k, v in singly.items() if v is not None}
    assert many.danger == one.danger
