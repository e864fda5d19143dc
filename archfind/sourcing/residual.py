"""Blocks that add what they were fed to what they make of it, and squeeze and excitation."""

from __future__ import annotations

import re

from archfind.sourcing.flow import Body, Flow, entry, shared_activation
from archfind.sourcing.names import attribute
from archfind.sourcing.parts import ModulePart
from archfind.sourcing.values import MAP, Value, is_activation

_PROJECTION = re.compile(
    r"(downsample|shortcut|skip|proj|projection|residual|identity|res|match|down|"
    r"conv_?res|res_?conv|skip_?conv|nin_shortcut|conv_skip|conv_shortcut)(_?conv)?\d*$",
    re.IGNORECASE,
)
_NO_SUM = re.compile(
    r"^(mlp|ffn?|feed_?forward|head|fc|classif|enc|dec|up|actor|critic|bottle|mid)"
)


def plain_structures(top: ModulePart) -> set[tuple[object, ...]]:
    """The structures of blocks that can't be residual: one of them changes the width, and has
    nothing beside it that would."""
    held: set[tuple[object, ...]] = set()
    for part in top.walk():
        if part.is_block and part.path and not any(map(_PROJECTION.match, part.children)):
            layers = [child for child in part.walk() if child.is_conv or child.kind == "Linear"]
            if layers and layers[0].ins != layers[-1].outs:
                held.add(part.structure())
    return held


def residual(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """A block of two layers or more whose output has the width of its input, or that has a
    projection beside it."""
    if not part.is_block or part.tensors or not part.path:
        return None
    shared = shared_activation(part)
    beside = [name for name in part.children if _PROJECTION.match(name)]
    main = [c for name, c in part.children.items() if name not in (*beside, shared)]
    weights = [child for child in main if child.is_weight or child.children]
    if len(beside) > 1 or len(weights) < 2 or value.kind == "input":
        return None
    if not beside and (part.structure() in flow.plain or _NO_SUM.match(part.name.lower())):
        return None
    if not beside and not (
        part.name.isdecimal() or re.search("res|block|layer", part.path.lower())
    ):
        return None
    if any(child.kind in ("ModuleList", "MultiheadAttention") for child in main):
        return None
    projection = part.children[beside[0]] if beside else None
    out = _last_width(main)
    if projection is None and out != value.width:
        return None
    if projection is not None and not projection.is_norm and value.kind == MAP:
        _plan_stride(main, projection, value.width != out)
    given = _write(part, main, projection, value, flow)
    if given is not None:
        part.words = part.words or ("ResidualBlock" if not part.stated else "")
        flow.tags.append("residual")
    return given


def _last_width(main: list[ModulePart]) -> int:
    return next((c.outs for c in reversed(main) if c.is_weight), 0)


def _plan_stride(main: list[ModulePart], projection: ModulePart, halves: bool) -> None:
    """A block that widens a map usually halves it, in its first kernel that isn't a point's."""
    wide = [c for c in main if c.is_conv and max(c.arguments["kernel_size"]) > 1]
    beside = entry(projection)
    if not halves or not wide or beside is None or not beside.is_conv:
        return
    for conv in (wide[0], beside):
        conv.usual = (2, conv.arguments["kernel_size"][0] // 2)
        conv.reason = "a block that widens a map usually halves it"


def _write(
    part: ModulePart,
    main: list[ModulePart],
    projection: ModulePart | None,
    value: Value,
    flow: Flow,
) -> Value | None:
    body = Body()
    start = value
    first = next(child for child in main if child.is_weight or child.is_norm or child.children)
    before = first.is_norm
    acts = any(is_activation(child.kind) for child in main)
    convs = [child for child in main if child.is_weight]
    skip = f"{attribute(projection.name)}(x)" if projection is not None else "x"
    body.lines.append(f"identity = {skip}")
    for at, member in enumerate(main):
        if before and not acts and member.is_weight and at and main[at - 1].is_norm:
            body.call(flow.activate(part))
        excited = _excitation(part, member, value, body, flow)
        if excited:
            continue
        given = flow.explain(member, value, True)
        if given is None:
            return None
        value = given
        body.call(attribute(member.name))
        following = main[at + 1] if at + 1 < len(main) else None
        waits = following is not None and (following.is_norm or is_activation(following.kind))
        ends = member.is_weight or (member.is_norm and not before)
        if (
            not before
            and not acts
            and ends
            and not waits
            and any(child in convs for child in main[at + 1 :])
        ):
            body.call(flow.activate(part))
    beside = flow.explain(projection, start, True) if projection is not None else start
    if beside is None or beside != value:
        return None
    if len(body.x) > 48:
        body.flush()
    total = f"{body.x} + identity"
    normed = any(child.is_norm for child in main)
    usual = "activation" if normed and not before else "none"
    if acts and not shared_activation(part):
        usual = "none"
    if (
        flow.asked.value("after_sum", usual, "usual for such blocks", ("activation", "none"))
        != "none"
    ):
        total = f"{flow.activate(part)}({total})"
    part.forward = [*body.lines, f"return {total}"]
    return value


def _excitation(part: ModulePart, member: ModulePart, value: Value, body: Body, flow: Flow) -> bool:
    """Squeeze and excitation within a block: two layers that narrow and widen the channels."""
    if not member.is_block or value.kind != MAP:
        return False
    layers = list(member.children.values())
    if len(layers) != 2 or not all(child.is_weight for child in layers):
        return False
    narrow, wide = layers
    if not narrow.ins == wide.outs == value.width or narrow.outs != wide.ins:
        return False
    axes = tuple(range(2, 2 + value.dims))
    inner = Value("vector" if narrow.kind == "Linear" else MAP, value.width, value.dims)
    if narrow.kind == "Linear":
        inner = Value("vector", value.width)
    middle = flow.explain(narrow, inner, False)
    if middle is None or flow.explain(wide, middle, True) is None:
        return False
    lines = [f"weight = x.mean(dim={axes}{', keepdim=True' * (narrow.kind != 'Linear')})"]
    act = flow.activate(member)
    lines.append(f"weight = {act}({attribute(narrow.name)}(weight))")
    lines.append(f"weight = torch.sigmoid({attribute(wide.name)}(weight))")
    spread = "[:, :" + ", None" * value.dims + "]" if narrow.kind == "Linear" else ""
    member.forward = [*lines, f"return x * weight{spread}"]
    member.words = "SqueezeExcitation"
    body.call(attribute(member.name))
    return True
