"""What kind of network a state dict is of, whoever made it: convolutional, an MLP, recurrent, a
transformer; what goes in and how much comes out. From keys and shapes alone."""

from __future__ import annotations

import re

from archfind.evidence.layers import OUTPUT, layers, place_of_module
from archfind.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.evidence.layers import Layer
    from archfind.types import TensorSpec

_CELLS = {4: "LSTM", 3: "GRU", 1: "RNN"}
_ATTENTION = re.compile(
    r"(^|[._])(in_proj|qkv|c_attn|w?qkv\w*|query_key_value|to_qkv|(to_|w|w_|linear_|attn_)?q(_?proj|"
    r"_?lin\w*|s)?|query(_\w+)?)$"
)
_HEADS = re.compile(r"att(n|ention)|mha")
_LARGEST = 60_000  # tensors that are looked at


@frozen
class Anatomy:
    """A kind of network. `family` is one of FAMILIES, "" where no layer is known. `dims` counts the
    dimensions that its convolutions run over. `takes` says what the first layer reads: channels,
    features or tokens; `inputs` and `outputs` are how many, 0 where that isn't plain. `cell` is
    LSTM, GRU or RNN; `depth` counts recurrent layers or attentions, `width` is theirs."""

    family: str
    dims: int = 0
    takes: str = ""
    inputs: int = 0
    outputs: int = 0
    cell: str = ""
    bidirectional: bool = False
    depth: int = 0
    width: int = 0

    def __str__(self) -> str:
        """One line: "a fully convolutional network (2-D): 3 channels in, 1 out"."""
        if not self.family:
            return "its tensors are of no known layer"
        about = [f"{self.dims}-D"] * bool(self.dims)
        if self.cell:
            about += [self.cell, "bidirectional"] if self.bidirectional else [self.cell]
            about.append(f"{self.depth} layer{'s' * (self.depth != 1)} of width {self.width}")
        elif self.family == TRANSFORMER:
            about.append(f"{self.depth} attention{'s' * (self.depth != 1)} of width {self.width}")
        said = self.family + (f" ({', '.join(about)})" if about else "")
        words = {"tokens": "a vocabulary of {} in", "channels": "{} channel{} in"}
        flows: list[str] = []
        if self.inputs:
            text = words.get(self.takes, "{} feature{} in")
            flows.append(text.format(self.inputs, "s" * (self.inputs != 1)))
        if self.outputs:
            flows.append(f"{self.outputs} out")
        return said + (f": {', '.join(flows)}" if flows else "")


FULLY = "a fully convolutional network"
CLASSIFIER = "a convolutional network with a classifier"
MIXED = "a convolutional network with linear layers inside"
ATTENTIVE = "a convolutional network with attention"
MLP = "an MLP"
RECURRENT = "a recurrent network"
CRNN = "a convolutional and recurrent network"
TRANSFORMER = "a transformer"
FAMILIES = (FULLY, CLASSIFIER, MIXED, ATTENTIVE, MLP, RECURRENT, CRNN, TRANSFORMER)


