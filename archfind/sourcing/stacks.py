"""torch's own transformer layers, and stacks of them, by the names of their parts."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.sourcing.parts import ModulePart
    from archfind.sourcing.unseen import Asked

_ENCODER = ("self_attn", "linear1", "linear2", "norm1", "norm2")
_DECODER = ("self_attn", "multihead_attn", "linear1", "linear2", "norm1", "norm2", "norm3")


def torch_stacks(top: ModulePart, asked: Asked) -> None:
    """Make of the parts of nn.TransformerEncoderLayer and the like these layers, and ask for the
    number of heads of every attention."""
    parts = list(top.walk())
    for part in reversed(parts):
        # A whole pickle lists its layers without tensors, too.
        names = {n for n, c in part.children.items() if c.kind not in ("Dropout", "ReLU", "GELU")}
        if names in (set(_ENCODER), set(_DECODER)) and not part.tensors:
            _layer(part, asked)
    for part in reversed(parts):
        held = part.children.get("layers")
        names = set(part.children)
        if held is None or part.tensors or not names <= {"layers", "norm"}:
            continue
        layers = list(held.children.values())
        kinds = {layer.kind for layer in layers}
        alike = all(layer.arguments == layers[0].arguments for layer in layers)
        torchs = kinds in ({"TransformerEncoderLayer"}, {"TransformerDecoderLayer"})
        if alike and torchs and list(held.children) == [str(n) for n in range(len(layers))]:
            part.kind = layers[0].kind.removesuffix("Layer")
            part.ins = part.outs = layers[0].ins
    for part in parts:
        if part.kind == "MultiheadAttention" and not part.arguments["num_heads"]:
            part.arguments["num_heads"] = heads(part, part.outs, asked)


def _layer(part: ModulePart, asked: Asked) -> None:
    attention, first = part.children["self_attn"], part.children["linear1"]
    second = part.children["linear2"]
    linears = first.kind == second.kind == "Linear"
    norms = all(c.kind == "LayerNorm" for n, c in part.children.items() if n.startswith("norm"))
    if attention.kind != "MultiheadAttention" or not linears or not norms:
        return
    wide = attention.outs
    if (first.ins, second.outs, second.ins) != (wide, wide, first.outs):
        return
    if any(child.arguments.get("bias") is False for child in part.children.values()):
        return
    part.kind = "TransformerDecoderLayer" if "norm3" in part.children else "TransformerEncoderLayer"
    told = part.said
    part.arguments = {
        "d_model": wide,
        "nhead": heads(attention, wide, asked),
        "dim_feedforward": first.outs,
        "batch_first": True,
    }
    first = attention.said.get("batch_first")
    if isinstance(first, bool):
        part.arguments["batch_first"] = asked.file_says("batch_first", first)
    else:
        asked.value("batch_first", True, "the usual order of dimensions")
    act = {1: "relu", 2: "gelu"}.get(told.get("activation_relu_or_gelu", 0), "")  # pyright: ignore
    if act:
        word = asked.file_says("layer_activation", act)
    else:
        word = asked.value("layer_activation", "relu", "torch's default", ("relu", "gelu"))
    if word == "gelu":
        part.arguments["activation"] = '"gelu"'
    order = told.get("norm_first")
    if isinstance(order, bool):
        order = asked.file_says("norm_first", order)
    else:
        order = asked.value("norm_first", False, "torch's default", (False, True))
    if order:
        part.arguments["norm_first"] = True
    part.ins = part.outs = wide
    part.children = {}


def heads(part: ModulePart, wide: int, asked: Asked) -> int:
    """The number of heads of an attention: the file's, or the usual one for its width."""
    told = part.said.get("num_heads")
    if isinstance(told, int) and told > 0 and wide % told == 0:
        return asked.file_says("num_heads", told)
    # Small networks have four heads, down to eight numbers each; from 128 on, heads of 16.
    usual = next(n for n in (8, 4, 2, 1) if wide % n == 0 and (wide // n >= 16 or n == 1))
    if usual < 4 and wide % 4 == 0 and wide >= 32:
        usual = 4
    if wide >= 384 and wide % 64 == 0:
        usual = wide // 64
    count = asked.value("num_heads", usual, "usual for its width", (1, 2, 4, 8, 12, 16))
    return count if isinstance(count, int) and count > 0 and wide % count == 0 else 1
