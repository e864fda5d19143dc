"""The layers that a state dict's tensors belong to, in the order in which they probably run: what
each takes in and puts out, from keys and shapes alone. No library's names are needed."""

from __future__ import annotations

import re

from archfind.frozen import row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.types import TensorSpec

    Modules = dict[str, dict[str, tuple[int, ...]]]  # path -> the shapes of its tensors by name

# How weight and spectral norm call the tensor that has the weight's shape.
_WEIGHTS = ("weight", "weight_v", "weight_orig", "original1", "original", "weight_bar")
_EMBEDDING = re.compile(r"emb|wte|wpe|vocab|lookup|tok")
# What feeds a network something else than its data: the time of a diffusion step, positions ...
_ASIDE = re.compile(
    r"(^|[._])(time|temb|t_?emb|timestep|cond|label|class_?emb|sigma|noise_(emb|level)|pos|wpe|"
    r"position|rel_?pos|relative|token_type|segment_?emb|cpb|film|aux|dt)"
)
# Where modules stand, by a component of their names: for files whose order doesn't say it. What is
# in none of these stands at DEFAULT.
_PLACES = (
    (
        0,
        r"^(in|in_?conv|conv_?in|inc|input|init|first|start|pre|patch)(_|\d*$)|stem|emb|^wte|"
        r"_(in|first|input)$",
    ),
    (1, r"^(enc|encoder|encoders|down\w*|shared|features|backbone)(_|\d*$)"),
    (3, r"^(mid|middle|bottleneck|bridge|quant\w*)(_|\d*$)|(^|_)(mu|mean|var|logvar|latent)$"),
    (4, r"^(up\w*|dec|decoder|decoders|neck|post|conv_head)(_|\d*$)|_up$"),
    (
        5,
        r"^(head|heads|fc|classif\w*|cls|out|outc|output|final|last|logits?|linear|lm_head|score|"
        r"predict\w*|proj_out|to_rgb|top|dense|segmentation_head|end|tail)(_|\d*$)|"
        r"_(out|last|final|head)$",
    ),
)
_DEFAULT, OUTPUT = 2, 5
_PATTERNS = {place: re.compile(pattern) for place, pattern in _PLACES}


@row
class Layer:
    """A layer with weights. `kind` is conv, linear, embedding or recurrent; `kernel` has a
    convolution's sizes, `gates` how many gates a recurrent layer has (LSTM 4, GRU 3, plain 1)."""

    path: str
    kind: str
    ins: int
    outs: int
    kernel: tuple[int, ...] = ()
    depthwise: bool = False
    gates: int = 0
    bidirectional: bool = False
    aside: bool = False


def layers(index: Mapping[str, TensorSpec]) -> list[Layer]:
    """The layers of a state dict. Files that sort their keys have lost the order of modules: there
    names say what comes first and last (`stem`, `encoder`, `head`)."""
    keys = [key for key, spec in index.items() if "float" in spec.dtype and spec.shape]
    if len(keys) > 2 and keys == sorted(keys):
        keys.sort(key=_place)
    modules: Modules = {}
    for key in keys:
        path, _, name = key.rpartition(".")
        path = path.replace("parametrizations.weight", "").rstrip(".")
        modules.setdefault(path, {})[name] = index[key].shape
    found: list[Layer] = []
    widths = _norms(modules)
    for path, held in modules.items():
        found += _of_module(path, held, found, widths)
    if not found:  # bare parameters with names of their own
        named = [key for key in keys if len(index[key].shape) > 1]
        for key in named:
            found += _of_module(key, {"weight": index[key].shape}, found, widths)
    return _with_embeddings(found, modules)


def _place(key: str) -> list[tuple[int, list[tuple[int, int, str]]]]:
    # late: it takes as long to import as a short file
    from archfind.state_dicts.key_names import natural

    return [(place_of_module(word), natural(word)) for word in key.lower().split(".")[:-1]]


def place_of_module(word: str) -> int:
    """Where a module of this name stands: from 0, what reads the data, to OUTPUT."""
    ends = (place for place in (3, 0, 4, 5, 1) if _PATTERNS[place].search(word))
    return next(ends, _DEFAULT)