def anatomy(index: Mapping[str, TensorSpec]) -> Anatomy:
    """The kind of network that `index` is the state dict of."""
    if len(index) > _LARGEST:
        index = dict(list(index.items())[:_LARGEST])
    every = layers(index)
    main = [layer for layer in every if not layer.aside] or every
    if not main:
        return Anatomy("")
    cells = [layer for layer in main if layer.kind == "recurrent"]
    convolutions = [layer for layer in main if layer.kind == "conv"]
    spatial = [layer for layer in convolutions if max(layer.kernel) > 1]
    linears = [layer for layer in main if layer.kind == "linear"]
    attentions = _attentions(main)
    first = _first(main, sorted_=list(index) == sorted(index))
    last = _last(main, first, index)
    dims = _dims(spatial or convolutions)
    takes = {"conv": "channels", "embedding": "tokens"}.get(first.kind, "features")
    flows = takes, first.ins, last.outs if last else 0
    if cells:
        gates = [layer.gates for layer in cells]
        return Anatomy(
            CRNN if len(spatial) > 1 else RECURRENT,
            dims if len(spatial) > 1 else 0,
            *flows,
            cell=_CELLS.get(max(gates, key=gates.count), ""),
            bidirectional=any(layer.bidirectional for layer in cells),
            depth=len(cells),
            width=cells[0].outs // (2 if cells[0].bidirectional else 1),
        )
    if attentions and len(spatial) <= max(3, 2 * len(attentions)):
        widths = [layer.ins for layer in attentions]
        width = max(set(widths), key=widths.count)
        return Anatomy(TRANSFORMER, dims, *flows, depth=len(attentions), width=width)
    few = len(convolutions) <= 2 and len(linears) > 3 * len(convolutions) and len(linears) > 3
    if not convolutions or few:
        return Anatomy(MLP, dims, *flows)
    if attentions:
        return Anatomy(ATTENTIVE, dims, *flows)
    if last is not None and last.kind == "linear":
        return Anatomy(CLASSIFIER, dims, *flows)
    return Anatomy(MIXED if linears else FULLY, dims, *flows)


def _dims(convolutions: list[Layer]) -> int:
    ranks = [len(layer.kernel) for layer in convolutions]
    return max(set(ranks), key=ranks.count) if ranks else 0


def _attentions(main: list[Layer]) -> list[Layer]:
    """A layer for each attention: its projection of queries, or of all three, by name; by shapes a
    Linear three times as wide as it reads, before one that is square."""
    found: list[Layer] = []
    squares: dict[str, list[Layer]] = {}
    for number, layer in enumerate(main):
        if layer.kind not in ("linear", "conv") or max(layer.kernel, default=1) > 1:
            continue
        path = layer.path.lower()
        following = main[number + 1] if number + 1 < len(main) else None
        packed = (
            layer.kind == "linear"
            and layer.outs == 3 * layer.ins
            and following is not None
            and (following.ins, following.outs) == (layer.ins, layer.ins)
        )
        if packed or _ATTENTION.search(path):
            found.append(layer)
        elif layer.ins == layer.outs and layer.kind == "linear":
            above = path.rpartition(".")[0]
            squares.setdefault(above if _HEADS.search(above) else "", []).append(layer)
    if not found:
        found = [held[0] for above, held in squares.items() if above and len(held) >= 3]
    return found


def _first(main: list[Layer], sorted_: bool) -> Layer:
    """The layer that reads the data. Where the file's order says nothing, a convolution that reads
    what no layer puts out comes first."""
    if sorted_:
        puts = {layer.outs for layer in main}
        convolutions = [layer for layer in main if layer.kind == "conv" and not layer.depthwise]
        pictures = [layer for layer in convolutions if layer.ins <= 4 and max(layer.kernel) > 1]
        fresh = [layer for layer in convolutions if layer.ins not in puts]
        if len(pictures) == 1:
            return pictures[0]
        if len(convolutions) * 2 > len(main) and (pictures or fresh):
            return (pictures or fresh)[0]
    return main[0]


def _last(main: list[Layer], first: Layer, index: Mapping[str, TensorSpec]) -> Layer | None:
    """The layer that gives the result; None where only tables of vectors are there."""
    main = [layer for layer in main if layer.kind != "embedding" and "pooler" not in layer.path]
    if not main:
        return None
    if list(index) == sorted(index):
        reads = {layer.ins for layer in main if layer is not first}
        norms = {spec.shape[:1] for key, spec in index.items() if key.endswith("running_mean")}
        ends = [layer for layer in main if layer.outs not in reads and (layer.outs,) not in norms]
        named = [layer for layer in ends if _is_output(layer)]
        if len(named) == 1:
            return named[0]
        if len(ends) == 1 and not _is_output(main[-1]):
            return ends[0]
    return main[-1]


def _is_output(layer: Layer) -> bool:
    return any(place_of_module(word) == OUTPUT for word in layer.path.lower().split("."))
