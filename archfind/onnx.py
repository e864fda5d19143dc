"""To ONNX from what people have: a bare state dict, or a file with nothing but weights.

    archfind.onnx.export("001.pth", "001.onnx", opset_version=18)
    archfind.onnx.export(torch.load("001.pth"), "001.onnx")

`torch.onnx.export` wants a module and example inputs; here both are found.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import archfind
from archfind import exporters
from archfind.errors import ExportError
from archfind.formats.escape import escape
from archfind.types import Built, Checkpoint, Exported, Guess

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
    if isinstance(source, nn.Module):
        raise ExportError("is a module already: torch.onnx.export takes it", str(out))
    if isinstance(source, Mapping):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state_dict.pth"
            torch.save(_tensors(source, str(out)), path)
            built = archfind.build(
                path,
                choose=choose,
                part=part,
                settings=settings,
                accept_ambiguous=accept_ambiguous,
                allow_expansion=allow_expansion,
            )
            return _export(built, out, force, keep_unchecked, torch_onnx_kwargs)
    if not isinstance(source, Built):
        source = archfind.build(
            source,
            choose=choose,
            part=part,
            settings=settings,
            accept_ambiguous=accept_ambiguous,
            allow_expansion=allow_expansion,
        )
    return _export(source, out, force, keep_unchecked, torch_onnx_kwargs)


def _export(
    built: Built,
    out: str | os.PathLike[str],
    force: bool,
    keep_unchecked: bool,
    given: Mapping[str, Any],
) -> Exported:
    if Path(os.fspath(out)).suffix.lower() != ".onnx":
        raise ExportError("archfind.onnx.export writes .onnx", escape(str(out)))
    options = dict(given)
    opset = options.pop("opset_version", None)
    return exporters.export(
        built, out, force=force, opset=opset, keep_unchecked=keep_unchecked, options=options
    )


def _tensors(state: Mapping[str, Any], out: str) -> dict[str, Any]:
    """A state dict, wrapped or not, with nothing in it that torch would have to unpickle."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, Mapping):
            found[str(key)] = _tensors(value, out)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, Tensor):
            found[str(key)] = value.detach().cpu()
    if not found:
        raise ExportError("the state dict holds no tensors", escape(out))
    return found
