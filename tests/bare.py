"""A checkpoint from what `archfind inspect --json` prints of it: keys and shapes, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archfind.database.notation import expand, ordered, parse_line
from archfind.types import Checkpoint, Guess, Storage, TensorSpec

NOWHERE = Storage("", "", -1, 0)


def checkpoint_of(document: Mapping[str, Any]) -> Checkpoint:
    """The tensors of each network in the document, in the file's order, and the file's words."""
    index: dict[str, TensorSpec] = {}
    for wrapper in document["wrappers"]:
        lines = dict(expand([parse_line(line) for line in wrapper["groups"]]))
        for key in ordered(list(lines)):
            shape, dtype = lines[key].shape, lines[key].dtype.replace("float", "float32")
            assert all(isinstance(size, int) for size in shape), key
            pointer = f"{wrapper['place']}/{key}" if wrapper["place"] else key
            index[pointer] = TensorSpec(dtype, shape, NOWHERE)  # pyright: ignore
    assert len(index) <= document["tensors"]
    return Checkpoint(
        document["path"],
        document["format"],
        index,
        metadata={**document["scalars"], **document["hints"]},
        hints=document["hints"],
        objects=document["objects"],
    )


def assert_right(found: Guess, case: Mapping[str, Any]) -> None:
    """The answer is what a case of tests/misses says it must be."""
    assert found.status == case["status"]
    best = found.matches[0]
    assert case["architecture"] in {best.entry.name, *(twin.architecture for twin in best.twins)}
    for name, value in case.get("config", {}).items():
        assert best.config[name].value == value
    for name in case.get("assumed", []):
        assert best.config[name].source != "shape"
    if "places" in case:
        assert [item.place for item in best.assumed] == case["places"]
