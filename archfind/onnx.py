"""To ONNX from what people have: a bare state dict, or a file with nothing but weights.

    archfind.onnx.export("001.pth", "001.onnx", opset_version=18)
    archfind.onnx.export(torch.load("001.pth"), "001.onnx")

`torch.onnx.export` wants a module and example inputs; here both are found.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from archfind import pipeline
from archfind.errors import ExportError
from archfind.escape import escape
from archfind.types import Built, Checkpoint, Choice, Exported, Guess
from archfind.writing import beside, target

# torch's arguments that archfind sets by itself, from the network
_OWN = ("f", "model", "verbose", "input_names", "output_names", "optimize")


def export(
    source: str | os.PathLike[str] | Checkpoint | Guess | Built | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    choose: str = "",
    part: str = "",
    settings: Mapping[str, object] | None = None,
    accept_ambiguous: bool = False,
    force: bool = False,
    keep_unchecked: bool = False,
    allow_expansion: bool = False,
    **torch_onnx_kwargs: Any,
) -> Exported:
    """Find the network of `source`, a file or a state dict, and export it to `out`, checked.

    `torch_onnx_kwargs` are those of `torch.onnx.export`: `args` replaces the example inputs,
    `opset_version` and `dynamo` choose, the others are passed on. Raises ExportError for one that
    can't be passed on, else as `archfind.export`.
    """
    refused = [name for name in torch_onnx_kwargs if name in _OWN]
    if refused:
        raise ExportError(f"{refused[0]} is set from the network, it can't be given", str(out))
    if os.path.splitext(os.fspath(out))[1].lower() != ".onnx":
        raise ExportError("archfind.onnx.export writes .onnx", escape(str(out)))
    options = dict(torch_onnx_kwargs)
    opset = options.pop("opset_version", None)
    files = isinstance(source, str | os.PathLike | Checkpoint | Guess | Built)
    target.refuse_onnx(out, target.sources_of(source) if files else (), force, opset)
    import torch

    if isinstance(source, torch.nn.Module):
        raise ExportError("is a module already: torch.onnx.export takes it", str(out))
    choice = Choice(choose, part, settings or {}, accept_ambiguous, accept_ambiguous)
    more: dict[str, Any] = {
        "force": force,
        "opset": opset,
        "keep_unchecked": keep_unchecked,
        "options": options,
    }
    with contextlib.ExitStack() as stack:
        if isinstance(source, Mapping):
            path = stack.enter_context(beside.scratch()) / "state_dict.pth"
            torch.save(_tensors(source, str(out)), path)
            source = path
        if not isinstance(source, Built):
            source = pipeline.build(source, choice, allow_expansion=allow_expansion)
        from archfind import exporters

        return exporters.export(source, out, **more)


def _tensors(state: Mapping[str, Any], out: str) -> dict[str, Any]:
    """A state dict, wrapped or not, with nothing in it that torch would have to unpickle."""
    from torch import Tensor

    found: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, Mapping):
            found[str(key)] = _tensors(value, out)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, Tensor):
            found[str(key)] = value.detach().cpu()
    if not found:
        raise ExportError("the state dict holds no tensors", escape(out))
    return found
