"""In which order layers in a row run, and what stands between two of them."""

from __future__ import annotations

from itertools import pairwise

from archfind.sourcing.flow import Flow
from archfind.sourcing.parts import RECURRENT, ModulePart
from archfind.sourcing.values import is_activation

LATENT = ("latent", "mu", "mean", "logvar", "var", "embedding", "code", "bottleneck")


def belongs(following: ModulePart | None) -> bool:
    """Whether a module goes with the layer before it: a norm, or an activation."""
    if following is None:
        return False
    return following.is_norm or following.kind == "PReLU" or is_activation(following.kind)


def in_order(members: list[ModulePart]) -> list[ModulePart]:
    """Layers in the order in which their widths chain, where there is one such order alone and that
    of registration is none: an output that was registered first."""
    plain = [member.is_weight and member.ins != member.outs for member in members]
    if len(members) < 3 or not all(plain):
        return members
    if all(a.outs == b.ins or a.is_conv != b.is_conv for a, b in pairwise(members)):
        return members
    by_input = {member.ins: member for member in members}
    starts = [m for m in members if all(m.ins != other.outs for other in members)]
    if len(by_input) != len(members) or len(starts) != 1:
        return members
    order = [starts[0]]
    while order[-1].outs in by_input and len(order) <= len(members):
        order.append(by_input[order[-1].outs])
    return order if len(order) == len(members) else members


def wants_activation(
    member: ModulePart,
    before: list[ModulePart],
    following: ModulePart | None,
    final: bool,
    flow: Flow,
) -> bool:
    """Whether a function stands between a layer and what follows it."""
    if following is not None and (following.is_norm or is_activation(following.kind)):
        return False
    if following is not None and following.kind == "PReLU":
        return False
    if final:
        return False
    ends = member.is_weight or (member.is_norm and bool(before) and before[-1].is_weight)
    code = member.kind == "Linear" and any(w == member.name.lower() for w in LATENT)
    follows_rnn = following is not None and following.kind in RECURRENT
    if not ends or code or (follows_rnn and member.kind == "Embedding"):
        return False
    usual = "none" if member.is_conv and _is_bare_body(following) else "activation"
    both = ("activation", "none")
    return flow.asked.value(f"{member.path}.activation", usual, "more follows", both) != "none"


def _is_bare_body(following: ModulePart | None) -> bool:
    """Whether residual blocks without norms follow: what they add to is no activation's output."""
    if following is None or following.kind != "Sequential":
        return False
    blocks = all(child.is_block for child in following.children.values())
    return blocks and not any(part.is_norm for part in following.walk())
