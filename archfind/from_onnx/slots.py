"""The constants of an ONNX graph by what is done with them, and two graphs' constants paired.

Exporters rename weights, transpose them and give other nodes between; what a weight is used for, in
what order, stays. A slot is one use of one constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[np.generic]

_LINEAR = ("MatMul", "Gemm")
_ROUNDS = 4  # of neighbours that tell two nodes apart


@dataclass(frozen=True)
class Slot:
    """A constant in its use: `kind` says which, `array` is its value ([in, out] for a linear
    layer), `node` the number of the node that takes it."""

    kind: str
    array: Array
    node: int

    @property
    def token(self) -> tuple[str, tuple[int, ...]]:
        """What must be the same on both sides."""
        return self.kind, self.array.shape


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    """Every constant by name: initializers, Constant nodes, and what only passes them on."""
    found: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
        elif node.op_type == "Transpose" and node.input[0] in found:
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            found[node.output[0]] = found[node.input[0]].transpose(order)
    return found


def slots(model: onnx.ModelProto) -> list[Slot]:
    """The uses of float constants, in the graph's order."""
    held = constants(model)
    found: list[Slot] = []
    for number, node in enumerate(model.graph.node):
        if node.op_type in ("Constant", "Identity") or all(out in held for out in node.output):
            continue
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        for place, name in enumerate(node.input):
            array = held.get(name)
            if array is None or not np.issubdtype(array.dtype, np.floating):
                continue
            kind = f"{node.op_type}.{place}"
            if node.op_type in _LINEAR and place < 2:
                kind = "linear"
                array = array.T if turned and place == 1 else array
            elif (node.op_type == "Gemm" and place == 2) or node.op_type == "Add":
                kind = "add"
            elif node.op_type == "Mul":
                kind = "mul"
            found.append(Slot(kind, array, number))
    return found


def paired(ours: onnx.ModelProto, theirs: onnx.ModelProto) -> list[tuple[Slot, Slot]] | None:
    """The slots of two graphs of one network, pair by pair; None where they don't correspond."""
    left, right = slots(ours), slots(theirs)
    for keep in (0, 1):  # with and without single numbers, which exporters add and fold
        one = [s for s in left if s.array.size > keep]
        two = [s for s in right if s.array.size > keep]
        if [s.token for s in one] == [s.token for s in two]:
            return list(zip(one, two, strict=True))
    one = [s for s in left if s.array.size > 1]
    two = [s for s in right if s.array.size > 1]
    if Counter(s.token for s in one) != Counter(s.token for s in two):
        return None
    return _by_neighbours(ours, theirs, one, two)


def _by_neighbours(
    ours: onnx.ModelProto, theirs: onnx.ModelProto, one: Sequence[Slot], two: Sequence[Slot]
) -> list[tuple[Slot, Slot]] | None:
    """Pairs by what stands around the nodes: Weisfeiler and Lehman's hashes (1968) of the two
    graphs, where branches were written in another order. Equal ones are taken in order."""
    marks = _marks(ours, one), _marks(theirs, two)
    groups: tuple[dict[str, list[Slot]], dict[str, list[Slot]]] = ({}, {})
    for side, held in enumerate((one, two)):
        for slot in held:
            mark = f"{slot.token}|{marks[side][slot.node]}"
            groups[side].setdefault(mark, []).append(slot)
    pairs: list[tuple[Slot, Slot]] = []
    for mark, held in groups[0].items():
        others = groups[1].get(mark, [])
        if len(others) != len(held):
            return None
        pairs += zip(held, others, strict=True)
    return pairs


def _marks(model: onnx.ModelProto, held: Sequence[Slot]) -> dict[int, str]:
    """A hash of each weight-carrying node by the weights before and after it, all other nodes
    passed through."""
    labels: dict[int, str] = {}
    for slot in held:
        labels[slot.node] = labels.get(slot.node, "") + str(slot.token)
    graph = nx.DiGraph()
    graph.add_nodes_from((number, {"label": label}) for number, label in labels.items())
    makers: dict[str, frozenset[int]] = {}  # value -> the weighted nodes that it comes from
    for number, node in enumerate(model.graph.node):
        before = frozenset[int]().union(*(makers.get(name, frozenset()) for name in node.input))
        if number in labels:
            graph.add_edges_from((source, number) for source in before)
            before = frozenset([number])
        makers |= dict.fromkeys(node.output, before)
    forwards = nx.weisfeiler_lehman_subgraph_hashes(graph, node_attr="label", iterations=_ROUNDS)
    back = nx.weisfeiler_lehman_subgraph_hashes(
        graph.reverse(), node_attr="label", iterations=_ROUNDS
    )
    return {number: f"{forwards[number][-1]}{back[number][-1]}" for number in labels}
