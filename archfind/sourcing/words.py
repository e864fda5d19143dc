"""What network a state dict is of, in the words of those who make such networks: "a U-Net (2-D),
3 -> 1 channels, 3 levels from 32, BatchNorm; input N x 3 x H x W (H, W multiples of 4)"."""

from __future__ import annotations

from itertools import pairwise

from archfind.evidence.anatomy import anatomy
from archfind.sourcing.parts import RECURRENT, ModulePart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archfind.sourcing.explained import Explained
    from archfind.sourcing.flow import Flow
    from archfind.types import TensorSpec

_SIDES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
_WIDTHS = 8  # of an MLP's layers that are all named
_ATTENDS = ("TransformerEncoderLayer", "TransformerDecoderLayer", "MultiheadAttention")


def network_words(network: Explained | None, index: Mapping[str, TensorSpec]) -> str:
    """One line: what the patterns recognised, or the kind of its layers where none explains it."""
    said = _recognised(network) if network is not None and network.given is not None else ""
    return said or str(anatomy(index))


def _recognised(network: Explained) -> str:
    """The words for a network that patterns explain, "" where the words for its layers say as
    much."""
    flow, calls = network.flow, network.flow.calls
    weights = [part for part in calls if part.is_weight]
    convs = [part for part in weights if part.is_conv]
    if "transformer" in flow.tags:
        return _transformer(network.top, calls)
    if any(part.kind in RECURRENT for part in calls):
        return _recurrent(flow, calls) if not convs else ""
    if "branches" in flow.tags or not weights:
        return ""
    if not convs:
        return _linear(flow, weights, calls)
    return _convolutional(flow, weights, convs, calls)


def _norms(calls: Sequence[ModulePart]) -> str:
    kinds = dict.fromkeys(part.kind.rstrip("123d") for part in calls if part.is_norm)
    return f", {' and '.join(kinds)}" if kinds else ""


def _transformer(top: ModulePart, calls: Sequence[ModulePart]) -> str:
    attends = [
        part
        for part in top.walk()
        if part.kind in _ATTENDS or "scaled_dot_product" in " ".join(part.forward or ())
    ]
    first = calls[0]
    heads = [part for part in calls if part.kind == "Linear"]
    if not attends or (first.kind not in ("Embedding", "Linear") and not first.is_conv):
        return ""
    width = first.outs
    depth = f"{len(attends)} layer{'s' * (len(attends) != 1)} of width {width:,}"
    outs = heads[-1].outs if heads and heads[-1] is not first else 0
    given = f", {outs:,} out" if outs else ""
    if first.kind == "Embedding":
        rows = first.arguments["num_embeddings"]
        kind = "a transformer that writes" if outs == rows else "a transformer over words"
        given = "" if outs == rows else given
        return f"{kind}, vocabulary {rows:,}, {depth}{given}; input N x T words"
    if first.is_conv:
        kernel = "x".join(map(str, first.arguments["kernel_size"]))
        said = f"a transformer over patches of {kernel}, {_channels(first.ins)}"
        sides = " x ".join(_SIDES[first.dims])
        return f"{said}, {depth}{given}; input N x {first.ins:,} x {sides}"
    return f"a transformer over steps, {depth}{given}; input N x T x {first.ins:,}"


def _channels(count: int) -> str:
    return f"{count:,} channel{'s' * (count != 1)}"


def _recurrent(flow: Flow, calls: Sequence[ModulePart]) -> str:
    cell = next(part for part in calls if part.kind in RECURRENT)
    table = next((part for part in calls if part.kind == "Embedding"), None)
    ends = [part for part in calls if part.kind == "Linear"]
    readout = flow.asked.unseen.get("readout")
    kind = "network"
    if ends and readout is not None and ends[-1].outs > 1:
        kind = "tagger" if readout.value == "none" else "classifier"
    both = "bidirectional " * bool(cell.arguments.get("bidirectional"))
    levels = cell.arguments.get("num_layers", 1)
    article = "a" if both or cell.kind == "GRU" else "an"
    said = [f"{article} {both}{cell.kind} {kind}"]
    if table is not None:
        said.append(f"vocabulary {table.arguments['num_embeddings']:,}")
    else:
        said.append(f"{cell.ins:,} feature{'s' * (cell.ins != 1)}")
    said.append(f"{levels} layer{'s' * (levels != 1)} of width {cell.arguments['hidden_size']:,}")
    said += [f"{ends[-1].outs:,} out"] if ends else []
    words = "words" if table is not None else f"x {cell.ins:,}"
    return f"{', '.join(said)}; input N x T {words}"


