"""What a head's outputs depend on without a trace in the tensors, and how a setting tells it.

Functions between layers, what comes before the first and after the last, a norm's kind and epsilon,
the way through layers that stand in no Sequential, and how several outputs are returned. A lone
Linear in the library's own place takes what the library's own takes: nothing is assumed about it.
This module is on the cold path of `archfind guess`.
"""

from __future__ import annotations

from archfind.frozen import replace
from archfind.matching.head_functions import (
    AFTER,
    BEFORE,
    BETWEEN,
    function_setting,
    parsed_function,
)
from archfind.state_dicts.key_names import number_in_key
from archfind.types import Assumed, HeadLayer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from archfind.types import Head

    Layers = tuple[HeadLayer, ...]

_EPS = (1e-6, 1e-3, 1e-12)
_OUTPUTS = ("dict", "tuple", "list", "concatenated")
_NORMS = ("BatchNorm1d", "LayerNorm", "GroupNorm")


def assumed_of_head(head: Head) -> tuple[Assumed, ...]:
    """Everything about a head that nothing shows."""
    return tuple(_assumed(head))


def head_as_told(head: Head, place: str, value: object) -> Head | None:
    """The head with what a setting tells; None where no such place is, or no such function."""
    layers = list(head.layers)
    for at, layer in enumerate(layers):
        if layer.assumed and place == _place(head.layers, at):
            made = parsed_function(value)
            if made is None:
                return None
            layers[at] = replace(layer, kind=made[0], sizes=made[1])
            return replace(head, layers=tuple(layers))
        if layer.kind in _NORMS and place == f"{layer.name}.eps":
            if not isinstance(value, int | float):
                return None
            layers[at] = replace(layer, eps=float(value))
            return replace(head, layers=tuple(layers))
        if layer.kind in _NORMS[1:] and place == layer.name:
            layers[at] = norm = _norm(layer, str(value))
            return replace(head, layers=tuple(layers)) if norm is not layer else None
    if place == "outputs" and value in _OUTPUTS:
        return replace(head, outputs=str(value))
    return head if any((place, value) == (one.place, one.value) for one in _assumed(head)) else None


def _norm(layer: HeadLayer, value: str) -> HeadLayer:
    """The norm that a setting names: layer_norm, or group_norm(8); the layer itself for others."""
    name, _, rest = value.replace("_", "").lower().partition("(")
    width = layer.sizes[0]
    if name == "layernorm":
        return replace(layer, kind="LayerNorm", sizes=(width,))
    groups = number_in_key(rest.rstrip(")"))
    if name == "groupnorm" and groups > 0 and width % groups == 0:
        return replace(layer, kind="GroupNorm", sizes=(width, groups))
    return layer


def _assumed(head: Head) -> Iterator[Assumed]:
    layers = head.layers
    if not layers:
        yield Assumed(head.replaces, "what stands in the place of the head", "identity")
        return
    seen = [layer for layer in layers if not layer.assumed]
    if len(seen) == len(layers) == 1 and not head.beside:
        return
    if head.beside and not head.backbone.rpartition(".")[2].isdecimal():
        of = head.backbone or "the network"
        yield Assumed("features", f"what {seen[0].name} takes of {of}", "pooled")
    yield from _functions(layers)
    for layer in seen:
        if layer.kind in _NORMS[1:]:
            groups = (n for n in (32, 8, 1) if layer.sizes[0] % n == 0)
            others = tuple(f"group_norm({n})" for n in groups)
            yield Assumed(layer.name, f"norm at {layer.name}", "layer_norm", others)
        if layer.kind in _NORMS:
            others = tuple(eps for eps in _EPS if eps != layer.eps)
            yield Assumed(f"{layer.name}.eps", f"eps of {layer.name}", layer.eps, others)
    branches = dict.fromkeys(layer.branch for layer in seen)
    rows = [[one.name for one in seen if one.branch == branch] for branch in branches]
    names = [name for row in rows if not _is_sequential(row, head) for name in row]
    if names:
        where = f"{head.replaces}.wiring" if not head.beside and head.replaces else "wiring"
        yield Assumed(where, f"the way through {', '.join(names)}", "in_a_row")
    if any(branches):
        text = f"what {', '.join(filter(None, branches))} are returned as"
        others = tuple(kind for kind in _OUTPUTS if kind != head.outputs)
        yield Assumed("outputs", text, head.outputs, others)


def _is_sequential(names: list[str], head: Head) -> bool:
    """Whether layers are numbered in one Sequential, or a lone one that a backbone goes into."""
    parents = {name.rpartition(".")[0] for name in names}
    numbers = all(name.rpartition(".")[2].isdecimal() for name in names)
    return (len(parents) == 1 and numbers) or (len(names) == 1 and head.beside)


def _functions(layers: Layers) -> Iterator[Assumed]:
    """Every place without tensors: neighbours that may be an activation and a Dropout are one."""
    for at, layer in enumerate(layers):
        if not layer.assumed or (
            at and layers[at - 1].assumed and layers[at - 1].branch == layer.branch
        ):
            continue
        earlier = [one for one in layers[:at] if one.branch in ("", layer.branch)]
        later = [one for one in layers[at:] if one.branch == layer.branch and not one.assumed]
        after = [one for one in layers[at:] if not layer.branch and one.branch and not one.assumed]
        before = next((one.name for one in reversed(earlier) if not one.assumed), "")
        if not later and not after:
            usual, where = AFTER, f"after {before}, the last layer"
        elif before and any(one.kind == "Linear" for one in earlier):
            usual, where = BETWEEN, f"after {before}"
        else:
            usual, where = BEFORE, f"before {later[0].name if later else after[0].name}"
        own = function_setting(layer)
        others = tuple(name for name in usual if name not in (own, own.partition("(")[0]))
        kind = "activation" if layer.kind not in ("Identity", "Dropout") else "function"
        yield Assumed(_place(layers, at), f"{kind} {where}", own, others)


def _place(layers: Layers, at: int) -> str:
    """What a setting calls a place without tensors: its number in a Sequential, or that it comes
    after another layer."""
    if layers[at].name:
        return layers[at].name
    return next((f"{one.name}.after" for one in reversed(layers[:at]) if not one.assumed), "after")
