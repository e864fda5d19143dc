"""Networks whose modules don't stand in a row: several heads on one trunk, several branches that
are put together, an encoder whose two ends give a distribution."""

from __future__ import annotations

import re

from archfind.sourcing.chain import chain
from archfind.sourcing.flow import Body, Flow, adapted, entry
from archfind.sourcing.names import attribute, is_plain
from archfind.sourcing.parts import ModulePart
from archfind.sourcing.values import VECTOR, Value

_MEAN = re.compile(r"(^|_)(mu|mean|z_mean)\d*$")
_SPREAD = re.compile(r"(^|_)(log_?var\w*|var|log_?sigma|sigma|log_?std|std)\d*$")


def distribution(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """A variational autoencoder: a trunk, a mean and a spread beside one another, and a decoder."""
    children = list(part.children.values())
    if not part.is_block or part.path or part.tensors or len(children) < 4:
        return None
    at = next((n for n, c in enumerate(children) if _MEAN.search(c.name.lower())), 0)
    if not 0 < at < len(children) - 2 or not _SPREAD.search(children[at + 1].name.lower()):
        return None
    mean, spread, rest = children[at], children[at + 1], children[at + 2 :]
    if (mean.kind, mean.ins, mean.outs) != (spread.kind, spread.ins, spread.outs):
        return None
    body = Body()
    trunk = _row(part, children[:at], value, body, flow, False)
    given = adapted(body, trunk, mean, flow) if trunk is not None else None
    if given is None or flow.explain(mean, given, True) is None:
        return None
    code = flow.explain(spread, given, True)
    if code is None:
        return None
    body.flush()
    body.lines.append(
        f"mean, log_variance = {attribute(mean.name)}(x), {attribute(spread.name)}(x)"
    )
    flow.asked.value("sample", "mean", "outside of training, the mean is what a code stands for")
    body.x = "mean"
    decoded = _row(part, rest, code, body, flow, True)
    if decoded is None:
        return None
    part.forward = [*body.lines, f"return {body.x}, mean, log_variance"]
    part.gives = "tuple[Tensor, Tensor, Tensor]"
    flow.tags.append("variational")
    return decoded


def _row(
    part: ModulePart, members: list[ModulePart], value: Value, body: Body, flow: Flow, last: bool
) -> Value | None:
    """Modules in a row, called one after another in a larger forward."""
    if not members:
        return value
    for number, member in enumerate(members):
        if number or body.lines or body.x != "x":
            if body.x not in ("x",):
                body.lines.append(f"x = {body.x}")
                body.x = "x"
            arrived = adapted(body, value, member, flow)
        else:
            arrived = value
        if arrived is None:
            return None
        final = last and number == len(members) - 1
        given = flow.explain(member, arrived, final)
        if given is None:
            return None
        value = given
        body.call(attribute(member.name))
        if member.is_weight and not final:
            following = members[number + 1] if number + 1 < len(members) else None
            if following is None or not following.is_norm:
                body.call(flow.activate(part))
    return value


def several_heads(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """A trunk, and modules at the end that all read what it gives; or no trunk, and modules that
    all read the input."""
    children = list(part.children.values())
    if not part.is_block or part.path or part.tensors or len(children) < 2:
        return None
    if any(entry(child) is None for child in children if child.children):
        return None
    for count in range(min(4, len(children)), 1, -1):
        heads, trunk = children[-count:], children[:-count]
        firsts = [entry(head) for head in heads]
        widths = {(first.ins, first.kind) for first in firsts if first is not None}
        if len(widths) != 1 or None in firsts or any(map(_is_no_head, heads)):
            continue
        if not trunk and any(first is not None and first.is_conv for first in firsts):
            continue
        outs = [_outs(head) for head in heads]
        width = next(iter(widths))[0]
        if any(out == width for out in outs[:-1]) or (not trunk and heads[0].kind == "Linear"):
            continue
        given = _with_heads(part, trunk, heads, value, flow)
        if given is not None:
            return given
    return None


def _is_no_head(part: ModulePart) -> bool:
    """A norm, or a convolution that sees more than a point."""
    return part.is_norm or (part.is_conv and set(part.arguments["kernel_size"]) != {1})


def _outs(part: ModulePart) -> int:
    return next((c.outs for c in reversed(list(part.walk())) if c.is_weight), 0)


def _with_heads(
    part: ModulePart, trunk: list[ModulePart], heads: list[ModulePart], value: Value, flow: Flow
) -> Value | None:
    body = Body()
    if trunk:
        within = ModulePart(part.name, part.path)
        within.children = {member.name: member for member in trunk}
        row = chain(within, value, flow, False)
        if row is None or within.forward is None:
            return None
        part.extras = within.extras
        body.lines = within.forward[:-1]
        body.x = within.forward[-1].removeprefix("return ")
        value = row
        body_value = adapted(body, value, heads[0], flow)
        if body_value is None:
            return None
        value = body_value
    body.flush()
    given = value
    for head in heads:
        result = flow.explain(head, value, True)
        if result is None:
            return None
        given = result
    calls = [f"{attribute(head.name)}(x)" for head in heads]
    part.forward = [*body.lines, f"return {', '.join(calls)}"]
    part.gives = f"tuple[{', '.join(['Tensor'] * len(heads))}]"
    flow.tags.append("heads")
    flow.heads = heads
    return given


def branches(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """Modules that read the same, or an input each, and one that reads all that they give."""
    children = list(part.children.values())
    if not part.is_block or part.tensors or len(children) < 3:
        return None
    for count in range(2, len(children)):
        sides, rest = children[:count], children[count:]
        firsts = [entry(side) for side in sides]
        after = entry(rest[0])
        if None in firsts or after is None or any(s.is_norm for s in sides):
            continue
        if sum(map(_outs, sides)) != after.ins or not all(s.children for s in sides):
            continue
        apart = len({_reads(first) for first in firsts if first is not None}) > 1 or (
            value.kind == "input"
            and firsts[0] is not None
            and firsts[0].kind == "Linear"
            and not _same_input(sides)
        )
        if apart and value.kind != "input":
            continue
        given = _joined(part, sides, rest, value, flow, last, apart)
        if given is not None:
            return given
    return None


def _reads(first: ModulePart) -> int:
    """The width that a layer reads where it isn't depthwise."""
    return first.ins // first.arguments.get("groups", 1) if first.is_conv else first.ins


def _same_input(sides: list[ModulePart]) -> bool:
    """Whether branches of one width read one input: the names of others say what each reads."""
    return all(re.search(r"branch|path|expert|tower|head|b\d", s.name.lower()) for s in sides)


def _joined(
    part: ModulePart,
    sides: list[ModulePart],
    rest: list[ModulePart],
    value: Value,
    flow: Flow,
    last: bool,
    apart: bool,
) -> Value | None:
    names = [s.name if is_plain(s.name) else f"x{n}" for n, s in enumerate(sides, 1)]
    inputs = [f"{name}_input" for name in names] if apart else ["x"] * len(sides)
    given: list[Value] = []
    for side in sides:
        made = flow.explain(side, value, False)
        if made is None:
            return None
        given.append(made)
    kinds = {(one.kind, one.dims) for one in given}
    if len(kinds) != 1:
        return None
    calls = [f"{attribute(s.name)}({i})" for s, i in zip(sides, inputs, strict=True)]
    body = Body()
    axis = -1 if given[0].kind == "sequence" else 1
    body.lines = _put_together(calls, axis)
    total = Value(given[0].kind, sum(one.width for one in given), given[0].dims)
    within = ModulePart(part.name, part.path)
    within.children = {member.name: member for member in rest}
    row = chain(within, total, flow, last)
    if row is None or within.forward is None:
        return None
    part.extras = within.extras
    part.forward = [*body.lines, *within.forward]
    part.takes = tuple(dict.fromkeys(inputs))
    flow.tags.append("branches")
    return row if row.kind else Value(VECTOR, row.width)


def _put_together(calls: list[str], axis: int) -> list[str]:
    line = f"x = torch.cat([{', '.join(calls)}], dim={axis})"
    inner = f"    [{', '.join(calls)}], dim={axis}"
    if len(line) <= 80:
        return [line]
    if len(inner) <= 80:
        return ["x = torch.cat(", inner, ")"]
    rows = [f"        {call}," for call in calls]
    return ["x = torch.cat(", "    [", *rows, "    ],", f"    dim={axis},", ")"]