def _linear(flow: Flow, weights: Sequence[ModulePart], calls: Sequence[ModulePart]) -> str:
    if any(part.kind == "Embedding" for part in calls):
        return ""
    row = list(weights[: len(weights) - len(flow.heads)])
    if any(part.outs != after.ins for part, after in pairwise(row)) and not _is_coded(flow):
        return ""
    if flow.heads:
        if not all(part.kind == "Linear" for part in flow.heads):
            return ""
        heads = " and ".join(f"{part.outs:,}" for part in flow.heads)
        trunk = _arrows(row) if row else f"{weights[0].ins:,}"
        return f"an MLP {trunk}, heads of {heads}{_norms(calls)}"
    if _is_coded(flow):
        code = next(part for part, after in pairwise(row) if part.ins == after.ins)
        return f"a variational autoencoder, {row[0].ins:,} -> {code.outs:,} -> {row[-1].outs:,}"
    narrow = min(part.outs for part in row)
    turns = row[0].ins == row[-1].outs and len(row) > 1 and 2 * narrow <= row[0].ins
    return f"an {'autoencoder' if turns else 'MLP'} {_arrows(row)}{_norms(calls)}"


def _is_coded(flow: Flow) -> bool:
    return "variational" in flow.tags


def _arrows(row: Sequence[ModulePart]) -> str:
    widths = [row[0].ins, *(part.outs for part in row)]
    words = [f"{width:,}" for width in widths]
    if len(words) > _WIDTHS:
        words = [*words[:3], "...", *words[-2:]]
    return " -> ".join(words) + f" ({len(row)} layers)" * (len(widths) > _WIDTHS)


def _convolutional(
    flow: Flow,
    weights: Sequence[ModulePart],
    convs: Sequence[ModulePart],
    calls: Sequence[ModulePart],
) -> str:
    first, last = weights[0], weights[-1]
    if not first.is_conv or flow.heads or _is_coded(flow):
        return ""
    about = f" ({first.dims}-D)"
    residual = "residual " * ("residual" in flow.tags)
    if "unet" in flow.tags:
        count, width = flow.levels
        levels = f", {count} levels from {width:,}"
        said = f"a {residual}U-Net{about}, {first.ins:,} -> {last.outs:,} channels{levels}"
        return f"{said}{_norms(calls)}; {_input(first, 2 ** (count - 1))}"
    if last.kind == "Linear":
        said = f"a {residual}convolutional classifier{about}, {_channels(first.ins)}"
        return f"{said} -> {last.outs:,}{_norms(calls)}; {_input(first, 1, flow.input_side)}"
    turned = [part for part in convs if part.kind.startswith("ConvTranspose")]
    kind = f"a {residual}fully convolutional network"
    if "generator" in flow.tags:
        kind = "a convolutional generator"
    elif turned and not first.kind.startswith("ConvTranspose"):
        kind = f"a {residual}convolutional autoencoder"
    factor = 1
    for part in convs:
        step = part.arguments.get("stride", 1)
        factor *= step if isinstance(step, int) and part not in turned else 1
    said = f"{kind}{about}, {first.ins:,} -> {last.outs:,} channels{_norms(calls)}"
    return f"{said}; {_input(first, factor if turned else 1)}"


def _input(first: ModulePart, factor: int, side: int = 0) -> str:
    names = _SIDES[first.dims]
    side = 1 if first.kind.startswith("ConvTranspose") and first.usual == (1, 0) else side
    sides = [str(side)] * len(names) if side else list(names)
    said = f"input N x {first.ins:,} x {' x '.join(sides)}"
    return said + (f" ({', '.join(names)} multiples of {factor})" if factor > 1 else "")
