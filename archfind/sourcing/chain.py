"""Modules that feed one another in a row: Sequentials, and blocks whose widths chain."""

from __future__ import annotations

import re

from archfind.sourcing.chain_order import LATENT, belongs, in_order, wants_activation
from archfind.sourcing.flow import Body, Flow, adapted, entry, shared_activation
from archfind.sourcing.names import attribute
from archfind.sourcing.parts import RECURRENT, ModulePart
from archfind.sourcing.unseen import ACTIVATIONS
from archfind.sourcing.values import MAP, SEQUENCE, TOKENS, VECTOR, Value

# Names of modules that stand beside one another: no row.
_PARALLEL = re.compile(
    r"(gate|filter|skip|shortcut|downsample|identity|res|residual|query|key|value|[qkv]|[qkv]_proj|"
    r"(to|w)_?[qkv]|logvar|log_var|actor|critic|policy|branch)(_?\w*\d*)?$",
    re.IGNORECASE,
)


def sequential(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """A Sequential: its children in order; between their numbers stand layers without tensors."""
    if part.kind != "Sequential":
        return None
    if not part.stated and not all(name.isdecimal() for name in part.children):
        return None
    numbers = list(part.children)
    members = list(part.children.values())
    if _is_bare_list(part, flow):
        return None
    before = -1
    for at, (name, member) in enumerate(zip(numbers, members, strict=True)):
        if name.isdecimal() and not flow.listed:
            gap = list(range(before + 1, int(name)))
            arrived = _through_gap(part, gap, members[at - 1] if at else None, member, value, flow)
            if arrived is None:
                return None
            value, before = arrived, int(name)
        final = last and not any(child.ins for child in members[at + 1 :])
        if value.kind == MAP and member.kind == "Flatten":
            following = next((child.ins for child in members[at + 1 :] if child.ins), 0)
            if following and following % value.width:
                return None
            value = Value(VECTOR, following or value.width)
            continue
        given = flow.explain(member, value, final)
        if given is None:
            return None
        value = given
    if not last and not flow.listed and _ends_open(members) and not _is_code(part):
        _tail(part, before, value, flow)
    elif last and not flow.listed and "." not in part.path and members[-1].is_weight:
        word = final_word(members[-1], flow)
        if word != "none":
            flow.symbols["final"] = ACTIVATIONS[word]
            part.extras[str(before + 1)] = ("final", {})
    return value


def _tail(part: ModulePart, before: int, value: Value, flow: Flow) -> None:
    """Layers without tensors after the last one that has some: nothing shows them."""
    word = flow.asked.value(f"{part.path}.{before + 1}", "activation", "more follows")
    _put(part, before + 1, word, value, flow)
    weight = next((c for c in reversed(part.children.values()) if c.is_weight), None)
    if weight is not None and weight.path in flow.pools:
        word = flow.asked.value(f"{part.path}.{before + 2}", "max_pool", weight.reason)
        _put(part, before + 2, word, value, flow)


def final_word(part: ModulePart, flow: Flow) -> str:
    """The function after the last layer, which leaves no trace."""
    usual = "none"
    if "generator" in flow.tags and part.outs in (1, 3):
        usual = "tanh"
    common = ("none", "sigmoid", "tanh", "softmax")
    return flow.asked.value("final", usual, "the usual end of this kind of network", common)


def _is_bare_list(part: ModulePart, flow: Flow) -> bool:
    """Whether what has numbers is a ModuleList of layers, which a forward puts functions between:
    a Sequential of Linears alone would be one matrix."""
    kinds = {child.kind for child in part.children.values()}
    close = list(part.children) == [str(n) for n in range(len(part.children))]
    layers = all(child.is_weight or child.is_norm for child in part.children.values())
    return not flow.listed and close and len(part.children) > 1 and len(kinds) == 1 and layers


def _ends_open(members: list[ModulePart]) -> bool:
    """Whether an activation is to be expected after the last of a Sequential's modules."""
    ending = members[-1]
    return ending.is_weight or (ending.is_norm and len(members) > 1 and members[-2].is_weight)


def _is_code(part: ModulePart) -> bool:
    """Whether a part ends in a code of few numbers that nothing is put on."""
    name = part.name.lower()
    ending = list(part.children.values())[-1]
    return ending.kind == "Linear" and (name.startswith("enc") or name in LATENT)


def _through_gap(
    part: ModulePart,
    gap: list[int],
    before: ModulePart | None,
    after: ModulePart,
    value: Value,
    flow: Flow,
) -> Value | None:
    """What flows into `after`, with layers written for the free numbers before it."""
    words: list[str] = []
    first = entry(after)
    flattens = value.kind == MAP and first is not None and first.kind == "Linear"
    left = len(gap)
    if flattens and first is not None:
        if first.ins % max(value.width, 1) or not gap:
            return None
        tail = ["flatten"]
        if first.ins == value.width and left > 1:
            tail = ["global_pool", "flatten"]
        left -= len(tail)
    else:
        tail = []
    if before is not None and (before.is_weight or before.is_norm) and left > 0:
        words.append("activation")
        left -= 1
    upward = part.name.lower().startswith(("dec", "up"))
    while left > 0:
        word = "dropout"
        if value.kind == MAP and "max_pool" not in words and "upsample" not in words:
            word = "upsample" if upward else "max_pool"
            word = word if before is not None else "activation"
        words.append(word)
        left -= 1
    for number, usual in zip(gap, [*words, *tail], strict=True):
        reason = "its number is free, and it has no tensors"
        word = flow.asked.value(f"{part.path}.{number}".lstrip("."), usual, reason)
        _put(part, number, word, value, flow)
    if flattens and first is not None:
        return Value(VECTOR, first.ins)
    return value


def _put(part: ModulePart, number: int, word: str, value: Value, flow: Flow) -> None:
    """A layer without tensors at a free number of a Sequential."""
    dims = value.dims or 1
    made: dict[str, tuple[str, dict[str, object]]] = {
        "max_pool": (f"MaxPool{dims}d", {"kernel_size": 2}),
        "avg_pool": (f"AvgPool{dims}d", {"kernel_size": 2}),
        "global_pool": (f"AdaptiveAvgPool{dims}d", {"output_size": 1}),
        "flatten": ("Flatten", {}),
        "dropout": ("Dropout", {}),
        "upsample": ("Upsample", {"scale_factor": 2}),
    }
    if word == "none":
        return
    if word in made:
        part.extras[str(number)] = made[word]
    elif word == "activation":
        part.extras[str(number)] = (flow.activation(), {})
    else:
        text = ACTIVATIONS.get(word, "nn.Identity")
        if text.startswith("lambda: nn.LeakyReLU"):
            part.extras[str(number)] = ("LeakyReLU", {"negative_slope": float(text[21:-1])})
        elif text.startswith("lambda: nn."):
            part.extras[str(number)] = (text[11:].partition("(")[0], {"dim": -1})
        else:
            part.extras[str(number)] = (text[3:], {})


def chain(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """A block whose modules feed one another in the order in which they stand."""
    if not part.is_block or part.tensors or any(map(_PARALLEL.match, part.children)):
        return None
    body = Body()
    shared = shared_activation(part)
    members = in_order([child for name, child in part.children.items() if name != shared])
    pools = set(flow.pools)
    implied = bool(shared) or not flow.has_activations(part)
    for at, member in enumerate(members):
        rest = members[at + 1 :]
        final = last and not any(entry(child) for child in rest)
        if member.kind == "Embedding" and value.kind == "input":
            value = Value(TOKENS)
        arrived = adapted(body, value, member, flow)
        arrived = _read_out(body, arrived, member, final, flow)
        if arrived is None:
            return None
        given = _run(part, member, arrived, body, final, flow)
        if given is None:
            return None
        value = given
        following = rest[0] if rest else None
        if implied and wants_activation(member, members[:at], following, final, flow):
            body.call(flow.activate(part))
        weight = next((c for c in reversed(members[: at + 1]) if c.is_weight), None)
        if weight is not None and weight.path in pools and not belongs(following):
            body.call(flow.pool(part, value))
            pools.remove(weight.path)  # it is pooled once
    _ending(part, members, body, flow, last)
    part.forward = body.done()
    return value


def _ending(
    part: ModulePart, members: list[ModulePart], body: Body, flow: Flow, last: bool
) -> None:
    if not last or part.path or not members or not members[-1].is_weight:
        return
    word = final_word(members[-1], flow)
    if word != "none":
        flow.symbols["final"] = ACTIVATIONS[word]
        part.extras["final"] = ("final", {})
        body.call("self.final")


def _read_out(
    body: Body, value: Value | None, member: ModulePart, final: bool, flow: Flow
) -> Value | None:
    """A sequence as a head reads it: its last step, its mean, or all of it."""
    if value is None or value.kind != SEQUENCE or not flow.tags:
        return value
    first = entry(member)
    if "recurrent" not in flow.tags or first is None or first.kind != "Linear":
        return value
    flow.tags.remove("recurrent")
    many = first.outs > 200 and "tokens" in flow.tags
    usual = "none" if many else "last"
    reason = "it gives words again" if many else "a classifier reads the last step"
    word = flow.asked.value("readout", usual, reason, ("last", "mean", "none"))
    if word == "none":
        return value
    body.step("x = x[:, -1]" if word == "last" else "x = x.mean(dim=1)")
    return Value(VECTOR, value.width)


def _run(
    part: ModulePart, member: ModulePart, value: Value, body: Body, final: bool, flow: Flow
) -> Value | None:
    name = attribute(member.name)
    if member.kind in ("Sequential", "ModuleList") and (
        member.kind == "ModuleList" or _is_bare_list(member, flow)
    ):
        return _looped(part, member, value, body, final, flow)
    given = flow.explain(member, value, final)
    if given is None:
        return None
    if member.kind in RECURRENT:
        flow.tags.append("recurrent")
        body.flush()
        body.lines.append(f"x, _ = {name}(x)")
    elif member.kind == "Embedding":
        flow.tags.append("tokens")
        body.call(name)
    else:
        body.call(name)
    return given


def _looped(
    part: ModulePart, member: ModulePart, value: Value, body: Body, final: bool, flow: Flow
) -> Value | None:
    """A ModuleList whose modules feed one another."""
    members = list(member.children.values())
    bare = all(child.is_weight for child in members)
    for at, child in enumerate(members):
        given = flow.explain(child, value, final and at == len(members) - 1)
        if given is None:
            return None
        value = given
    member.kind = "ModuleList"
    name = attribute(member.name)
    inner = f"{flow.activate(part)}(layer(x))" if bare else "layer(x)"
    every = f"{name}[:-1]" if bare and final else name
    body.step(f"for layer in {every}:")
    body.lines.append(f"    x = {inner}")
    if bare and final:
        body.call(f"{name}[-1]")
    return value
