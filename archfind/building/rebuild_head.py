"""A library's module with the head that a file has: `Head` -> nn.Module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from archfind.errors import BuildError
from archfind.types import Head, HeadLayer

Outputs = torch.Tensor | dict[str, torch.Tensor] | list[torch.Tensor] | tuple[torch.Tensor, ...]


def rebuilt(module: nn.Module, head: Head) -> nn.Module:
    """`module` with the head in the place of its own; or, where the head has names of its own, a
    module whose state dict has both. Several outputs are a dict by name."""
    if head.replaces and (head.beside or not head.layers):
        _put(module, head.replaces, nn.Identity())
    if not head.layers:
        return module
    if head.beside:
        return _beside(module, head)
    if head.start:
        _continue(module, head)
    else:
        _put(module, head.replaces, _in_place(head))
    return module


class _Steps(nn.Module):
    """Layers run in the order of `plan_of_head`: (branch, path of the layer)."""

    plan_of_head: tuple[tuple[str, str], ...] = ()
    outputs_of_head = "dict"

    def forward(self, x: torch.Tensor) -> Outputs:
        return _run(self, x)


class _Beside(nn.Module):
    """A network at `backbone_at`, and layers under other names that run on what it gives."""

    plan_of_head: tuple[tuple[str, str], ...] = ()
    outputs_of_head = "dict"
    backbone_at: str = ""

    def forward(self, *args: torch.Tensor) -> Outputs:
        return _run(self, _at(self, self.backbone_at)(*args))


def _run(root: Any, x: torch.Tensor) -> Outputs:
    branches: dict[str, torch.Tensor] = {}
    for branch, path in root.plan_of_head:
        value = _at(root, path)(branches.get(branch, x) if branch else x)
        if branch:
            branches[branch] = value
        else:
            x = value
    if not branches:
        return x
    values = list(branches.values())
    outputs = {"tuple": tuple(values), "list": values, "dict": branches}
    return outputs.get(root.outputs_of_head) or torch.cat(values, dim=-1)


def _at(root: nn.Module, path: str) -> nn.Module:
    for name in path.split("."):
        found = _children(root)[name]
        assert found is not None
        root = found
    return root


def _children(root: nn.Module) -> dict[str, nn.Module | None]:
    # getattr would find a method first, where a layer has the name of one
    return root.__dict__["_modules"]


def _put(root: nn.Module, path: str, module: nn.Module) -> None:
    """Set a submodule, with plain modules on the way where there are none."""
    *parents, name = path.split(".")
    for parent in parents:
        inner = _children(root).get(parent)
        if inner is None:  # an empty ModuleDict is false
            inner = _children(root)[parent] = nn.Module()
        root = inner
    root.__dict__.pop(name, None)
    _children(root)[name] = module


def _layer(layer: HeadLayer) -> nn.Module:
    if layer.kind == "Linear":
        return nn.Linear(*map(int, layer.sizes), bias=layer.bias)
    if layer.kind in ("BatchNorm1d", "LayerNorm"):
        return getattr(nn, layer.kind)(int(layer.sizes[0]), eps=layer.eps)
    if layer.kind == "GroupNorm":
        width, groups = map(int, layer.sizes)
        return nn.GroupNorm(groups, width, eps=layer.eps)
    if layer.kind == "L2Norm":
        return _L2Norm()
    if layer.kind in ("Softmax", "LogSoftmax"):
        return getattr(nn, layer.kind)(dim=-1)
    return getattr(nn, layer.kind)(*layer.sizes)


class _L2Norm(nn.Module):
    """Each row divided by its length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x, dim=-1)


def _in_place(head: Head) -> nn.Module:
    """One module for layers that all stand at or below the library's head."""
    layers, base = head.layers, head.replaces
    if len(layers) == 1 and layers[0].name == base:
        return _layer(layers[0])
    whole = None if layers[-1].branch else _sequential(layers, base)
    if whole is not None:
        return whole
    steps = _Steps()
    steps.outputs_of_head = head.outputs
    steps.plan_of_head = _fill(steps, layers, f"{base}.")
    return steps


def _sequential(layers: tuple[HeadLayer, ...], base: str) -> nn.Sequential | None:
    """The layers as a Sequential, where their names are its numbers, all of them in order."""
    names = [f"{base}.{n}" for n in range(len(layers))]
    if [layer.name for layer in layers] != names:
        return None
    return nn.Sequential(*map(_layer, layers))


def _fill(
    root: nn.Module, layers: tuple[HeadLayer, ...], prefix: str
) -> tuple[tuple[str, str], ...]:
    """Put the layers into `root` under their names less `prefix`; the way through them. Neighbours
    that make up a Sequential become one."""
    plan: list[tuple[str, str]] = []
    at = 0
    while at < len(layers):
        first = layers[at]
        parent = first.name.rpartition(".")[0]
        end = at + 1
        while end < len(layers) and layers[end].branch == first.branch:
            if layers[end].name.rpartition(".")[0] != parent:
                break
            end += 1
        # The parent may be `root` itself, or hold other branches: then it is only a place.
        below = sum(layer.name.startswith(f"{parent}.") for layer in layers)
        inner = parent and len(parent) >= len(prefix) and below == end - at
        whole = _sequential(layers[at:end], parent) if inner else None
        if whole is not None:
            _put(root, parent[len(prefix) :], whole)
            plan.append((first.branch, parent[len(prefix) :]))
            at = end
            continue
        if not first.name and first.kind == "Identity":
            at += 1
            continue
        taken = {layer.name[len(prefix) :].partition(".")[0] for layer in layers}
        path = first.name[len(prefix) :] or _unnamed(first.kind, taken | {*_children(root)})
        _put(root, path, _layer(first))
        plan.append((first.branch, path))
        at += 1
    return tuple(plan)


def _unnamed(kind: str, taken: set[str]) -> str:
    """A name for a function that the file has none for, as it has no tensors."""
    number = 1
    while f"{kind.lower()}{number}" in taken:
        number += 1
    return f"{kind.lower()}{number}"


def _continue(module: nn.Module, head: Head) -> None:
    """Replace the end of the library's own Sequential."""
    row = _at(module, head.replaces)
    if not isinstance(row, nn.Sequential) or len(row) != head.start + 1:
        raise BuildError(f"{head.replaces} isn't a Sequential that ends with the head")
    for layer in head.layers:
        row.add_module(layer.name.rpartition(".")[2], _layer(layer))


def _beside(module: nn.Module, head: Head) -> nn.Module:
    if head.backbone:
        whole = _Beside()
        whole.backbone_at = head.backbone
        _put(whole, head.backbone, module)
    else:
        # One level for both: the network itself, of a class that goes on with the new layers.
        own = type(module)
        whole = module
        whole.__class__ = type(own.__name__, (_Continued, own), {})
    whole.__dict__["outputs_of_head"] = head.outputs
    whole.__dict__["plan_of_head"] = _fill(whole, head.layers, "")
    # Sizes and normalisation of the pictures are those of the network inside.
    config = getattr(module, "pretrained_cfg", None)
    if config is not None:
        whole.pretrained_cfg = config
    return whole


class _Continued:
    """Mixed into a network's class: its outputs go through `plan_of_head`."""

    def forward(self, *args: torch.Tensor) -> Outputs:
        return _run(self, super().forward(*args))  # pyright: ignore
