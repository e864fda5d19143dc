"""Attention, the blocks around it, and networks of such blocks over tokens, patches or steps."""

from __future__ import annotations

import re

from archfind.sourcing.flow import Body, Flow, entry
from archfind.sourcing.names import attribute
from archfind.sourcing.parts import ModulePart
from archfind.sourcing.stacks import heads
from archfind.sourcing.values import MAP, SEQUENCE, Value

_POSITIONS = re.compile(r"pos|wpe|(^|_)pe$")
_CLASS = re.compile(r"cls|class")
_QUERY, _KEY, _VALUE = (re.compile(rf"^(to_|w_?|linear_|fc_)?{w}") for w in ("q", "k", "v"))
_STACKS = ("TransformerEncoder", "TransformerEncoderLayer")


def attention(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """Self-attention by hand: one Linear for queries, keys and values, or three, and one after."""
    if not part.is_block or part.tensors or value.kind != SEQUENCE:
        return None
    layers = list(part.children.values())
    wide = value.width
    if not all(c.kind == "Linear" for c in layers) or len(layers) not in (2, 4):
        return None
    if len(layers) == 2:
        packed, out = layers
        if (packed.ins, packed.outs, out.ins, out.outs) != (wide, 3 * wide, wide, wide):
            return None
        count = heads(part, wide, flow.asked)
        split = f"{attribute(packed.name)}(x).view(n, t, 3, {count}, {wide // count})"
        lines = [f"q, k, v = {split}.permute(2, 0, 3, 1, 4)"]
        if len(lines[0]) > 72:
            lines = [f"x = {split}", "q, k, v = x.permute(2, 0, 3, 1, 4)"]
    else:
        names = [layer.name.lower() for layer in layers]
        patterns = (_QUERY, _KEY, _VALUE)
        three = [next((c for c in layers if p.match(c.name.lower())), None) for p in patterns]
        if None in three or len({c.name for c in three if c}) != 3 or not names:
            return None
        out = next(c for c in layers if c not in three)
        if any((c.ins, c.outs) != (wide, wide) for c in layers):
            return None
        count = heads(part, wide, flow.asked)
        lines = [
            f"{letter} = {attribute(c.name)}(x).view(n, t, {count}, -1).transpose(1, 2)"
            for letter, c in zip("qkv", three, strict=True)
            if c is not None
        ]
    causal = ", is_causal=True" if _is_causal(flow) else ""
    part.forward = [
        "n, t, _ = x.shape",
        *lines,
        f"x = F.scaled_dot_product_attention(q, k, v{causal})",
        f"return {attribute(out.name)}(x.transpose(1, 2).flatten(2))",
    ]
    part.words = "" if part.stated else "Attention"
    return value


def _is_causal(flow: Flow) -> bool:
    usual = "generates" in flow.tags
    why = "it gives words again" if usual else "it reads all at once"
    return bool(flow.asked.value("causal", usual, why, (False, True)))


def transformer_block(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """Two residual branches: attention, and Linears that widen; each with a norm."""
    if not part.is_block or part.tensors or value.kind != SEQUENCE:
        return None
    children = list(part.children.values())
    norms = [c for c in children if c.is_norm]
    rest = [c for c in children if not c.is_norm]
    if len(norms) != 2 or not rest or any(c.kind == "Embedding" for c in rest):
        return None
    attends, feeds = rest[0], rest[1:]
    if not (attends.kind == "MultiheadAttention" or attends.children) or not feeds:
        return None
    for norm in norms:
        if flow.explain(norm, value, False) is None:
            return None
    flow.usual_activation = "gelu"
    if attends.kind != "MultiheadAttention" and attention(attends, value, flow, False) is None:
        return None
    first = children.index(norms[0]) < children.index(attends)
    first = bool(flow.asked.value("norm_first", first, "the order of registration", (True, False)))
    inner = _fed(part, feeds, value, flow)
    if inner is None:
        return None
    name = attribute(attends.name)
    one, two = (attribute(norm.name) for norm in norms)
    lines: list[str] = []
    if attends.kind == "MultiheadAttention":
        y = "y" if first else "x"
        said = f"x + {name}({y}, {y}, {y}, need_weights=False)[0]"
        lines = [f"y = {one}(x)", f"x = {said}"] if first else [f"x = {one}({said})"]
    else:
        lines = [f"x = x + {name}({one}(x))"] if first else [f"x = {one}(x + {name}(x))"]
    fed = inner.format(f"{two}(x)" if first else "x")
    lines.append(f"return x + {fed}" if first else f"return {two}(x + {fed})")
    part.forward = lines
    part.words = "" if part.stated else "TransformerBlock"
    return value


def _fed(part: ModulePart, feeds: list[ModulePart], value: Value, flow: Flow) -> str | None:
    """The second branch as an expression with a place for what it reads."""
    text, flowing = "{}", value
    for at, member in enumerate(feeds):
        given = flow.explain(member, flowing, True)
        if given is None:
            return None
        flowing = given
        text = f"{attribute(member.name)}({text})"
        if member.kind == "Linear" and at < len(feeds) - 1:
            text = f"{flow.activate(part)}({text})"
    return text if flowing == value else None


def over_sequence(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """A whole network: embeddings, patches or steps, positions, blocks, a norm and a head."""
    if part.path or not part.is_block:
        return None
    children = list(part.children.values())
    blocks = [c for c in children if _is_stack(c)]
    raw = dict(part.tensors)
    if len(blocks) != 1 or len(raw) > 2:
        return None
    at = children.index(blocks[0])
    tables = [c for c in children if c.kind == "Embedding"]
    positions = [c for c in children if _POSITIONS.search(c.name.lower())]
    start = [c for c in children[:at] if c not in positions]
    ending = [c for c in children[at + 1 :] if c not in positions and c not in start]
    if len(start) != 1 or len(positions) > 1 or len(tables) > 2:
        return None
    head = ending[-1] if ending else None
    if start[0].kind == "Embedding" and head is not None:
        rows = start[0].arguments["num_embeddings"]
        flow.tags.append("generates" if head.outs == rows else "tokens")
    body = Body()
    given = _started(start[0], body, flow)
    if given is None or not _placed(part, positions, given, body, flow):
        return None
    for member in (blocks[0], *ending):
        if member is head and not _read(part, given, body, flow):
            return None
        if member is head and "generates" not in flow.tags:
            whole = flow.asked.unseen["readout"].value == "none"
            given = Value(SEQUENCE if whole else "vector", given.width)
        passed = _passed(member, given, body, flow, member is head)
        if passed is None:
            return None
        given = passed
    part.forward = body.done()
    flow.tags.append("transformer")
    return given


def _is_stack(part: ModulePart) -> bool:
    if part.kind in _STACKS:
        return True
    kinds = {c.kind for c in part.children.values()}
    names = all(name.isdecimal() for name in part.children)
    attends = any(c.kind == "MultiheadAttention" or re.search("att", c.name) for c in part.walk())
    return bool(part.children) and names and attends and kinds <= {"Block", *_STACKS}


def _started(start: ModulePart, body: Body, flow: Flow) -> Value | None:
    first = entry(start)
    if first is not None and first.is_conv:
        kernel = first.arguments["kernel_size"]
        first.usual, first.reason = (kernel[0], 0), "patches don't overlap"
    given = flow.explain(start, Value("input"), False)
    if given is None:
        return None
    body.call(attribute(start.name))
    if given.kind == MAP:
        body.step("x = x.flatten(2).transpose(1, 2)")
        return Value(SEQUENCE, given.width)
    return Value(SEQUENCE, given.width) if given.kind in (SEQUENCE, "vector") else None


def _placed(
    part: ModulePart, positions: list[ModulePart], value: Value, body: Body, flow: Flow
) -> bool:
    """A class token put in front, and positions added."""
    for name, spec in part.tensors.items():
        if _CLASS.search(name.lower()) and spec.shape == (1, 1, value.width):
            token = f"{attribute(name, '_parameters')}.expand(x.shape[0], -1, -1)"
            body.step(f"x = torch.cat([{token}, x], dim=1)")
            flow.tags.append("cls")
    for name, spec in part.tensors.items():
        shape = spec.shape
        if _CLASS.search(name.lower()):
            continue
        if not _POSITIONS.search(name.lower()) or len(shape) != 3 or shape[-1] != value.width:
            return False
        if shape[0] != 1:
            return False
        body.step(f"x = x + {attribute(name, '_parameters')}[:, : x.shape[1]]")
    for member in positions:
        name = attribute(member.name)
        if member.kind == "Embedding" and member.outs == value.width:
            body.step(f"x = x + {name}(torch.arange(x.shape[1], device=x.device))")
        elif table(member, value, flow, False) is not None:
            body.call(name)
        else:
            return False
    return True


def table(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """A block that holds a table of positions alone, which it adds."""
    if part.children or len(part.tensors) != 1 or value.kind != SEQUENCE:
        return None
    name, spec = next(iter(part.tensors.items()))
    if len(spec.shape) != 3 or spec.shape[2] != value.width or 1 not in spec.shape[:2]:
        return None
    held = attribute(name, "_parameters")
    turned = spec.shape[0] != 1
    rows = f"{held}[: x.shape[1]].transpose(0, 1)" if turned else f"{held}[:, : x.shape[1]]"
    part.forward = [f"return x + {rows}"]
    return value


def _read(part: ModulePart, value: Value, body: Body, flow: Flow) -> bool:
    if "generates" in flow.tags:
        return True
    usual = "first" if "cls" in flow.tags else "mean"
    why = "it has a class token" if usual == "first" else "the usual way to one answer"
    how = flow.asked.value("readout", usual, why, ("first", "mean", "last", "none"))
    lines = {"first": "x = x[:, 0]", "mean": "x = x.mean(dim=1)", "last": "x = x[:, -1]"}
    if how in lines:
        body.step(lines[how])
    return True


def _passed(member: ModulePart, value: Value, body: Body, flow: Flow, last: bool) -> Value | None:
    name = attribute(member.name)
    if member.kind in _STACKS:
        body.call(name)
        return value if member.ins == value.width else None
    if member.children and all(n.isdecimal() for n in member.children) and _is_stack(member):
        for child in member.children.values():
            if transformer_block(child, value, flow, False) is None and child.kind not in _STACKS:
                return None
        member.kind = "ModuleList"
        body.step(f"for block in {name}:")
        body.lines.append("    x = block(x)")
        return value
    given = flow.explain(member, value, last)
    if given is not None:
        body.call(name)
    return given
