"""Frozen classes, kept as instances and as tuples: one behaviour but for what the tuples gain."""

from __future__ import annotations

import copy
import pickle

import pytest

from archfind.frozen import replace, rows
from archfind.types import Setting, Storage, TensorSpec

pytestmark = pytest.mark.light


def test_a_row_takes_its_fields_by_position_by_name_and_by_default() -> None:
    whole = Storage("f", "n", 8, 4, None, None)
    assert whole == Storage("f", "n", 8, 4) == Storage(name="n", file="f", start=8, nbytes=4)
    assert rows(Storage, [("f", "n", 8, 4, None, None)]) == [whole]
    assert Storage("f", "n", -1, 4, data=b"1234").inside is None
    assert (whole.file, whole.name, whole.start, whole.nbytes) == ("f", "n", 8, 4)
    assert repr(whole) == "Storage(file='f', name='n', start=8, nbytes=4, inside=None, data=None)"


@pytest.mark.parametrize(
    ("args", "given"),
    [
        (("f", "n", 8), {}),
        (("f", "n", 8, 4, None, None, 1), {}),
        (("f", "n", 8, 4), {"size": 4}),
        ((), {"file": "f"}),
    ],
)
def test_a_row_refuses_wrong_arguments(args: tuple[object, ...], given: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="Storage"):
        Storage(*args, **given)  # pyright: ignore


def test_rows_and_frozen_classes_are_replaced_and_never_changed() -> None:
    spec = TensorSpec("float32", (2,), Storage("f", "n", 0, 8))
    assert replace(spec, shape=(1, 2)) == TensorSpec("float32", (1, 2), spec.storage)
    assert spec.shape == (2,)
    assert replace(Setting(3, "shape"), value=4) == Setting(4, "shape")
    for one, field in ((spec, "shape"), (Setting(3, "shape"), "value")):
        with pytest.raises(AttributeError, match="replace"):
            setattr(one, field, 0)
        with pytest.raises(AttributeError, match="replace"):
            delattr(one, field)
    with pytest.raises(AttributeError):
        spec.other = 1  # pyright: ignore


def test_rows_copy_and_pickle() -> None:
    spec = TensorSpec("float32", (2,), Storage("f", "n", 0, 8), 1, (3,))
    for same in (copy.copy(spec), copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert type(same) is TensorSpec
        assert same == spec
        assert hash(same) == hash(spec)
        assert type(same.storage) is Storage