def _norms(modules: Modules) -> dict[str, int]:
    """The width of the norm that follows each module, where one does before the next weight."""
    found: dict[str, int] = {}
    waiting: list[str] = []
    for path, held in modules.items():
        if any(len(shape) > 1 for shape in held.values()):
            waiting = [path]
        elif waiting and held:
            found[waiting.pop()] = next(iter(held.values()))[0]
    return found


def _of_module(
    path: str, held: dict[str, tuple[int, ...]], before: list[Layer], norms: Mapping[str, int]
) -> Iterable[Layer]:
    if any(name.startswith("weight_hh") for name in held):
        yield from _recurrent(path, held)
        return
    aside = _ASIDE.search(path.lower()) is not None
    if "in_proj_weight" in held and len(held["in_proj_weight"]) == 2:
        outs, ins = held["in_proj_weight"]
        yield Layer(f"{path}.in_proj", "linear", ins, outs, aside=aside)
    shape = next((held[name] for name in _WEIGHTS if len(held.get(name, ())) > 1), ())
    if len(shape) == 2:
        bare = "bias" not in held and _EMBEDDING.search(path.lower()) is not None
        kind = "embedding" if bare else "linear"
        outs, ins = shape[::-1] if bare else shape
        yield Layer(path, kind, ins, outs, aside=aside)
    elif 3 <= len(shape) <= 5:
        yield _convolution(path, shape, held.get("bias"), before, norms.get(path, 0), aside)


def _convolution(
    path: str,
    shape: tuple[int, ...],
    bias: tuple[int, ...] | None,
    before: list[Layer],
    norm: int,
    aside: bool,
) -> Layer:
    """Which of the first two sizes a convolution puts out is told by its bias, the norm behind it,
    or the layer before it; transposed ones have them the other way round."""
    first, second, kernel = shape[0], shape[1], shape[2:]
    last = before[-1].outs if before else 0
    outs = bias[0] if bias else norm
    if outs not in (first, second):
        outs = second if last == first != second else first
    elif not bias and outs == second and last == second != first:
        outs = first  # the norm stands for the layer's input: it is another branch's
    # Kernels of even size are those of transposed convolutions, not of depthwise ones.
    odd = all(size % 2 for size in kernel) or bias == (first,)
    deep = second == 1 and first > 1 and odd and any(layer.outs == first for layer in before)
    if deep:
        return Layer(path, "conv", first, first, kernel, depthwise=True, aside=aside)
    ins = first if outs == second != first else second
    return Layer(path, "conv", ins, outs, kernel, aside=aside)


def _recurrent(path: str, held: dict[str, tuple[int, ...]]) -> Iterable[Layer]:
    both = any(name.endswith("_reverse") for name in held)
    for name, shape in held.items():
        level = name.removeprefix("weight_hh")
        inside = held.get(f"weight_ih{level}")
        if level == name or level.endswith("_reverse") or not inside or len(shape) != 2:
            continue
        projected = held.get(f"weight_hr{level}")
        hidden = projected[1] if projected and len(projected) == 2 else shape[1]
        gates = shape[0] // max(hidden, 1)
        outs = shape[1] * (2 if both else 1)
        yield Layer(
            f"{path}{level}", "recurrent", inside[-1], outs, gates=gates, bidirectional=both
        )


def _with_embeddings(found: list[Layer], modules: Modules) -> list[Layer]:
    """Tables of vectors among what looks like Linears: no bias, and what follows takes the vectors'
    width. A layer whose name speaks of embeddings is a Linear where what follows takes its rows."""
    fixed: list[Layer] = []
    widths = {layer.ins for layer in found if layer.kind != "embedding"}
    for number, layer in enumerate(found):
        following = [one.ins for one in found[number + 1 : number + 5] if one.kind != "embedding"]
        bare = "bias" not in modules.get(layer.path, {"bias": ()})
        if layer.kind == "embedding" and following and layer.outs not in widths:
            if layer.ins in following:
                layer = Layer(layer.path, "linear", layer.outs, layer.ins, aside=layer.aside)
        elif layer.kind == "linear" and bare and not number and following:
            rows, columns = layer.outs, layer.ins
            if columns in following and rows not in widths and rows > 4 * columns:
                layer = Layer(layer.path, "embedding", rows, columns, aside=layer.aside)
        fixed.append(layer)
    return fixed
