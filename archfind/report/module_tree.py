"""A state dict's tensors as a tree of modules, small enough for a page: what is alike stands once.

The tree of a language model has the same block a hundred times. Nodes are kept in a table in which
equal ones are one, so that a page with 200,000 tensors stays below a few megabytes.
"""

from __future__ import annotations

from archfind.escape import escape
from archfind.formats.counts import numel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from archfind.types import TensorSpec

_DEEPEST = 40  # modules within each other that are drawn; what is below stands in one name
_NAME = 120  # characters of one
_MOST = 3_500_000  # characters of names


def tree_with_signatures(
    index: Mapping[str, TensorSpec], explain: Callable[[str], str]
) -> dict[str, Any]:
    """{"kinds": [[dtype, shape, explanation], ...], "nodes": [[parameters, tensors, [name, at],
    ...], ...], "root": number of a node, "left": tensors for which there was no room}. `at` is a
    node's number, or of a tensor -1 - its kind's number. `explain` says which line of a signature a
    key is by."""
    top: dict[str, Any] = {}
    kinds: dict[tuple[str, str, str], int] = {}
    sizes: list[int] = []
    room, left = _MOST, 0
    for key, spec in index.items():
        room -= len(key)
        if room < 0:
            left += 1
            continue
        *modules, last = key.split(".", _DEEPEST)
        node = top
        for name in modules:
            below = node.get(f"{name}.")
            if below is None:
                below = node[f"{name}."] = {}
            node = below
        kind = (spec.dtype, " x ".join(map(str, spec.shape)) or "scalar", explain(key))
        if kind not in kinds:
            kinds[kind] = len(kinds)
            sizes.append(numel(spec.shape))
        node[last or "."] = kinds[kind]
    nodes: dict[tuple[Any, ...], int] = {}
    root = _numbered(top, nodes, sizes, [])
    return {"kinds": [*kinds], "nodes": [*nodes], "root": root, "left": left}


def _numbered(
    node: Mapping[str, Any],
    nodes: dict[tuple[Any, ...], int],
    sizes: list[int],
    counts: list[tuple[int, int]],
) -> int:
    """The number of a node, which is new or equals one before it."""
    parameters = tensors = 0
    children: list[tuple[str, int]] = []
    for name, below in node.items():
        shown = escape(name.removesuffix(".") if isinstance(below, dict) else name, _NAME)
        if isinstance(below, dict):
            at = _numbered(below, nodes, sizes, counts)
            parameters += counts[at][0]
            tensors += counts[at][1]
        else:
            at = -1 - below
            parameters += sizes[below]
            tensors += 1
        children.append((shown, at))
    made = (parameters, tensors, *children)
    if made not in nodes:
        nodes[made] = len(nodes)
        counts.append((parameters, tensors))
    return nodes[made]
