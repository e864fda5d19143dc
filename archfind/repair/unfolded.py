"""BatchNorms that were folded into the layers before them, as fusing for inference does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from archfind.repair.edits import Edit
from archfind.repair.work import RepairWork

Norm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
_PARTS = ("weight", "bias", "running_mean", "running_var")


def unfolded(work: RepairWork, module: nn.Module, inputs: Callable[[], Sequence[object]]) -> None:
    """Append an edit for each norm that the file lacks where it has a bias that the layer before it
    in the network hasn't: the norm then multiplies by one and adds that bias. `module` is on meta;
    `inputs` are asked for only where norms are missing."""
    norms = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, Norm)
        and all(f"{name}.{part}" in work.want for part in _PARTS)
        and not any(f"{name}.{part}" in work.have for part in _PARTS)
    }
    if not norms or not any(key.endswith(".bias") for key in work.extra()):
        return
    for norm, before in _followed(module, norms, inputs).items():
        bias = f"{before}.bias"
        shape = work.want[f"{norm}.bias"].shape
        if bias not in work.have or bias in work.want or work.have[bias].shape != shape:
            continue
        to = tuple(f"{norm}.{part}" for part in _PARTS)
        options = {"how": "batch_norm", "eps": norms[norm].eps}
        note = f"folded into {before}; its statistics start anew"
        work.become(Edit("split", (bias,), to, options, note=note), dict.fromkeys(to, shape))


def _on_meta(value: object) -> object:
    if isinstance(value, list):
        return [_on_meta(one) for one in value]
    return value.to("meta") if isinstance(value, Tensor) else value


def _followed(
    module: nn.Module,
    norms: dict[str, Norm],
    inputs: Callable[[], Sequence[object]],
) -> dict[str, str]:
    """The layer whose output each norm gets, by a run on meta; none where it doesn't run there."""
    made: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept so that no other has its id
    found: dict[str, str] = {}
    hooks: list[torch.utils.hooks.RemovableHandle] = []

    def layer(name: str) -> object:
        def after(_: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                made[id(output)] = name, output

        return after

    def norm(name: str) -> object:
        def before(_: nn.Module, inputs: tuple[object, ...]) -> None:
            if inputs and id(inputs[0]) in made:
                found[name] = made[id(inputs[0])][0]

        return before

    for name, one in module.named_modules():
        if name in norms:
            hooks.append(one.register_forward_pre_hook(norm(name)))  # pyright: ignore
        elif isinstance(getattr(one, "weight", None), Tensor) and not list(one.children()):
            hooks.append(one.register_forward_hook(layer(name)))  # pyright: ignore
    try:
        with torch.no_grad():
            module.eval()(*(_on_meta(one) for one in inputs()))
    except Exception:  # a network may do on meta what only works with values
        return {}
    finally:
        for hook in hooks:
            hook.remove()
    return found
